"""Epochs: which life of a channel's stream a position belongs to.

    GENERATION.TIME   a stream: the generation of its server (see generation.py), and the time of its first publication
    GENERATION-TIME   a channel that was never published to, and the time of the read; nothing of it is stored

Times are Unix milliseconds of the server that keeps the streams. A client that subscribes before the first publication
gets an epoch of the second kind and uses it as long as its subscription lives, because many SDKs take an epoch only
from the reply to a subscribe. `continues` tells whether a stream is the continuation of such a channel.
"""

import re

_UNUSED = re.compile(r"([^-.]{1,32})-([0-9]{1,15})")
_ANY = re.compile(r"([^-.]{1,32})[-.]([0-9]{1,15})")


def unused(generation: str, time: int) -> str:
    """The epoch of a channel that was never published to; `time` in Unix milliseconds."""
    return f"{generation}-{time}"


def begun(generation: str, time: int) -> str:
    """The epoch of a stream whose first publication came at `time`, Unix milliseconds."""
    return f"{generation}.{time}"


def continues(older: str, newer: str, meta_ttl: int) -> bool:
    """Whether positions of `older` are also valid in `newer`. An empty epoch matches any.

    If a stream began at most `meta_ttl` seconds after the channel was seen unused, there was no other stream in
    between: its position would still be known. epochs.lua has the same rule.
    """
    if older in ("", newer):
        return True
    before, after = _UNUSED.fullmatch(older), _ANY.fullmatch(newer)
    if before is None or after is None or before[1] != after[1]:
        return False
    return 0 <= int(after[2]) - int(before[2]) < meta_ttl * 1000
