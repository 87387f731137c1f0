"""A WebSocket that is driven by the event loop's callbacks alone: no task, queue, timer or coroutine per connection."""

import asyncio

from gateway.auth.rate_limits import TokenBucket
from gateway.session.transport import Connection
from gateway.transports.admission import Place
from gateway.transports.flow import rest_after
from gateway.transports.socket_transport import MOST_UNWANTED, SocketOptions, SocketTransport
from gateway.transports.websocket.frames import (
    POLICY_VIOLATION,
    TURN_FRAMES,
    FrameError,
    FrameParser,
    close_frame,
    pong_frame,
)

# Pings and pongs that a client may send per second, and in one burst.
CONTROL_FRAMES = 100
# Frames per second parsed for a client that sends more than one turn of the loop takes; an idle core could parse 20
# times as many. Messages have their own limit (limits.commands_per_second); this is for fragments, even empty ones.
FRAMES_PER_SECOND = 20_000
# Bytes above which an incomplete message counts against the node's memory budget.
LARGE = 16_384


class WebSocketTransport(SocketTransport):
    """A WebSocket: parses incoming frames; outgoing data is already framed by the encoder."""

    __slots__ = ("_control_frames", "_owed_ping", "_parser", "_reading", "_unwanted", "_waiting")

    def __init__(
        self,
        options: SocketOptions,
        transport: asyncio.Transport,
        parser: FrameParser,
        connection: Connection,
        place: Place | None,
    ) -> None:
        """The handshake is done; `transport` must be reading. The caller calls `connection.opened`."""
        self._parser: FrameParser | None = parser
        self._reading = True
        # Data that was read already is to be parsed first, in another turn.
        self._waiting = False
        # Bytes that came after our close frame.
        self._unwanted = 0
        self._control_frames: TokenBucket | None = None
        # The latest ping received while congested: answering it is enough (RFC 6455 5.5.3).
        self._owed_ping: bytes | None = None
        super().__init__(options, transport, connection, place)

    def hand_over(self, connection: Connection, place: Place) -> None:
        """Open a connection and switch to it; the application is told nothing more."""
        self._place = place
        if self._connection is None:
            place.leave()
        connection.opened(self)
        self.drive(connection)

    # Transport port: what the session calls

    def _await_end(self) -> None:
        """RFC 6455 section 7.1.2: read on, since the peer's close frame comes after data not read yet."""
        self.resume_reading()

    def pause_reading(self) -> None:
        """Stop reading from the socket and delivering messages."""
        if self._reading and self._parser is not None and not self._transport.is_closing():
            self._reading = False
            self._parser.paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver what was read already, then read again."""
        if self._reading or self._parser is None:
            return
        self._reading = True
        self._parser.paused = False
        # Later, since the caller may be in the middle of a message.
        self._go_on_after(0.0)

    # Called by the event loop

    def data_received(self, data: bytes) -> None:
        """Bytes from the client, in pieces of any size."""
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
            self._go_on_after(max(TURN_FRAMES / FRAMES_PER_SECOND, self._rest_after(0)))
        elif (rest := self._rest_after(len(data))) and not self._transport.is_closing():
            self._transport.pause_reading()
            self._go_on_after(rest)

    def _rest_after(self, size: int) -> float:
        """Seconds to stop reading after a read of `size` bytes. Compressed messages count once more, by what they say.

        That adds up over reads: a read of 100 bytes may say 300,000.
        """
        assert self._parser is not None
        rest = rest_after(size + self._parser.inflated)
        if rest:
            self._parser.inflated = 0
        return rest

    def _go_on_after(self, delay: float) -> None:
        if not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(delay, self._go_on)

    def _go_on(self) -> None:
        """Parse what was read already before reading more, so that it does not pile up."""
        self._waiting = False
        self.data_received(b"")
        if self._reading and not self._waiting and self._parser is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _ignore(self) -> None:
        """Stop reading: the peer's writes block until the abort. It has had time to send its close frame."""
        self._parser = None
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._parser = None
        super().connection_lost(exc)

    @property
    def held(self) -> int:
        """As a Holder: includes the bytes of an incomplete message."""
        return super().held + (self._parser.kept if self._parser is not None else 0)

    # Called by the parser

    def ping_received(self, data: bytes) -> None:
        """Answer, unless the client is not reading; then the answer waits until it does."""
        self._count_control_frame()
        if self._congested_at is not None:
            self._owed_ping = data
        elif self._open:
            self.write(pong_frame(data))

    def resume_writing(self) -> None:
        """The socket's buffer is below LOW_WATER again."""
        data, self._owed_ping = self._owed_ping, None
        self._congested_at = None
        if data is not None and self._open:
            self.write(pong_frame(data))
        super().resume_writing()

    def pong_received(self) -> None:
        """A pong, solicited or not (5.5.3)."""
        self._count_control_frame()
        if self._open:
            self._connected.ponged()

    def close_received(self, code: int, reason: str) -> None:
        """5.5.1: echo it unless it answers ours. 7.1.1: the server closes the socket first."""
        if self._open:
            self._open = False
            self.write(close_frame(code))
        self._fall_silent()
        self._transport.close()
        self._linger()
        self._finish(code, reason)

    def _count_control_frame(self) -> None:
        if self._control_frames is None:
            self._control_frames = TokenBucket(CONTROL_FRAMES)
        now = asyncio.get_running_loop().time()
        if not self._control_frames.take(now):
            raise FrameError(POLICY_VIOLATION, "too many control frames")

    def _fail(self, error: FrameError) -> None:
        """7.1.7: close. Further data is read and discarded until the peer leaves, up to MOST_UNWANTED bytes.

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
        self._fall_silent()
        if not was_open or not self._transport.can_write_eof():
            self._transport.close()
        self._finish(error.code, error.reason)
