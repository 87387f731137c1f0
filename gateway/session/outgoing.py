"""What goes out to one client: gathered within a turn of the loop, kept while the client is slow."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from gateway.errors import CloseCode
from gateway.hub.encoder import Encoder
from gateway.hub.outbox import Outbox
from gateway.protocols.wire_protocol import Codec, Message
from gateway.session.services import SessionServices
from gateway.session.transport import Transport, Write


class Owner(Protocol):
    """Whose client it is."""

    @property
    def payer(self) -> Hashable:
        """Who answers for what waits, as in Holder."""

    def redirected(self, write: Write) -> None:
        """Deliveries have to go there from now on."""

    def overflowed(self, setting: str) -> None:
        """Too much waits, by this setting: nothing is written any more. It must not close within this call."""

    def fail(self, part: str) -> None:
        """What was said cannot be written: close the connection."""


class Outgoing:
    """Replies, pushes and deliveries on their way, in one order, to a transport that may be exchanged."""

    __slots__ = ("_corked", "_outbox", "_owner", "_services", "encoder", "has_read", "transport", "write")

    transport: Transport
    write: Write
    """Writes blocks of the encoder, in order with what is said. For deliveries, which pull the corks before."""

    def __init__(self, owner: Owner, services: SessionServices[Any], encoder: Encoder) -> None:
        # None once it is closed.
        self._owner: Owner | None = owner
        self._services = services
        self.encoder = encoder
        # What was said in this turn of the loop.
        self._corked: list[Message] | None = None
        self._outbox: Outbox | None = None
        # The client has read something while it was slow, since this was set to False.
        self.has_read = False

    def open(self, transport: Transport) -> None:
        """From now on something can be said."""
        self.transport = transport
        self.write = transport.write

    @property
    def is_congested(self) -> bool:
        """Whether what is written waits for the client to read."""
        return self._outbox is not None

    def say(self, messages: Sequence[Message]) -> None:
        """Write messages (none is fine), in one piece with the others of this turn of the loop."""
        if not messages or self._owner is None:
            return
        if self._corked is None:
            self._corked = []
            self._services.corks.add(self)
        self._corked += messages

    def uncork(self) -> None:
        """Write what was said in this turn of the loop."""
        messages, self._corked = self._corked, None
        if messages is None:
            return
        try:
            batch = messages if len(messages) == 1 else self.encoder.protocol.batch(messages)
            self.write(self.encoder.frame(batch))
        except Exception:
            if self._owner is not None:
                self._owner.fail("write")

    def ping(self) -> None:
        """Ask whether the client is there."""
        self.uncork()
        self.write(self.encoder.ping_frame)
        self.has_read = False

    # Congestion

    def pause(self) -> None:
        """The transport cannot take more."""
        owner = self._owner
        if owner is None or self._outbox is not None:
            return
        self._outbox = self._services.outboxes.open(self._services.limits.outbox, owner.payer, owner.overflowed)
        self._redirect(owner, self._outbox.write)

    def resume(self) -> bool:
        """The transport can take more. Whether all is written that waited."""
        owner = self._owner
        if owner is None or self._outbox is None or self._outbox.overflowed:
            # After an overflow nothing is written: it would stand behind a hole, until this closes.
            return False
        waiting = self._outbox.take()
        self._drop_outbox()
        self._redirect(owner, self.transport.write)
        if waiting:
            # May pause again at once, and then whatever comes next queues behind this block.
            self.transport.write(waiting)
        self.has_read = True
        return not self.is_congested

    def exchange(self, transport: Transport, encoder: Encoder) -> tuple[Transport, bytes]:
        """Go on over another transport; the one before, and what ends it. Only when nothing waits."""
        before, parting = self.transport, self.encoder.parting()
        self.encoder = encoder
        self.open(transport)
        return before, parting

    # The end

    def drop(self) -> None:
        """Forget what is not written: nothing is said any more."""
        self._owner = None
        self._corked = None
        self._drop_outbox()

    def close(self, code: CloseCode, codec: Codec) -> None:
        """Say goodbye behind all that was written."""
        try:
            goodbye = self.encoder.goodbye(code, codec)
        except Exception:
            # The connection must not stay open for want of words.
            self._services.guard.failed("write")
            goodbye = b""
        self.transport.close(code, goodbye)

    def _redirect(self, owner: Owner, write: Write) -> None:
        self.write = write
        owner.redirected(write)

    def _drop_outbox(self) -> None:
        if self._outbox is not None:
            self._services.outboxes.close(self._outbox)
            self._outbox = None
