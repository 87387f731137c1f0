"""A wire protocol in one framing: what the members of a delivery group have in common."""

from collections.abc import Callable, Sequence

from gateway.messages import Event, Publication
from gateway.protocols.base import DIFFERENCE_BYTES, DeltaProtocol, Message, WireProtocol

# What may be encoded in the time of one write, a few microseconds: events as they are, and bytes of differences.
EVENTS_PER_WRITE = 4
DIFFERENCE_PER_WRITE = 32

# Messages to the bytes that are written to the socket.
Framing = Callable[[Sequence[Message]], bytes]


class Encoder:
    """Encodes and frames once for all connections of its kind. Compared by identity: it names a delivery group."""

    __slots__ = ("delta", "frame", "ping_frame", "pinged_by_transport", "protocol")

    def __init__(self, protocol: WireProtocol, frame: Framing, transport_ping: bytes) -> None:
        """`transport_ping` stands in where the protocol has no ping of its own (a WebSocket ping frame)."""
        self.protocol = protocol
        self.frame = frame
        # The same, for subscriptions that get differences; None where the protocol has none.
        self.delta: DeltaEncoder | None = None
        ping = frame(protocol.ping())
        self.pinged_by_transport = not ping
        self.ping_frame = ping or transport_ping

    def events(self, events: Sequence[Event]) -> bytes:
        """Events of one channel, in order, as one block of bytes."""
        return self.frame(self.protocol.events(events))

    def cost(self, events: Sequence[Event]) -> int:
        """As many writes take as long as encoding these."""
        return len(events) // EVENTS_PER_WRITE


class DeltaEncoder(Encoder):
    """Writes a publication as its difference from the one before; the first one whole."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: DeltaProtocol, frame: Framing, transport_ping: bytes) -> None:
        super().__init__(protocol, frame, transport_ping)
        self._protocol = protocol

    def events(self, events: Sequence[Event]) -> bytes:
        return self.after(None, events)

    def cost(self, events: Sequence[Event]) -> int:
        compared = min(sum(len(event.data) for event in events), DIFFERENCE_BYTES)
        return super().cost(events) + compared // DIFFERENCE_PER_WRITE

    def after(self, base: Publication | None, events: Sequence[Event]) -> bytes:
        """Events for those who got `base` last; None for those who got nothing yet."""
        return self.frame(self._protocol.events_after(base, events))
