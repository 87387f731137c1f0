"""Output to one client: gathered within a turn of the loop, and queued while the client is congested."""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from gateway.errors import CloseCode
from gateway.hub.encoder import Encoder
from gateway.hub.outbox import Outbox
from gateway.protocols.wire_protocol import Codec, Message
from gateway.session.services import SessionServices
from gateway.session.transport import Transport, Write


class Owner(Protocol):
    """The session that the output belongs to."""

    @property
    def payer(self) -> Hashable:
        """Whom the waiting bytes are charged to, as in Holder."""

    def redirected(self, write: Write) -> None:
        """Deliveries have to use this `write` from now on."""

    def overflowed(self, setting: str) -> None:
        """More waits than this setting allows: nothing more is written. Must not close within this call."""

    def fail(self, part: str) -> None:
        """A message could not be written: close the connection."""


class Outgoing:
    """Writes replies, pushes and deliveries in order to a transport, which may be replaced."""

    __slots__ = ("_corked", "_outbox", "_owner", "_services", "encoder", "has_read", "transport", "write")

    transport: Transport
    write: Write
    """Writes encoded blocks, in order with what is said. For deliveries, which pull the corks first."""

    def __init__(self, owner: Owner, services: SessionServices[Any], encoder: Encoder) -> None:
        # None once it is closed.
        self._owner: Owner | None = owner
        self._services = services
        self.encoder = encoder
        # What was said in this turn of the loop.
        self._corked: list[Message] | None = None
        self._outbox: Outbox | None = None
        # Whether the client, while congested, has read something since this was set to False.
        self.has_read = False

    def open(self, transport: Transport) -> None:
        """Write to this transport from now on."""
        self.transport = transport
        self.write = transport.write

    @property
    def is_congested(self) -> bool:
        """Whether output waits for the client to read."""
        return self._outbox is not None

    def say(self, messages: Sequence[Message]) -> None:
        """Write messages (possibly none), in one piece with the others of this turn of the loop."""
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
        """Send a ping."""
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
        """The transport can take more. Returns whether all that waited is written."""
        owner = self._owner
        if owner is None or self._outbox is None or self._outbox.overflowed:
            # Nothing is written after an overflow: it would follow a gap. The connection is about to close.
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
        """Switch to another transport; returns the old one and the bytes that end it. Only when nothing waits."""
        before, parting = self.transport, self.encoder.parting()
        self.encoder = encoder
        self.open(transport)
        return before, parting

    # The end

    def drop(self) -> None:
        """Drop what is not written; nothing more is said."""
        self._owner = None
        self._corked = None
        self._drop_outbox()

    def close(self, code: CloseCode, codec: Codec) -> None:
        """Close with a goodbye after all that was written."""
        try:
            goodbye = self.encoder.goodbye(code, codec)
        except Exception:
            # The connection must close even if its goodbye cannot be encoded.
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
