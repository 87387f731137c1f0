"""An application that sends back what it gets, in both ways in which an endpoint may use a WebSocket."""

from contextlib import suppress

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.auth.origins import OriginPolicy
from gateway.config.settings import OriginSettings, ServerSettings
from gateway.extensions import FRAMING
from gateway.hub.encoder import Framing, PackingFraming
from gateway.metrics import Metrics
from gateway.protocols.wire_protocol import Message
from gateway.session.transport import Connection, Transport
from gateway.transports.admission import Admission
from gateway.transports.client_endpoint import Doorkeeping
from gateway.transports.handshake import Handshake
from gateway.transports.websocket.frames import WebSocketFraming
from gateway.transports.websocket.websocket_endpoint import WebSocketEndpoint


class Echo:
    """A connection that sends back what it gets."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._transport: Transport | None = None

    def opened(self, transport: Transport) -> None:
        self._transport = transport

    def received(self, data: bytes, *, binary: bool) -> None:
        assert self._transport is not None
        framing = self._framing
        pack = framing.pack if isinstance(framing, PackingFraming) else framing.frame
        self._transport.write(pack([Message(data, binary)]))

    def ponged(self) -> None:
        pass

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def closed(self, code: int, reason: str) -> None:
        self._transport = None

    def shed(self) -> None:
        pass

    def shutdown(self) -> None:
        pass


def _open(handshake: Handshake) -> tuple[Connection, str | None]:
    return Echo(handshake.scope.get("extensions", {}).get(FRAMING, WebSocketFraming())), None


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**message, "type": "websocket.send"})


def echo_app(settings: ServerSettings) -> Starlette:
    """At `/` a detached connection, as clients of the gateway have; at `/receive` an ASGI application's loop."""
    metrics = Metrics()
    endpoint = WebSocketEndpoint(
        Doorkeeping(OriginPolicy(OriginSettings(), ""), Admission(settings.limits, metrics), (), metrics),
        open_connection=_open,
        message_size=settings.limits.message_size,
    )
    return Starlette(routes=[WebSocketRoute("/", endpoint), WebSocketRoute("/receive", _echo)])
