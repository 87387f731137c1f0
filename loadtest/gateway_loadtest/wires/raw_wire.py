"""One channel a connection, and nothing around the messages: the gateway's plain protocol, Nchan, small servers."""

from collections.abc import Sequence
from typing import Literal
from urllib.parse import quote

from gateway_loadtest.wires.contract import Event

Role = Literal["sub", "pub"]
# Where a connection without a channel goes.
NO_CHANNEL = "idle"


class Raw:
    """As in Wire. Subscribed as soon as it is open; what it sends is published, what it receives are publications."""

    __slots__ = ("_role",)

    acknowledges = False
    confirms = False
    binary = False

    def __init__(self, role: Role = "sub") -> None:
        """`role` fills `{role}` in a target, for servers whose publishers need not receive what they publish."""
        self._role = role

    def url(self, target: str, channels: Sequence[str]) -> str:
        channel = channels[0] if channels else NO_CHANNEL
        return target.replace("{role}", self._role).replace("{channel}", quote(channel, safe=""))

    def opening(self) -> Sequence[bytes]:
        return ()

    def subscribe(self, channel: str) -> Sequence[bytes]:
        return ()

    def publish(self, channel: str, payload: str, number: int) -> bytes:
        return payload.encode()

    def received(self, frame: bytes) -> Sequence[Event]:
        return ()
