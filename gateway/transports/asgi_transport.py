"""A long-lived connection over plain ASGI: any server, Starlette's test client. Costs more than on a socket."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Any

from gateway.errors import CloseCode
from gateway.session.transport import Connection, Write
from gateway.transports.admission import Place
from gateway.transports.socket_transport import ABNORMAL, CLOSE_TIMEOUT, HIGH_WATER, LOW_WATER, counted_unread


class AsgiTransport(ABC):
    """Implements the Transport port of sessions with two tasks, one that receives and one that sends."""

    def __init__(self, connection: Connection, send: Any, place: Place, congested: "set[AsgiTransport]") -> None:
        """`send` is ASGI's, after the client was let in. `congested` holds the transports whose clients do not read."""
        self.write: Write = self._write
        self._connection: Connection | None = connection
        self._send = send
        self._place = place
        self._blocks: deque[bytes] = deque()
        self._size = 0
        self._all_congested = congested
        self._congested_at = 0.0
        self._open = True
        self._closed_with: CloseCode | None = None
        self._has_ended = False
        self._work = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._receiver: asyncio.Task[tuple[int, str]] | None = None
        self._sender: asyncio.Task[None] | None = None
        # Set by close(): ends what does not end by itself.
        self._deadline: asyncio.TimerHandle | None = None

    async def run(self, receive: Any) -> None:
        """Run the connection from `opened` to `closed`. `receive` is ASGI's."""
        self._receiver = asyncio.create_task(self._receive_all(receive))
        self._sender = asyncio.create_task(self._send_all())
        gone = (ABNORMAL, "")
        assert self._connection is not None
        self._connection.opened(self)
        try:
            await asyncio.wait((self._receiver, self._sender), return_when=asyncio.FIRST_COMPLETED)
            if self._closed_with is not None:
                # Our goodbye is on its way; the peer may or may not answer it.
                await asyncio.wait((self._sender,), timeout=CLOSE_TIMEOUT)
                await self._await_end(self._receiver)
            if self._receiver.done() and not self._receiver.cancelled():
                gone = self._receiver.result()
        finally:
            self._open = False
            self._all_congested.discard(self)
            for task in (self._receiver, self._sender):
                task.cancel()
            self._has_ended = True
            # Before anything is awaited: under anyio a cancelled application is cancelled again at each await.
            if self._connection is not None:
                self._connection.closed(*(self._closed_with or gone))
            self._let_go()
            await asyncio.wait((self._receiver, self._sender))

    @abstractmethod
    async def _receive_all(self, receive: Any) -> tuple[int, str]:
        """Take what the client sends until it is gone; returns its close code and reason."""

    @abstractmethod
    async def _send_block(self, block: bytes) -> None:
        """Send one written block."""

    @abstractmethod
    async def _send_end(self, code: CloseCode) -> None:
        """Send the message that makes the server close the connection."""

    @abstractmethod
    async def _await_end(self, receiver: "asyncio.Task[tuple[int, str]]") -> None:
        """Our goodbye is sent: give the peer time for its own, if the protocol has one."""

    # Transport port

    def _write(self, block: bytes) -> None:
        if not self._open:
            return
        self._blocks.append(block)
        self._size += len(block)
        self._work.set()
        if self._size > HIGH_WATER and self not in self._all_congested:
            self._all_congested.add(self)
            self._congested_at = asyncio.get_running_loop().time()
            if self._connection is not None:
                self._connection.pause_writing()

    def close(self, code: CloseCode, goodbye: bytes) -> None:
        """Close once everything written has been sent."""
        if not self._open:
            return
        self._open = False
        self._closed_with = code
        self._say(goodbye)
        self._work.set()
        self._readable.set()
        self._deadline = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._cancel)

    def _say(self, goodbye: bytes) -> None:
        """Queue a goodbye, unless the server has one of its own."""
        if goodbye:
            self._blocks.append(goodbye)
            self._size += len(goodbye)

    def drive(self, connection: Connection) -> None:
        """Switch to another connection; the previous one is told nothing more, not even `closed`."""
        if self._has_ended:
            connection.closed(ABNORMAL, "")
            return
        self._connection = connection
        if self in self._all_congested:
            connection.pause_writing()

    def release(self, goodbye: bytes) -> None:
        """The connection continues on another transport."""
        self._connection = None
        # Servers write their own close frame, which must not contain 1006 (RFC 6455 section 7.4.1).
        self.close(CloseCode(1000, "moved"), goodbye)

    def abort(self) -> None:
        """Leave the application, which makes the server drop the socket."""
        self._open = False
        self._cancel()

    def authenticated(self) -> None:
        """The client proved who it is."""
        self._place.authenticated()

    def pause_reading(self) -> None:
        """Stop asking the server for messages."""
        if self._open:
            self._readable.clear()

    def resume_reading(self) -> None:
        """Ask the server for messages again."""
        self._readable.set()

    # Called by the node's memory budget. The server's own buffers are not known here.

    concerned = 1

    @property
    def held(self) -> int:
        """As a Holder: bytes that the client has not read."""
        return counted_unread(self._size, self._congested_at)

    @property
    def payer(self) -> str | None:
        """The client's address."""
        return self._place.waits_at or None

    def shed(self) -> None:
        """Drop the connection: others need the memory."""
        if self._open and self._connection is not None:
            self._connection.shed()
        self.abort()

    # The task that sends

    async def _send_all(self) -> None:
        """Send what is written until the connection closes."""
        # What servers raise when the client is gone: OSError according to ASGI, RuntimeError in older servers.
        with suppress(OSError, RuntimeError):
            while self._blocks or self._open:
                while self._blocks:
                    block = self._blocks.popleft()
                    await self._send_block(block)
                    self._sent(len(block))
                if self._open:
                    self._work.clear()
                    await self._work.wait()
            if self._closed_with is not None:
                await self._send_end(self._closed_with)

    def _sent(self, size: int) -> None:
        self._size -= size
        if self._size < LOW_WATER and self in self._all_congested:
            self._all_congested.discard(self)
            if self._open and self._connection is not None:
                self._connection.resume_writing()

    def _let_go(self) -> None:
        """Break the reference cycles, which otherwise only the garbage collector would find."""
        self.write = _discard
        self._connection = None
        if self._deadline is not None:
            self._deadline.cancel()

    def _cancel(self) -> None:
        for task in (self._receiver, self._sender):
            if task is not None:
                task.cancel()


def _discard(block: bytes) -> None:
    """What is written to a transport that has ended."""
