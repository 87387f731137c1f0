"""A wire protocol in one framing: what the members of a delivery group have in common."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from gateway.errors import CloseCode
from gateway.messages import Event, Publication
from gateway.protocols.wire_protocol import (
    DIFFERENCE_BYTES,
    Codec,
    DeltaProtocol,
    Heartbeat,
    Message,
    StandingProtocol,
    WireProtocol,
)

# What can be encoded in the time of one write, a few microseconds: whole events, and bytes compared for deltas.
EVENTS_PER_WRITE = 4
DIFFERENCE_PER_WRITE = 32
# RFC 6455 section 7.4.1: a normal closure.
MOVED = CloseCode(1000, "moved")


class Framing(Protocol):
    """How messages become the bytes of one kind of transport."""

    ping: bytes
    """Checks whether the connection is alive, for protocols without a ping of their own."""

    answers_pings: bool
    """Whether the client answers pings. One that only reads cannot: its socket shows when it is gone."""

    tells_codes: bool
    """Whether the transport itself conveys the close code, so that the protocol need not."""

    def frame(self, messages: Sequence[Message]) -> bytes:
        """Frame the messages, one after another."""

    def close(self, code: CloseCode) -> bytes:
        """The bytes that end the connection."""


@runtime_checkable
class PackingFraming(Framing, Protocol):
    """A framing that can also take the time to make messages smaller. Then messages for many are packed."""

    bytes_per_write: int
    """The bytes packed in the time of one write."""

    def pack(self, messages: Sequence[Message]) -> bytes:
        """As `frame`, in fewer bytes."""


class Encoder:
    """Encodes and frames once for all connections of its kind. Compared by identity: it names a delivery group."""

    __slots__ = (
        "_bytes_per_write",
        "_framing",
        "answers_pings",
        "delta",
        "frame",
        "is_pinged",
        "pack",
        "ping_frame",
        "pinged_by_transport",
        "protocol",
        "single",
        "standing",
    )

    def __init__(self, protocol: WireProtocol, framing: Framing) -> None:
        self.protocol = protocol
        self._framing = framing
        # Bound here, to save a call.
        self.frame = self.pack = framing.frame
        # 0 where messages are not packed.
        self._bytes_per_write = 0
        if isinstance(framing, PackingFraming):
            self.pack = framing.pack
            self._bytes_per_write = framing.bytes_per_write
        # The encoder for subscriptions with deltas; None where the protocol has none.
        self.delta: DeltaEncoder | None = None
        # The encoder for who has a single subscription, of a protocol that tells clients where they stand in all of
        # theirs; `standing` is that protocol. None otherwise.
        self.single: Encoder | None = None
        self.standing: StandingProtocol | None = None
        ping = framing.frame(protocol.ping())
        self.pinged_by_transport = not ping or (protocol.heartbeat is Heartbeat.ONE_WAY and framing.answers_pings)
        self.is_pinged = protocol.heartbeat is not Heartbeat.BELOW
        # Both, if the one shows the client that the server lives, and only the other is answered.
        self.ping_frame = ping + framing.ping if ping and self.pinged_by_transport else ping or framing.ping
        self.answers_pings = framing.answers_pings

    @staticmethod
    def of(protocol: WireProtocol, framing: Framing) -> "Encoder":
        """An encoder, with a delta encoder if the protocol can write deltas."""
        encoder = Encoder(protocol, framing)
        if isinstance(protocol, DeltaProtocol):
            encoder.delta = DeltaEncoder(protocol, framing)
        return encoder

    @staticmethod
    def for_one(protocol: StandingProtocol, framing: Framing, single: "Encoder") -> "Encoder":
        """The encoder of one connection, which has one for `single` subscriptions in common with others."""
        encoder = Encoder(protocol, framing)
        encoder.single, encoder.standing = single, protocol
        return encoder

    def goodbye(self, code: CloseCode, codec: Codec) -> bytes:
        """The bytes that end the connection with this codec."""
        last = codec.goodbye(code, is_told=self._framing.tells_codes)
        return self.frame(last) + self._framing.close(code)

    def parting(self) -> bytes:
        """The bytes that end a transport whose connection moves to another one."""
        return self._framing.close(MOVED)

    def events(self, events: Sequence[Event]) -> bytes:
        """Events of one channel, in order, as one block of bytes."""
        return self.pack(self.protocol.events(events))

    @property
    def packs(self) -> bool:
        """Whether encoding a single event can take as long as many writes."""
        return self._bytes_per_write > 0

    def cost(self, events: Sequence[Event]) -> int:
        """The cost of encoding these events, in writes."""
        packed = _written(events) // self._bytes_per_write if self._bytes_per_write else 0
        return len(events) // EVENTS_PER_WRITE + packed


class DeltaEncoder(Encoder):
    """Writes a publication as its delta from the one before; the first one whole."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: DeltaProtocol, framing: Framing) -> None:
        super().__init__(protocol, framing)
        self._protocol = protocol

    def events(self, events: Sequence[Event]) -> bytes:
        return self.after(None, events)

    def cost(self, events: Sequence[Event]) -> int:
        compared = min(sum(len(event.data) for event in events), DIFFERENCE_BYTES)
        return super().cost(events) + compared // DIFFERENCE_PER_WRITE

    def after(self, base: Publication | None, events: Sequence[Event]) -> bytes:
        """Encode events for subscribers that got `base` last, or (None) nothing yet."""
        return self.pack(self._protocol.events_after(base, events))


def _written(events: Sequence[Event]) -> int:
    """About the bytes that protocols write for these events. Only where messages are packed is it worth to know."""
    size = 0
    for event in events:
        size += len(event.data)
        if (info := event.info) is not None:
            size += len(info.user) + len(info.client) + len(info.conn_info) + len(info.chan_info)
        if type(event) is Publication and (tags := event.tags):
            for name, value in tags.items():
                size += len(name) + len(value)
    return size
