"""The ASGI application behind a WebSocket route: lets a client in, and hands its socket to a session."""

from collections.abc import Callable
from typing import Any

from gateway.extensions import DETACH
from gateway.session.transport import Connection
from gateway.transports.admission import Place
from gateway.transports.client_endpoint import Doorkeeping, Endpoint
from gateway.transports.handshake import Handshake, Scope
from gateway.transports.websocket.asgi_websocket import AsgiWebSocket

OpenWebSocket = Callable[[Handshake], tuple[Connection, str | None]]


class WebSocketEndpoint(Endpoint):
    """For a Starlette `WebSocketRoute`."""

    def __init__(self, shared: Doorkeeping, *, open_connection: OpenWebSocket, message_size: int = 65_536) -> None:
        """`open_connection` returns the connection and the subprotocol to accept, or raises HandshakeRefused.

        `message_size` limits the bytes of a message on plain ASGI.
        """
        super().__init__(shared)
        self._open_connection = open_connection
        self.message_size = message_size

    async def _take(self, scope: Scope, receive: Any, send: Any) -> bytes | None:
        return b"" if (await receive())["type"] == "websocket.connect" else None

    async def _let_in(self, handshake: Handshake, scope: Scope, receive: Any, send: Any, place: Place) -> bool:
        self._admit(handshake, place)
        connection, subprotocol = self._open_connection(handshake)
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        place.opened()
        detachment = scope.get("extensions", {}).get(DETACH)
        if detachment is not None:
            detachment["detach"](connection, place)
            return True
        transport = AsgiWebSocket(
            connection,
            send,
            place,
            self.congested,
            message_size=self.message_size,
            protocol_errors=self._metrics.protocol_errors,
        )
        place.drop = transport.abort
        await transport.run(receive)
        return False

    async def _refuse(
        self, scope: Scope, send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        if "websocket.http.response" not in scope.get("extensions", {}):
            # The server answers 403, the only refusal in ASGI without this extension.
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
