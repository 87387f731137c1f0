"""A wire protocol in one framing: what the members of a delivery group have in common."""

from collections.abc import Callable, Sequence

from gateway.messages import Event
from gateway.protocols.base import Message, WireProtocol

# Messages to the bytes that are written to the socket.
Framing = Callable[[Sequence[Message]], bytes]


class Encoder:
    """Encodes and frames once for all connections of its kind. Compared by identity: it names a delivery group."""

    __slots__ = ("frame", "ping_frame", "pinged_by_transport", "protocol")

    def __init__(self, protocol: WireProtocol, frame: Framing, transport_ping: bytes) -> None:
        """`transport_ping` stands in where the protocol has no ping of its own (a WebSocket ping frame)."""
        self.protocol = protocol
        self.frame = frame
        ping = frame(protocol.ping())
        self.pinged_by_transport = not ping
        self.ping_frame = ping or transport_ping

    def events(self, events: Sequence[Event]) -> bytes:
        """Events of one channel, in order, as one block of bytes."""
        return self.frame(self.protocol.events(events))
