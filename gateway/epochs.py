"""Epochs: which life of a channel's stream a position belongs to.

    GENERATION.TIME   a stream: what it was kept by (see generation.py), and when its first publication came
    GENERATION-TIME   a channel that nothing was published to when somebody looked; nothing is kept of it

Times are Unix milliseconds of the server that keeps the streams. A subscriber that comes before the first publication
gets an epoch of the second kind, and goes by it for as long as its subscription lives: many SDKs take an epoch only
from the reply to a subscribe. So one has to tell whether a stream is what the channel that it knows has become.
"""

import re

_UNUSED = re.compile(r"([^-.]{1,32})-([0-9]{1,15})")
_ANY = re.compile(r"([^-.]{1,32})[-.]([0-9]{1,15})")


def unused(generation: str, time: int) -> str:
    """Of a channel that nothing was published to; `time` in Unix milliseconds."""
    return f"{generation}-{time}"


def begun(generation: str, time: int) -> str:
    """Of a stream whose first publication came at `time`, Unix milliseconds."""
    return f"{generation}.{time}"


def continues(older: str, newer: str, meta_ttl: int) -> bool:
    """Whether positions of `older` are positions of `newer`. An empty epoch stands for any.

    Between an unused channel and a stream that began `meta_ttl` seconds later at most there was no other stream: its
    position would still be known. epochs.lua says the same.
    """
    if older in ("", newer):
        return True
    before, after = _UNUSED.fullmatch(older), _ANY.fullmatch(newer)
    if before is None or after is None or before[1] != after[1]:
        return False
    return 0 <= int(after[2]) - int(before[2]) < meta_ttl * 1000
