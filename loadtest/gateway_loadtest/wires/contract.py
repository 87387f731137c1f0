"""What every wire protocol offers to the generator: one object a connection, bytes in and out, no I/O."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Opened(NamedTuple):
    """The handshake is done: subscribe and publish may follow."""

    # Of the server, where the protocol tells it.
    version: str = ""


class Subscribed(NamedTuple):
    """A subscription stands."""

    channel: str
    # None when nothing was to be recovered; else whether all that was missed has come or will come.
    recovered: bool | None = None


class Unsubscribed(NamedTuple):
    """The server ended a subscription; it may be asked for again."""

    channel: str
    reason: str


class Foreign(NamedTuple):
    """A publication of a channel that was not asked for, as the frame says."""

    channel: str
    push: bytes


class Acknowledged(NamedTuple):
    """The answer to a publish; `error` is empty when it was accepted."""

    number: int
    error: str = ""


class Answer(NamedTuple):
    """To be sent back at once (a pong)."""

    frame: bytes


class Failed(NamedTuple):
    """The server refuses something for good; the connection is of no use."""

    reason: str


Event = Opened | Subscribed | Unsubscribed | Foreign | Acknowledged | Answer | Failed


class Wire(Protocol):
    """One connection's side of a protocol. It outlives the connection: after a loss `opening` begins anew."""

    # Whether publishes are answered; where they are not, what was sent counts as accepted.
    acknowledges: bool
    # Whether frames are sent as binary.
    binary: bool

    def url(self, target: str, channels: Sequence[str]) -> str:
        """Where to connect for these channels; `target` is what the user gave."""

    def opening(self) -> Sequence[bytes]:
        """What to send when the WebSocket is open."""

    def subscribe(self, channel: str) -> Sequence[bytes]:
        """What asks for a subscription, from where the connection stood before if it can."""

    def publish(self, channel: str, payload: str, number: int) -> bytes:
        """What publishes a text without quotes, backslashes and control characters; `number` > 0 names the answer."""

    def received(self, frame: bytes) -> Sequence[Event]:
        """What a frame says, publications left out: those are found by their marks. Raises ValueError for nonsense."""
