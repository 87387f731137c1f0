"""The native protocol over WebSocket: clients send a connect command, then any others."""

from gateway.entrances.entrance import Entrance, OverWebSocket, Welcome
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.transports.handshake import Handshake

SUBPROTOCOL = "centrifuge-json"


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    return Welcome(subprotocol=SUBPROTOCOL if SUBPROTOCOL in handshake.subprotocols else None)


CENTRIFUGE_WEBSOCKET = Entrance(
    path="/connection/websocket", carrier=OverWebSocket(), protocol=CentrifugeProtocol(), welcome=_welcome
)
