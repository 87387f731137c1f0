"""A socket detached from the HTTP server: the base of all long-lived connections, whatever their protocol."""

import asyncio
from typing import cast

from gateway.errors import CloseCode
from gateway.metrics import LabelledCounter
from gateway.session.transport import Connection, Write
from gateway.transports.admission import Place
from gateway.transports.drain import Drain

# Seconds from our goodbye until the socket is dropped if the peer does not answer, or does not read.
CLOSE_TIMEOUT = 5.0
# The close code of a connection that ended without one (RFC 6455 section 7.1.5).
ABNORMAL = 1006
# Bytes that are still read after our goodbye, to find the peer's.
MOST_UNWANTED = 65_536
# Bytes in a socket's own buffer above which its connection is congested. The kernel's buffer comes on top.
HIGH_WATER = 65_536
LOW_WATER = 16_384
# Seconds for which a socket must be congested before its bytes above HIGH_WATER count against the node's memory budget.
# A burst of publications is one block, which is in memory once for all its subscribers, and they read it soon.
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
        """`connections` is the server's own set: at shutdown it waits until the set is empty.

        `keeping` holds the transports that wait for the rest of a large message, or for their client to read.
        """
        self.keeping = keeping
        self.connections = connections
        self.drain = drain
        self.protocol_errors = protocol_errors
        self.message_size = message_size
        self.fragments = fragments


class Nobody:
    """Ignores messages."""

    def received(self, data: bytes, *, binary: bool) -> None:
        """They arrive after a goodbye."""


NOBODY = Nobody()


class SocketTransport(asyncio.Protocol):
    """Implements the Transport port of sessions, except for reading; driven by the event loop's callbacks alone.

    It has no task, queue, timer or coroutine of its own while open.
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
        """`transport` must be reading. The caller calls `connection.opened`."""
        self.write: Write = transport.write
        self._options = options
        self._transport = transport
        self._connection: Connection | None = connection
        # Gets what the client sends: the connection, until either side has said goodbye.
        self.receiver: Connection | Nobody = connection
        self._place = place
        # True until either side says goodbye.
        self._open = True
        # When it became congested; None while it is not.
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
        """Say goodbye, and give the peer time to do so."""
        if not self._open:
            return
        self._open = False
        self._closed_with = code
        self.write(goodbye)
        self._fall_silent()
        self._linger()
        self._await_end()

    def drive(self, connection: Connection) -> None:
        """Switch to another connection; the previous one is told nothing more, not even `closed`."""
        is_lost = self._connection is None
        self._connection = connection
        if self._open:
            self.receiver = connection
        if is_lost:
            self._finish(ABNORMAL, "")
        elif self._congested_at is not None:
            connection.pause_writing()

    def release(self, goodbye: bytes) -> None:
        """The connection continues on another transport."""
        self._connection = None
        self.close(CloseCode(ABNORMAL, ""), goodbye)

    def _await_end(self) -> None:
        """Our goodbye is written: wait for the peer's, if the protocol has one."""
        raise NotImplementedError

    def abort(self) -> None:
        """Drop the socket at once, with its unsent bytes."""
        self._open = False
        self._fall_silent()
        self._transport.abort()

    def authenticated(self) -> None:
        """The client proved who it is."""
        if self._place is not None:
            self._place.authenticated()

    def _fall_silent(self) -> None:
        """Ignore further writes, and further messages of the client."""
        self.write = write_nowhere
        self.receiver = NOBODY

    # Called by the event loop

    def eof_received(self) -> None:
        """The client closed its side without a goodbye; returning None closes ours too."""
        self._open = False
        self._fall_silent()
        self._linger()
        self._finish(ABNORMAL, "")

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
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
        """The socket's buffer is below LOW_WATER again."""
        self._congested_at = None
        self._options.keeping.discard(self)
        if self._open:
            self._connected.resume_writing()

    # Called by the node's memory budget

    concerned = 1

    @property
    def held(self) -> int:
        """As a Holder: bytes that the client has not read."""
        if self._congested_at is None:
            return 0
        return counted_unread(self._transport.get_write_buffer_size(), self._congested_at)

    @property
    def payer(self) -> str | None:
        """The client's address."""
        return (self._place.waits_at or None) if self._place is not None else None

    def shed(self) -> None:
        """Drop the connection: others need the memory. Unread bytes hold up the goodbye, so nothing waits for it."""
        if self._open:
            self._connected.shed()
        self.abort()

    # Called by the server

    def shutdown(self) -> None:
        """The server shuts down. It asks all its connections at once; the drain spreads that over time."""
        self._options.drain.add(self._shut_down)

    def _shut_down(self) -> None:
        if self._open:
            self._connected.shutdown()

    @property
    def _connected(self) -> Connection:
        """The connection, which exists while the socket is open."""
        return cast(Connection, self._connection)

    def _linger(self) -> None:
        """Drop the socket after CLOSE_TIMEOUT: the peer may not answer, or not read what is still to be sent."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _finish(self, code: int, reason: str) -> None:
        """Tell the connection once that it is closed; with our code if we closed it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.closed(*(self._closed_with or (code, reason)))


def counted_unread(unread: int, congested_at: float) -> int:
    """How many of the unread bytes of a socket count against the memory budget."""
    lasts = asyncio.get_running_loop().time() - congested_at >= BURST
    return max(unread - HIGH_WATER, 0) if lasts else 0


def write_nowhere(data: bytes) -> None:
    """Ignore the data: the connection is over."""
