"""A WebSocket that is driven by the event loop's callbacks alone: no task, queue, timer or coroutine per connection."""

import asyncio
from typing import cast

from gateway.auth.rate_limits import TokenBucket
from gateway.errors import CloseCode
from gateway.metrics import LabelledCounter
from gateway.session.transport import Connection, Write
from gateway.transports.admission import Place
from gateway.transports.drain import Drain
from gateway.transports.flow import rest_after
from gateway.transports.websocket.frames import (
    ABNORMAL,
    POLICY_VIOLATION,
    TURN_FRAMES,
    FrameError,
    FrameParser,
    close_frame,
    pong_frame,
)

# Seconds between a close frame of ours and the end of a socket whose peer does not answer it, or does not read.
CLOSE_TIMEOUT = 5.0
# Pings and pongs of a client per second, and at once.
CONTROL_FRAMES = 100
# Frames of a client per second, where one turn of the loop is not enough for what it sends: an idle core takes 20 times
# as many. Messages are bounded besides (limits.commands_per_second); this is for fragments, empty ones among them.
FRAMES_PER_SECOND = 20_000
# Bytes of an incomplete message from which on it counts among what waits on the node.
LARGE = 16_384
# Bytes that are still looked at for the peer's close frame after ours.
MOST_UNWANTED = 65_536
# Bytes in a socket's own buffer above which its connection is congested. The kernel holds more in front of it.
HIGH_WATER = 65_536
LOW_WATER = 16_384
# Seconds for which a socket is congested before what it holds above HIGH_WATER counts among what waits on the node.
# A burst of publications is one block, which lies in memory once for all its subscribers, and they read it soon.
BURST = 1.0


