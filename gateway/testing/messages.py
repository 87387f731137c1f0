"""What clients get."""

from typing import Any

import msgspec


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a channel."""

    channel: str
    data: Any
    # The user who published it; empty for a backend and for an anonymous client.
    user: str = ""
    # What the token, or the connect hook, says of that user.
    info: Any = None
    tags: dict[str, str] = {}
    # Its number in a channel with history.
    offset: int = 0


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The reply to a subscribe."""

    # What a hook, or the server, sends with it.
    data: Any = None
    # Whether all that was missed has come, and counts as the next publications; None if the client did not ask.
    recovered: bool | None = None
