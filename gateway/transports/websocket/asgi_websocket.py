"""A WebSocket over plain ASGI. Behaves like one on its own socket."""

import asyncio
from typing import Any

from gateway.errors import CloseCode
from gateway.metrics import LabelledCounter
from gateway.session.transport import Connection
from gateway.transports.admission import Place
from gateway.transports.asgi_transport import AsgiTransport
from gateway.transports.socket_transport import CLOSE_TIMEOUT
from gateway.transports.websocket.frames import INVALID_DATA, NO_STATUS, PING, TEXT, TOO_BIG, unframe


class AsgiWebSocket(AsgiTransport):
    """Takes the encoder's frames apart again, since ASGI sends messages."""

    def __init__(
        self,
        connection: Connection,
        send: Any,
        place: Place,
        congested: set[AsgiTransport],
        *,
        message_size: int,
        protocol_errors: LabelledCounter,
    ) -> None:
        """Made after `websocket.accept`. `message_size`: the most bytes of a client's message."""
        super().__init__(connection, send, place, congested)
        self._message_size = message_size
        self._protocol_errors = protocol_errors

    async def _receive_all(self, receive: Any) -> tuple[int, str]:
        while True:
            await self._readable.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self._open = False
                return message.get("code") or NO_STATUS, message.get("reason") or ""
            # Reading may have been paused while the server waited for a message.
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
        if self._connection is not None:
            self._connection.received(data, binary=text is None)

    def _fail(self, code: CloseCode) -> None:
        self._protocol_errors.add(code.reason)
        self.close(code, b"")

    def _say(self, goodbye: bytes) -> None:
        """Nothing: the server writes the close frame."""

    async def _await_end(self, receiver: "asyncio.Task[tuple[int, str]]") -> None:
        """RFC 6455 section 7.1.2: wait for the peer's close frame."""
        await asyncio.wait((receiver,), timeout=CLOSE_TIMEOUT)

    async def _send_block(self, block: bytes) -> None:
        for opcode, data in unframe(block):
            await self._send_one(opcode, data)

    async def _send_one(self, opcode: int, data: bytes) -> None:
        if opcode == PING:
            # ASGI has no pings: the server sends its own, and closes connections that do not answer.
            if self._connection is not None:
                self._connection.ponged()
        elif opcode == TEXT:
            await self._send({"type": "websocket.send", "text": data.decode()})
        else:
            await self._send({"type": "websocket.send", "bytes": data})

    async def _send_end(self, code: CloseCode) -> None:
        await self._send({"type": "websocket.close", "code": code.code, "reason": code.reason})
