"""A socket that the server has let go of: what all long-lived connections on it have in common, whatever they speak."""

import asyncio
from typing import cast

from gateway.errors import CloseCode
from gateway.metrics import LabelledCounter
from gateway.session.transport import Connection, Write
from gateway.transports.admission import Place
from gateway.transports.drain import Drain

# Seconds between a goodbye of ours and the end of a socket whose peer does not answer it, or does not read.
CLOSE_TIMEOUT = 5.0
# The close code of a connection that ended without one (RFC 6455 section 7.1.5).
ABNORMAL = 1006
# Bytes that are still looked at for the peer's goodbye after ours.
MOST_UNWANTED = 65_536
# Bytes in a socket's own buffer above which its connection is congested. The kernel holds more in front of it.
HIGH_WATER = 65_536
LOW_WATER = 16_384
# Seconds for which a socket is congested before what it holds above HIGH_WATER counts among what waits on the node.
# A burst of publications is one block, which lies in memory once for all its subscribers, and they read it soon.
BURST = 1.0


class SocketOptions:
    """What the detached connections of one listener share."""

    __slots__ = ("connections", "drain", "fragments", "keeping", "message_size", "protocol_errors")

    def __init__(
        self,
        *,
        connections: set[object],
        drain: Drain,
        protocol_errors: LabelledCounter,
        message_size: int,
        fragments: int,
        keeping: "set[SocketTransport]",
    ) -> None:
        """`connections` is the server's own set: it waits until the set is empty when it ends.

        `keeping` holds those that wait for the rest of a large message, or for their client to read.
        """
        self.keeping = keeping
        self.connections = connections
        self.drain = drain
        self.protocol_errors = protocol_errors
        self.message_size = message_size
        self.fragments = fragments


class Nobody:
    """Wants no messages."""

    def received(self, data: bytes, *, binary: bool) -> None:
        """They come behind a goodbye."""


NOBODY = Nobody()


class SocketTransport(asyncio.Protocol):
    """Implements the Transport port of sessions, but for reading; driven by the event loop's callbacks alone.

    No task, queue, timer or coroutine lives for it.
    """

    __slots__ = (
        "_closed_with",
        "_congested_at",
        "_connection",
        "_open",
        "_options",
        "_place",
        "_timer",
        "_transport",
        "receiver",
        "write",
    )

    def __init__(
        self, options: SocketOptions, transport: asyncio.Transport, connection: Connection, place: Place | None
    ) -> None:
        """`transport` reads. `connection.opened` is for the caller to call."""
        self.write: Write = transport.write
        self._options = options
        self._transport = transport
        self._connection: Connection | None = connection
        # Who wants what the client sends: the connection, until either side said goodbye.
        self.receiver: Connection | Nobody = connection
        self._place = place
        # Neither side has said goodbye.
        self._open = True
        # When that began; None while it is not.
        self._congested_at: float | None = None
        self._closed_with: CloseCode | None = None
        self._timer: asyncio.TimerHandle | None = None
        options.connections.add(self)
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        transport.set_protocol(self)
        if options.drain.started:
            self.shutdown()

    # Transport port: what the session calls

    def close(self, code: CloseCode, goodbye: bytes) -> None:
        """Say goodbye, and let the peer do so."""
        if not self._open:
            return
        self._open = False
        self._closed_with = code
        self.write(goodbye)
        self._fall_silent()
        self._linger()
        self._await_end()

    def drive(self, connection: Connection) -> None:
        """Go on with another connection; the one before hears nothing more, not even `closed`."""
        is_lost = self._connection is None
        self._connection = connection
        if self._open:
            self.receiver = connection
        if is_lost:
            self._finish(ABNORMAL, "")
        elif self._congested_at is not None:
            connection.pause_writing()

    def release(self, goodbye: bytes) -> None:
        """The connection goes on elsewhere."""
        self._connection = None
        self.close(CloseCode(ABNORMAL, ""), goodbye)

    def _await_end(self) -> None:
        """The goodbye is written: be ready for the peer's."""
        raise NotImplementedError

    def abort(self) -> None:
        """Drop the socket and what waits in it at once."""
        self._open = False
        self._fall_silent()
        self._transport.abort()

    def authenticated(self) -> None:
        """The client proved who it is."""
        if self._place is not None:
            self._place.authenticated()

    def _fall_silent(self) -> None:
        """Nothing is written any more, and nobody wants what still comes."""
        self.write = write_nowhere
        self.receiver = NOBODY

    # Called by the event loop

    def eof_received(self) -> None:
        """The client sends nothing more, and said no goodbye; returning None closes our side too."""
        self._open = False
        self._fall_silent()
        self._linger()
        self._finish(ABNORMAL, "")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._open = False
        self._options.keeping.discard(self)
        self._fall_silent()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._place is not None:
            self._place.leave()
        self._options.connections.discard(self)
        self._finish(ABNORMAL, "")

    def pause_writing(self) -> None:
        """The socket's buffer is above HIGH_WATER."""
        self._congested_at = asyncio.get_running_loop().time()
        self._options.keeping.add(self)
        if self._open:
            self._connected.pause_writing()

    def resume_writing(self) -> None:
        """It is below LOW_WATER again."""
        self._congested_at = None
        self._options.keeping.discard(self)
        if self._open:
            self._connected.resume_writing()

    # Called by the budget of the node

    concerned = 1

    @property
    def held(self) -> int:
        """As a Holder: bytes that the client does not read."""
        if self._congested_at is None:
            return 0
        return counted_unread(self._transport.get_write_buffer_size(), self._congested_at)

    @property
    def payer(self) -> str | None:
        """Its address."""
        return (self._place.waits_at or None) if self._place is not None else None

    def shed(self) -> None:
        """Others need the memory. Nobody waits for the goodbye, which stands behind what is not read."""
        if self._open:
            self._connected.shed()
        self.abort()

    # Called by the server

    def shutdown(self) -> None:
        """The server ends. It asks all its connections at once; the drain spreads that."""
        self._options.drain.add(self._shut_down)

    def _shut_down(self) -> None:
        if self._open:
            self._connected.shutdown()

    @property
    def _connected(self) -> Connection:
        """The connection, which is there while the socket is open."""
        return cast(Connection, self._connection)

    def _linger(self) -> None:
        """Not every peer answers, and one that does not read keeps the buffer from emptying."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _finish(self, code: int, reason: str) -> None:
        """Tell the connection once; the code is ours where we closed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.closed(*(self._closed_with or (code, reason)))


def counted_unread(unread: int, congested_at: float) -> int:
    """Of the bytes that wait in a socket, those that count as memory of their own."""
    lasts = asyncio.get_running_loop().time() - congested_at >= BURST
    return max(unread - HIGH_WATER, 0) if lasts else 0


def write_nowhere(data: bytes) -> None:
    """The connection is over."""
