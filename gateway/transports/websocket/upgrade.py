"""A WebSocket served by an ASGI application under uvicorn, until the application detaches it for a session."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

from gateway.errors import SLOW, CloseCode
from gateway.extensions import DETACH, FRAMING
from gateway.protocols.wire_protocol import Message
from gateway.session.transport import Connection, Transport
from gateway.transports.admission import Place
from gateway.transports.responses import error_response, header_lines, response
from gateway.transports.socket_transport import ABNORMAL, CLOSE_TIMEOUT, SocketOptions
from gateway.transports.websocket.compression import Agreement
from gateway.transports.websocket.frames import FrameParser, close_frame, frame
from gateway.transports.websocket.websocket_transport import WebSocketTransport

logger = logging.getLogger(__name__)

# Messages waiting for an application at which its socket is no longer read.
MOST_WAITING = 32
# Bytes held of a client that sends before it is accepted; at more its socket is not read.
MOST_EARLY = 65_536

SERVICE_RESTART = CloseCode(1012, "service restart")
INTERNAL_ERROR = CloseCode(1011, "internal error")
NORMAL_CLOSURE = CloseCode(1000, "")


class ClientDisconnected(OSError):
    """What `send` raises once the client is gone (ASGI, "Disconnected Client")."""


class _State(Enum):
    CONNECTING = "the application has not answered"
    ACCEPTED = "101 is written"
    REFUSING = "the application writes another response"
    REFUSED = "another response is written"


class Upgrade(asyncio.Protocol):
    """Runs the application; takes the socket's events until the handshake is done.

    An endpoint that finds DETACH in its scope may send `websocket.accept`, call `detach` with a Connection, and return.
    From then on callbacks drive the socket, and this object and its task are gone.
    """

    __slots__ = (
        "_accept_key",
        "_agreement",
        "_congested",
        "_early",
        "_headers",
        "_options",
        "_place",
        "_queue",
        "_reading",
        "_refusal",
        "_socket",
        "_state",
        "_transport",
    )

    def __init__(
        self,
        options: SocketOptions,
        transport: asyncio.Transport,
        place: Place | None,
        accept_key: bytes,
        default_headers: Iterable[tuple[bytes, bytes]],
        early: bytes,
        *,
        congested: bool = False,
        agreement: Agreement | None = None,
    ) -> None:
        """`early`: what the client sent after its handshake. `default_headers` go into every response.

        `congested`: the client has not read earlier responses yet. `agreement`: on the compression of messages.
        """
        self._agreement = agreement
        self._options = options
        self._transport = transport
        self._place = place
        self._accept_key = accept_key
        self._headers = default_headers
        self._early = early
        self._congested = congested
        self._state = _State.CONNECTING
        self._reading = True
        self._refusal: tuple[int, list[tuple[bytes, bytes]], bytes] = (0, [], b"")
        self._queue = AppConnection(agreement.framing.pack if agreement is not None else frame)
        self._socket: WebSocketTransport | None = None
        options.connections.add(self)
        transport.set_protocol(self)

    async def run(self, app: Any, scope: dict[str, Any]) -> None:
        """Serve one handshake. Adds the extensions to the scope, and does not keep it."""
        scope["extensions"] = {
            "websocket.http.response": {},
            DETACH: {"detach": self.detach, "place": self._place},
        }
        if self._agreement is not None:
            scope["extensions"][FRAMING] = self._agreement.framing
        code = INTERNAL_ERROR
        try:
            await app(scope, self._queue.receive, self.send)
            code = NORMAL_CLOSURE
        except ClientDisconnected:
            pass
        except Exception:
            logger.exception("error in the application")
        finally:
            self._end(code)

    def detach(self, connection: Connection, place: Place) -> None:
        """Give the socket to the connection; only after `websocket.accept`. When the socket ends, the place is left."""
        if self._socket is None:
            raise RuntimeError("the WebSocket is not accepted yet")
        socket, self._socket = self._socket, None
        waiting = self._queue.take()
        socket.resume_reading()
        socket.hand_over(connection, place)
        for data, binary in waiting:
            socket.receiver.received(data, binary=binary)

    async def send(self, message: Any) -> None:
        """The application's `send`. Raises OSError once the client is gone."""
        kind = message["type"]
        if self._state is _State.ACCEPTED:
            await self._queue.send(message)
        elif self._queue.is_closed:
            raise ClientDisconnected
        elif kind == "websocket.accept" and self._state is _State.CONNECTING:
            self._accept(message.get("subprotocol"), message.get("headers", ()))
        elif kind == "websocket.close" and self._state is _State.CONNECTING:
            self._refuse(error_response(403, "forbidden", self._headers))
        elif kind == "websocket.http.response.start" and self._state is _State.CONNECTING:
            self._state = _State.REFUSING
            self._refusal = (message["status"], list(message.get("headers", ())), b"")
        elif kind == "websocket.http.response.body" and self._state is _State.REFUSING:
            status, headers, body = self._refusal
            self._refusal = (status, headers, body + message.get("body", b""))
            if not message.get("more_body", False):
                self._refuse(_denial(*self._refusal, self._headers))
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def _accept(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
        answer = [(b"sec-websocket-accept", self._accept_key), *self._headers, *headers]
        if subprotocol:
            answer.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        if self._agreement is not None:
            answer.append((b"sec-websocket-extensions", self._agreement.answer))
        lines = header_lines([(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), *answer])
        self._transport.write(b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"\r\n"]))
        self._state = _State.ACCEPTED
        self._options.connections.discard(self)
        limits = self._options.message_size, self._options.fragments
        parser = FrameParser(*limits, self._early, deflate=self._agreement is not None)
        self._socket = WebSocketTransport(self._options, self._transport, parser, self._queue, self._place)
        self._queue.opened(self._socket)
        if self._congested:
            self._socket.pause_writing()
        if self._early:
            self._early = b""
            # Later, since an endpoint that detaches does so before the next turn of the loop.
            asyncio.get_running_loop().call_soon(self._socket.data_received, b"")
        if not self._reading:
            self._transport.resume_reading()

    def _refuse(self, answer: bytes) -> None:
        self._state = _State.REFUSED
        if not self._transport.is_closing():
            self._transport.write(answer)
            self._transport.close()
            if self._transport.get_write_buffer_size():
                # If the client does not read, the buffer would never empty.
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _end(self, code: CloseCode) -> None:
        """The application has returned or failed."""
        if self._state is _State.ACCEPTED:
            if self._socket is not None:
                _close(self._socket, code)
        elif self._state is not _State.REFUSED:
            self._refuse(error_response(500, "internal server error", self._headers))

    # Called by the event loop and the server, until `websocket.accept`

    def data_received(self, data: bytes) -> None:
        """The client sends before it is accepted: keep the data."""
        self._early += data
        if len(self._early) > MOST_EARLY and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._congested = True

    def resume_writing(self) -> None:
        """It read."""
        self._congested = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left before it was answered, or after it was refused."""
        self._options.connections.discard(self)
        if self._place is not None:
            self._place.leave()
        self._queue.closed(ABNORMAL, "")

    def abort(self) -> None:
        """Drop the socket at once."""
        self._transport.abort()

    def shutdown(self) -> None:
        """The server shuts down."""
        self._refuse(error_response(503, "shutdown", self._headers))


def _denial(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, default_headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    ours = (b"content-length", b"connection", b"transfer-encoding")
    kept = [(name, value) for name, value in headers if name.lower() not in ours]
    return response(status, [*default_headers, *kept], body)


class AppConnection:
    """The Connection port on one side, an application's `receive` and `send` on the other."""

    __slots__ = ("_frame", "_messages", "_transport", "_waiter", "_writable", "is_closed")

    def __init__(self, frame: Callable[[Sequence[Message]], bytes]) -> None:
        """`frame`: makes frames of messages."""
        self._frame = frame
        self._messages: deque[dict[str, Any]] = deque([{"type": "websocket.connect"}])
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: Transport | None = None
        self.is_closed = False

    # Connection port

    def opened(self, transport: Transport) -> None:
        self._transport = transport

    def received(self, data: bytes, *, binary: bool) -> None:
        self._put({"type": "websocket.receive", **({"bytes": data} if binary else {"text": data.decode()})})
        if len(self._messages) >= MOST_WAITING and self._transport is not None:
            self._transport.pause_reading()

    def ponged(self) -> None:
        """Applications are not told of pongs."""

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def closed(self, code: int, reason: str) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._writable.set()
        self._put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def shed(self) -> None:
        if self._transport is not None:
            _close(self._transport, SLOW)

    def shutdown(self) -> None:
        if self._transport is not None:
            _close(self._transport, SERVICE_RESTART)
            self.closed(*SERVICE_RESTART)

    # ASGI

    async def receive(self) -> dict[str, Any]:
        """The application's `receive`. After `websocket.disconnect` it keeps returning that."""
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._messages[0]["type"] == "websocket.disconnect":
            return self._messages[0]
        message = self._messages.popleft()
        if not self._messages and self._transport is not None:
            self._transport.resume_reading()
        return message

    async def send(self, message: Any) -> None:
        """The application's `send`, once accepted. Raises OSError once the client is gone."""
        await self._writable.wait()
        if self.is_closed or self._transport is None:
            raise ClientDisconnected
        if message["type"] == "websocket.send":
            data = message.get("bytes")
            one = Message(message["text"].encode()) if data is None else Message(data, binary=True)
            self._transport.write(self._frame([one]))
        elif message["type"] == "websocket.close":
            code = CloseCode(message.get("code", 1000), message.get("reason") or "")
            _close(self._transport, code)
            self.closed(*code)
        else:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")

    def take(self) -> list[tuple[bytes, bool]]:
        """Take the messages that the application has not received."""
        taken = [message for message in self._messages if message["type"] == "websocket.receive"]
        self._messages.clear()
        self._transport = None
        return [
            (message["bytes"], True) if "bytes" in message else (message["text"].encode(), False) for message in taken
        ]

    def _put(self, message: dict[str, Any]) -> None:
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _close(transport: Transport, code: CloseCode) -> None:
    transport.close(code, close_frame(*code))