class SocketOptions:
    """What the WebSockets of one listener share."""

    __slots__ = ("connections", "drain", "fragments", "keeping", "message_size", "protocol_errors")

    def __init__(
        self,
        *,
        connections: set[object],
        drain: Drain,
        protocol_errors: LabelledCounter,
        message_size: int,
        fragments: int,
        keeping: "set[WebSocketTransport]",
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


class WebSocketTransport(asyncio.Protocol):
    """Implements the Transport port of sessions, and the protocol and sink that the bytes of the socket go through."""

    __slots__ = (
        "_closed_with",
        "_congested_at",
        "_connection",
        "_control_frames",
        "_open",
        "_options",
        "_parser",
        "_place",
        "_reading",
        "_timer",
        "_transport",
        "_unwanted",
        "_waiting",
        "write",
    )

    def __init__(
        self,
        options: SocketOptions,
        transport: asyncio.Transport,
        parser: FrameParser,
        connection: Connection,
        place: Place | None,
    ) -> None:
        """The handshake is done; `transport` reads. `connection.opened` is for the caller to call."""
        self.write: Write = transport.write
        self._options = options
        self._transport = transport
        self._parser: FrameParser | None = parser
        self._connection: Connection | None = connection
        self._place = place
        # Neither side has sent a close frame.
        self._open = True
        self._reading = True
        # What was read already has to be looked at first, in another turn.
        self._waiting = False
        # Bytes that came after our close frame.
        self._unwanted = 0
        # When that began; None while it is not.
        self._congested_at: float | None = None
        self._closed_with: CloseCode | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._control_frames: TokenBucket | None = None
        options.connections.add(self)
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        transport.set_protocol(self)
        if options.drain.started:
            self.shutdown()

    def hand_over(self, connection: Connection, place: Place) -> None:
        """Go on with another connection; the one before hears nothing more, not even `closed`."""
        lost = self._connection is None
        self._place = place
        self._connection = connection
        connection.opened(self)
        if lost:
            place.leave()
            self._finish(ABNORMAL, "")
        elif self._congested_at is not None:
            connection.pause_writing()

    # Transport port: what the session calls

    def close(self, code: CloseCode) -> None:
        """RFC 6455 section 7.1.2: our close frame, the peer's, then the socket."""
        if not self._open:
            return
        self._open = False
        self._closed_with = code
        self.write(close_frame(code.code, code.reason))
        # The peer's close frame stands behind what was not read yet.
        self.resume_reading()
        self._linger()

    def abort(self) -> None:
        """Drop the socket and what waits in it at once."""
        self._open = False
        self._transport.abort()

    def authenticated(self) -> None:
        """The client proved who it is."""
        if self._place is not None:
            self._place.authenticated()

    def pause_reading(self) -> None:
        """Stop reading from the socket, and delivering what was read."""
        if self._reading and self._parser is not None and not self._transport.is_closing():
            self._reading = False
            self._parser.paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, after what was read already."""
        if self._reading or self._parser is None:
            return
        self._reading = True
        self._parser.paused = False
        # Later, since the caller may stand in the middle of a message.
        self._go_on_after(0.0)

    # Called by the event loop

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, in pieces of any size."""
        if not self._open:
            self._unwanted += len(data)
            if self._unwanted > MOST_UNWANTED:
                self._ignore()
        parser = self._parser
        if parser is None:
            return
        try:
            more = parser.feed(data, self)
        except FrameError as error:
            self._fail(error)
            return
        if parser.kept > LARGE:
            self._options.keeping.add(self)
        elif self._options.keeping and self._congested_at is None:
            self._options.keeping.discard(self)
        if more and not self._open:
            self._ignore()
        elif more:
            self._transport.pause_reading()
            self._go_on_after(TURN_FRAMES / FRAMES_PER_SECOND)
        elif (rest := rest_after(len(data))) and not self._transport.is_closing():
            self._transport.pause_reading()
            self._go_on_after(rest)

    def _go_on_after(self, delay: float) -> None:
        if not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(delay, self._go_on)

    def _go_on(self) -> None:
        """Look at what was read already; only then at more, so that it does not pile up."""
        self._waiting = False
        self.data_received(b"")
        if self._reading and not self._waiting and self._parser is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _ignore(self) -> None:
        """Read no more: the peer's writes block until the socket is aborted. It has had time for its close frame."""
        self._parser = None
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The client sends nothing more, and said no goodbye; returning None closes our side too."""
        self._open = False
        self._linger()
        self._finish(ABNORMAL, "")

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._open = False
        self._parser = None
        self._options.keeping.discard(self)
        self.write = _write_nowhere
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
        """As a Holder: bytes of a message that is not complete, and those that the client does not read."""
        kept = self._parser.kept if self._parser is not None else 0
        if self._congested_at is None:
            return kept
        return kept + counted_unread(self._transport.get_write_buffer_size(), self._congested_at)

    @property
    def payer(self) -> str | None:
        """Its address."""
        return (self._place.waits_at or None) if self._place is not None else None

    def shed(self) -> None:
        """Others need the memory. Nobody waits for the close frame, which stands behind what is not read."""
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

    # Called by the parser

    def message_received(self, data: bytes, *, binary: bool) -> None:
        """A complete message; nobody wants those that come after our close frame."""
        if self._open:
            self._connected.received(data, binary=binary)

    def ping_received(self, data: bytes) -> None:
        """Answered unless the client does not even read what it gets already."""
        self._count_control_frame()
        if self._open and self._congested_at is None:
            self.write(pong_frame(data))

    def pong_received(self) -> None:
        """Asked for or not (5.5.3)."""
        self._count_control_frame()
        if self._open:
            self._connected.ponged()

    def close_received(self, code: int, reason: str) -> None:
        """5.5.1: echoed unless it answers ours. 7.1.1: the server closes the socket first."""
        if self._open:
            self._open = False
            self.write(close_frame(code))
        self._transport.close()
        self._linger()
        self._finish(code, reason)

    @property
    def _connected(self) -> Connection:
        """The connection, which is there while the socket is open."""
        return cast(Connection, self._connection)

    def _count_control_frame(self) -> None:
        if self._control_frames is None:
            self._control_frames = TokenBucket(CONTROL_FRAMES)
        now = asyncio.get_running_loop().time()
        if not self._control_frames.take(now):
            raise FrameError(POLICY_VIOLATION, "too many control frames")

    def _fail(self, error: FrameError) -> None:
        """7.1.7. What still comes in is thrown away unread until the peer leaves, or for as long as it is not too much.

        Closing a socket with unread bytes makes the kernel reset it, and the peer may never see the close frame.
        """
        self._options.protocol_errors.add(error.reason)
        self._parser = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
        was_open, self._open = self._open, False
        self._linger()
        if was_open:
            self.write(close_frame(error.code, error.reason))
            if self._transport.can_write_eof():
                self._transport.write_eof()
        if not was_open or not self._transport.can_write_eof():
            self._transport.close()
        self._finish(error.code, error.reason)

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


def _write_nowhere(frames: bytes) -> None:
    """The socket is gone."""
