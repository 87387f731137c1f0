"""Carries messages in the answers to a client's polls, one request after another."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from gateway.errors import CloseCode
from gateway.session.transport import Connection, Write
from gateway.transports.admission import Place
from gateway.transports.drain import Drain
from gateway.transports.socket_transport import ABNORMAL, CLOSE_TIMEOUT, HIGH_WATER, LOW_WATER, counted_unread

# Gets the body of an answer; None where the connection has ended, and its client may begin anew.
Answer = Callable[[bytes | None], None]


class Server(NamedTuple):
    """What a server offers to connections that outlive their requests (extension CONNECTIONS)."""

    connections: set[object]
    drain: Drain


class PollingTransport:
    """Implements the Transport port of sessions. At most one poll is parked: the client's last, not answered yet."""

    concerned = 1

    def __init__(
        self,
        connection: Connection,
        place: Place,
        congested: "set[PollingTransport]",
        *,
        part: Callable[[bytes], int],
        nothing: bytes,
        end: bytes,
        server: "Server | None" = None,
    ) -> None:
        """`place` is that of the connection, beside those of its requests. `congested` holds the transports whose
        clients do not poll. Answers are `nothing` where there are no messages; `part` is how many bytes of
        what waits fit into one answer, and `end` tells a client that it shall not come back.

        `server` is None under one that does not ask connections to end.
        """
        self.write: Write = self._write
        self._connection: Connection | None = connection
        self._place = place
        # (The place says so of who is gone as well.)
        self.has_authenticated = False
        self._congested = congested
        self._congested_at = 0.0
        self._server = server
        if server is not None:
            server.connections.add(self)
            if server.drain.started:
                self.shutdown()
        self._nothing = nothing
        self._part = part
        self._end = end
        # What a poll gets after everything else.
        self._last: bytes | None = None
        self._blocks: list[bytes] = []
        self._size = 0
        self._parked: Answer | None = None
        self._is_answering = False
        self._hurries = False
        self._is_open = True
        self._closed_with: CloseCode | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reads = True
        # Called once the session reads again.
        self._unread: list[Callable[[], None]] = []

    # What the client's requests call

    def poll(self, answer: Answer) -> bool:
        """Park a poll until there is something for the client. False if there is a parked one already."""
        if self._parked is not None:
            return False
        self._parked = answer
        if self._blocks or self._hurries or not self._is_open:
            self._answer_soon()
        return True

    def when_read(self, done: Callable[[], None]) -> None:
        """Call `done` once the session takes more from the client."""
        if self._reads:
            done()
        else:
            self._unread.append(done)

    def hurry(self, *, hurries: bool) -> None:
        """Answer polls at once, or wait with them again."""
        self._hurries = hurries
        if hurries:
            self._answer_soon()

    def leave(self) -> None:
        """The client has closed the connection."""
        self._respond(self._nothing)
        self._finish()

    def take(self) -> bytes:
        """What no poll has fetched."""
        taken = b"".join(self._blocks)
        self._blocks.clear()
        self._size = 0
        self._congested.discard(self)
        return taken

    # Transport port

    def _write(self, block: bytes) -> None:
        if not self._is_open:
            return
        self._blocks.append(block)
        self._size += len(block)
        self._answer_soon()
        if self._size > HIGH_WATER and self not in self._congested:
            self._congested.add(self)
            self._congested_at = asyncio.get_running_loop().time()
            if self._connection is not None:
                self._connection.pause_writing()

    def close(self, code: CloseCode, goodbye: bytes) -> None:
        """End with the next poll, or the parked one; without one the client is gone after CLOSE_TIMEOUT."""
        if not self._is_open:
            return
        self._is_open = False
        self._closed_with = code
        if code.is_final:
            self._last = self._end
        if goodbye:
            self._blocks.append(goodbye)
        self._read_on()
        self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._finish)
        self._answer_soon()

    def drive(self, connection: Connection) -> None:
        """Switch to another connection; the previous one is told nothing more, not even `closed`."""
        is_lost = self._connection is None
        self._connection = connection
        if is_lost:
            self._finish()
        elif self in self._congested:
            connection.pause_writing()

    def release(self, goodbye: bytes) -> None:
        """The connection continues on another transport."""
        self._connection = None
        self._respond(self._nothing)
        self._finish()

    def abort(self) -> None:
        """Drop the client, and what waits for it."""
        self._respond(None)
        self._finish()

    def authenticated(self) -> None:
        """The client proved who it is."""
        self.has_authenticated = True
        self._place.authenticated()

    def pause_reading(self) -> None:
        """Keep the answers to what the client sends: it sends nothing more until it has them."""
        self._reads = not self._is_open

    def resume_reading(self) -> None:
        """Let the client send more."""
        self._read_on()

    # Called by the server

    def shutdown(self) -> None:
        """The server shuts down."""
        if self._server is not None:
            self._server.drain.add(self._shut_down)

    def _shut_down(self) -> None:
        if self._is_open and self._connection is not None:
            self._connection.shutdown()

    # Called by the node's memory budget

    @property
    def held(self) -> int:
        """As a Holder: bytes that the client has not fetched."""
        return counted_unread(self._size, self._congested_at)

    @property
    def payer(self) -> str | None:
        """The client's address."""
        return self._place.waits_at or None

    def shed(self) -> None:
        """Drop the connection: others need the memory."""
        if self._is_open and self._connection is not None:
            self._connection.shed()
        self.abort()

    def _answer_soon(self) -> None:
        """Answer the parked poll, if there is one, with all that is written in this turn of the loop."""
        if self._parked is not None and not self._is_answering:
            self._is_answering = True
            asyncio.get_running_loop().call_soon(self._answer_now)

    def _answer_now(self) -> None:
        self._is_answering = False
        if self._parked is None:
            return
        was_congested, since = self in self._congested, self._congested_at
        waiting = self.take()
        if not self._is_open and self._last:
            waiting, self._last = waiting + self._last, None
        end = self._part(waiting)
        body = waiting[:end]
        if end < len(waiting):
            self._blocks.append(waiting[end:])
            self._size = len(waiting) - end
        if body or not self._is_open:
            self._respond(body or None)
        elif self._hurries:
            self._respond(self._nothing)
        if self._blocks and was_congested and self._size > LOW_WATER:
            self._congested.add(self)
            self._congested_at = since
        elif was_congested and self._is_open and self._connection is not None:
            self._connection.resume_writing()
        if not self._is_open and not self._blocks:
            self._finish()

    def _respond(self, body: bytes | None) -> None:
        if self._parked is not None:
            parked, self._parked = self._parked, None
            parked(body)

    def _read_on(self) -> None:
        self._reads = True
        waiting, self._unread = self._unread, []
        for done in waiting:
            done()

    def _finish(self) -> None:
        """The connection is over. Idempotent."""
        self._is_open = False
        self.take()
        self._read_on()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._place.leave()
        if self._server is not None:
            self._server.connections.discard(self)
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.closed(*(self._closed_with or (ABNORMAL, "")))
        self.write = _discard


def _discard(block: bytes) -> None:
    """What is written to a transport that has ended."""
