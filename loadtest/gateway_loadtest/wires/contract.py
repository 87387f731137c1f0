"""What every wire protocol offers to the generator: one object a connection, bytes in and out, no I/O."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

# Bytes of a message: more than any server sends, and less than a machine has.
LARGEST = 64 * 2**20


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


class Closing(NamedTuple):
    """The server ends the connection, and says why in a message: over HTTP there is no close frame."""

    code: int
    reason: str


Event = Opened | Subscribed | Unsubscribed | Foreign | Acknowledged | Answer | Failed | Closing


class Request(NamedTuple):
    """Of HTTP."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class Wire(Protocol):
    """One connection's side of a protocol. It outlives the connection."""

    # Whether publishes are answered; where they are not, what was sent counts as accepted.
    acknowledges: bool
    # Whether subscriptions are answered; where they are not, they stand soon after the connection does.
    confirms: bool

    def url(self, target: str, channels: Sequence[str]) -> str:
        """Where to connect for these channels; `target` is what the user gave."""

    def subscribe(self, channel: str) -> Sequence[bytes]:
        """What asks for a subscription, from where the connection stood before if it can."""

    def publish(self, channel: str, payload: str, number: int) -> bytes:
        """What publishes a text without quotes, backslashes and control characters; `number` > 0 names the answer."""

    def received(self, frame: bytes) -> Sequence[Event]:
        """What a frame says, publications left out: those are found by their marks. Raises ValueError for nonsense."""


class WebSocketWire(Wire, Protocol):
    """One that goes over a WebSocket: frames both ways."""

    # Whether frames are sent as binary.
    binary: bool

    def opening(self) -> Sequence[bytes]:
        """What to send when the WebSocket is open; the protocol begins anew. Nothing: it is open with that."""


@runtime_checkable
class HttpWire(Wire, Protocol):
    """One that goes over HTTP: what comes is the body of a response that does not end, what is sent goes in requests of
    their own."""

    def stream(self, target: str, channels: Sequence[str]) -> Request:
        """The request whose response brings everything; the protocol begins anew. `Opened` follows."""

    def cut(self, piece: bytes) -> bytes:
        """The whole messages up to the end of this piece of the body, as `received` takes them; empty if there is none.

        Raises ValueError for a message of more than LARGEST bytes.
        """

    def command(self, target: str, frames: Sequence[bytes]) -> Request:
        """The request that carries these frames."""
