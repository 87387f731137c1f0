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

# Pings and pongs of a client per second, and at once.
CONTROL_FRAMES = 100
# Frames of a client per second, where one turn of the loop is not enough for what it sends: an idle core takes 20 times
# as many. Messages are bounded besides (limits.commands_per_second); this is for fragments, empty ones among them.
FRAMES_PER_SECOND = 20_000
# Bytes of an incomplete message from which on it counts among what waits on the node.
LARGE = 16_384


class WebSocketTransport(SocketTransport):
    """A WebSocket: parses what comes; what goes out was framed by the encoder."""

    __slots__ = ("_control_frames", "_owed_ping", "_parser", "_reading", "_unwanted", "_waiting")

    def __init__(
        self,
        options: SocketOptions,
        transport: asyncio.Transport,
        parser: FrameParser,
        connection: Connection,
        place: Place | None,
    ) -> None:
        """The handshake is done; `transport` reads. `connection.opened` is for the caller to call."""
        self._parser: FrameParser | None = parser
        self._reading = True
        # What was read already has to be looked at first, in another turn.
        self._waiting = False
        # Bytes that came after our close frame.
        self._unwanted = 0
        self._control_frames: TokenBucket | None = None
        # The newest ping that came while the client read nothing: it stands for those before (RFC 6455 5.5.3).
        self._owed_ping: bytes | None = None
        super().__init__(options, transport, connection, place)

    def hand_over(self, connection: Connection, place: Place) -> None:
        """Open a connection, and go on with it; the application hears nothing more."""
        self._place = place
        if self._connection is None:
            place.leave()
        connection.opened(self)
        self.drive(connection)

    # Transport port: what the session calls

    def _await_end(self) -> None:
        """RFC 6455 section 7.1.2: the peer's close frame stands behind what was not read yet."""
        self.resume_reading()

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

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._parser = None
        super().connection_lost(exc)

    @property
    def held(self) -> int:
        """As a Holder: bytes of a message that is not complete, too."""
        return super().held + (self._parser.kept if self._parser is not None else 0)

    # Called by the parser

    def ping_received(self, data: bytes) -> None:
        """Answered unless the client does not even read what it gets already."""
        self._count_control_frame()
        if self._congested_at is not None:
            self._owed_ping = data
        elif self._open:
            self.write(pong_frame(data))

    def resume_writing(self) -> None:
        """It is below LOW_WATER again."""
        data, self._owed_ping = self._owed_ping, None
        self._congested_at = None
        if data is not None and self._open:
            self.write(pong_frame(data))
        super().resume_writing()

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
        self._fall_silent()
        if not was_open or not self._transport.can_write_eof():
            self._transport.close()
        self._finish(error.code, error.reason)
