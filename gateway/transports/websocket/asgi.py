"""A WebSocket over plain ASGI: any server, Starlette's test client. Behaves as the fast path, at a higher price."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from gateway.errors import CloseCode
from gateway.metrics import LabelledCounter
from gateway.session.transport import Connection, Write
from gateway.transports.admission import Place
from gateway.transports.websocket.fast_path import CLOSE_TIMEOUT, HIGH_WATER, LOW_WATER, counted_unread
from gateway.transports.websocket.frames import ABNORMAL, INVALID_DATA, NO_STATUS, PING, TEXT, TOO_BIG, unframe


class AsgiTransport:
    """Implements the Transport port of sessions with two tasks, one that receives and one that sends."""

    def __init__(
        self,
        connection: Connection,
        send: Any,
        place: Place,
        message_size: int,
        protocol_errors: LabelledCounter,
        congested: "set[AsgiTransport]",
    ) -> None:
        """`send` is that of ASGI, after `websocket.accept`. `message_size`: bytes of a client's message at most.

        `congested` holds those whose clients do not read.
        """
        self.write: Write = self._write
        self._connection = connection
        self._send = send
        self._place = place
        self._message_size = message_size
        self._protocol_errors = protocol_errors
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._all_congested = congested
        self._congested_at = 0.0
        self._open = True
        self._closed_with: CloseCode | None = None
        self._work = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._receiver: asyncio.Task[tuple[int, str]] | None = None
        self._sender: asyncio.Task[None] | None = None

    async def run(self, receive: Any) -> None:
        """The life of the connection, from `opened` to `closed`. `receive` is that of ASGI."""
        self._receiver = asyncio.create_task(self._receive_all(receive))
        self._sender = asyncio.create_task(self._send_all())
        gone = (ABNORMAL, "")
        self._connection.opened(self)
        try:
            await asyncio.wait((self._receiver, self._sender), return_when=asyncio.FIRST_COMPLETED)
            if self._closed_with is not None:
                # Our close frame is on its way: the peer answers it, or does not.
                await asyncio.wait((self._receiver,), timeout=CLOSE_TIMEOUT)
            if self._receiver.done() and not self._receiver.cancelled():
                gone = self._receiver.result()
        finally:
            self._open = False
            self._all_congested.discard(self)
            for task in (self._receiver, self._sender):
                task.cancel()
            # Before anything is awaited: under anyio a cancelled application is cancelled again at each await.
            self._connection.closed(*(self._closed_with or gone))
            await asyncio.wait((self._receiver, self._sender))

    # Transport port

    def _write(self, frames: bytes) -> None:
        if not self._open:
            return
        self._frames.append(frames)
        self._size += len(frames)
        self._work.set()
        if self._size > HIGH_WATER and self not in self._all_congested:
            self._all_congested.add(self)
            self._congested_at = asyncio.get_running_loop().time()
            self._connection.pause_writing()

    def close(self, code: CloseCode) -> None:
        """Let the server do the closing handshake, behind all that was written."""
        if not self._open:
            return
        self._open = False
        self._closed_with = code
        self._work.set()
        self._readable.set()
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._cancel)

    def abort(self) -> None:
        """Leave the application, at which the server drops the socket."""
        self._open = False
        self._cancel()

    def authenticated(self) -> None:
        """The client proved who it is."""
        self._place.authenticated()

    def pause_reading(self) -> None:
        """Ask the server for no more messages."""
        if self._open:
            self._readable.clear()

    def resume_reading(self) -> None:
        """Go on asking."""
        self._readable.set()

    # Called by the budget of the node. What the server keeps of its own is not known here.

    concerned = 1

    @property
    def held(self) -> int:
        """As a Holder: bytes that the client does not read."""
        return counted_unread(self._size, self._congested_at)

    @property
    def payer(self) -> str | None:
        """Its address."""
        return self._place.waits_at or None

    def shed(self) -> None:
        """Others need the memory."""
        if self._open:
            self._connection.shed()
        self.abort()

    # The two tasks

    async def _receive_all(self, receive: Any) -> tuple[int, str]:
        """Deliver messages until the client is gone; its close code and reason."""
        while True:
            await self._readable.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self._open = False
                return message.get("code") or NO_STATUS, message.get("reason") or ""
            # Paused while the server waited for a message.
            await self._readable.wait()
            if self._open:
                self._deliver(message)

    def _deliver(self, message: Any) -> None:
        text = message.get("text")
        try:
            data: bytes = message["bytes"] if text is None else text.encode()
        except UnicodeEncodeError:
            self._fail(CloseCode(INVALID_DATA, "invalid UTF-8"))
            return
        if len(data) > self._message_size:
            self._fail(CloseCode(TOO_BIG, "message too big"))
            return
        self._connection.received(data, binary=text is None)

    def _fail(self, code: CloseCode) -> None:
        self._protocol_errors.add(code.reason)
        self.close(code)

    async def _send_all(self) -> None:
        """Send what is written until the connection closes."""
        # What servers raise for a client that is gone: OSError says ASGI, RuntimeError do older ones.
        with suppress(OSError, RuntimeError):
            while self._frames or self._open:
                while self._frames:
                    frames = self._frames.popleft()
                    for opcode, data in unframe(frames):
                        await self._send_one(opcode, data)
                    self._sent(len(frames))
                if self._open:
                    self._work.clear()
                    await self._work.wait()
            if self._closed_with is not None:
                code, reason = self._closed_with
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _send_one(self, opcode: int, data: bytes) -> None:
        if opcode == PING:
            # ASGI has no pings: the server sends its own, and ends the connection that does not answer.
            self._connection.ponged()
        elif opcode == TEXT:
            await self._send({"type": "websocket.send", "text": data.decode()})
        else:
            await self._send({"type": "websocket.send", "bytes": data})

    def _sent(self, size: int) -> None:
        self._size -= size
        if self._size < LOW_WATER and self in self._all_congested:
            self._all_congested.discard(self)
            if self._open:
                self._connection.resume_writing()

    def _cancel(self) -> None:
        for task in (self._receiver, self._sender):
            if task is not None:
                task.cancel()
