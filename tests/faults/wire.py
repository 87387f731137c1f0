"""Client connections that cost little: a WebSocket and an HTTP connection on asyncio protocols, and nothing beyond."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from tests.transports.raw import handshake, masked

_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
# Small enough that a client that does not read is felt soon.
RECEIVE_BUFFER = 128 * 1024
CONNECT_SECONDS = 3.0
# The code of a connection that ended without a close frame (RFC 6455 section 7.4.1).
ABNORMAL = 1006


class WireError(Exception):
    """The connection could not be made, ended, or carried what it must not."""


async def _open(port: int, factory: Callable[[], Any]) -> Any:
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.sock_connect(connection, ("127.0.0.1", port))
            return (await loop.create_connection(factory, sock=connection))[1]
    except (OSError, TimeoutError) as error:
        connection.close()
        raise WireError(f"no connection to port {port}: {error}") from None
    except BaseException:
        connection.close()
        raise


class WebSocket(asyncio.Protocol):
    """A WebSocket of text frames."""

    def __init__(self, on_text: Callable[[bytes], None], on_closed: Callable[[int, str], None]) -> None:
        """`on_closed` is called once, with the code and the reason of the close frame."""
        self._on_text = on_text
        self._on_closed = on_closed
        self._buffer = b""
        self._upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end: tuple[int, str] = (ABNORMAL, "")
        self.closed = False
        self.transport: asyncio.Transport | None = None

    @classmethod
    async def connect(
        cls, port: int, path: str, on_text: Callable[[bytes], None], on_closed: Callable[[int, str], None]
    ) -> "WebSocket":
        """Raises WireError; then `on_closed` is not called."""
        websocket = cast(WebSocket, await _open(port, lambda: cls(on_text, on_closed)))
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await websocket._upgrade(path)
        except TimeoutError:
            websocket.abort()
            raise WireError("no answer to the handshake") from None
        except BaseException:
            websocket.abort()
            raise
        return websocket

    async def _upgrade(self, path: str) -> None:
        assert self.transport is not None
        self.transport.write(handshake(path))
        await self._upgraded

    def send(self, text: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(masked(_TEXT, text))

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._upgraded.done() and not self._upgraded.cancelled() and self._upgraded.exception() is None:
            self._on_closed(*self._end)
        elif not self._upgraded.done():
            self._upgraded.set_exception(WireError("closed in the handshake"))

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._upgraded.done():
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._upgraded.set_exception(WireError(f"refused: {head.splitlines()[0].decode()}"))
                return
            self._buffer = rest
            self._upgraded.set_result(None)
            # Before the caller knows the connection nothing can come: the server waits for the first command.
        self._read_frames()

    def _read_frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) >= at + 2:
            opcode, length, start = buffer[at], buffer[at + 1], at + 2
            if length == 126:
                start += 2
                length = int.from_bytes(buffer[at + 2 : start], "big")
            elif length == 127:
                start += 8
                length = int.from_bytes(buffer[at + 2 : start], "big")
            if len(buffer) < start + length:
                break
            self._frame(opcode, buffer[start : start + length])
            at = start + length
        self._buffer = buffer[at:]

    def _frame(self, first: int, payload: bytes) -> None:
        if first == 0x80 | _TEXT:
            self._on_text(payload)
        elif first == 0x80 | _CLOSE:
            self._end = (int.from_bytes(payload[:2], "big") or 1005, payload[2:].decode())
            assert self.transport is not None
            self.transport.close()
        elif first == 0x80 | _PING and self.transport is not None:
            self.transport.write(masked(_PONG, payload))


class HttpConnection(asyncio.Protocol):
    """Requests one after the other on one connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.closed = False

    @classmethod
    async def connect(cls, port: int) -> "HttpConnection":
        """Raises WireError."""
        return cast(HttpConnection, await _open(port, cls))

    async def ask(self, method: str, path: str, body: bytes, seconds: float) -> tuple[int, bytes]:
        """Status and body. Raises WireError, after which the connection is of no use any more."""
        if self.closed or self._transport is None:
            raise WireError("closed before the request was sent")
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head.encode() + b"\r\n\r\n" + body)
        try:
            async with asyncio.timeout(seconds):
                return await self._answer
        except TimeoutError:
            self.close()
            raise WireError(f"no answer within {seconds:g} s") from None
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(WireError("closed before the answer came"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if len(body) < length:
            return
        self._buffer = body[length:]
        if b"connection: close" in lines:
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(lines[0].split(b" ")[1]), body[:length]))
