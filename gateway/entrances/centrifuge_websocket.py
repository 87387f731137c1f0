"""The native protocol over WebSocket: clients send a connect command, then any others."""

from gateway.entrances.entrance import Entrance, OverWebSocket, Welcome
from gateway.entrances.subprotocols import refusal
from gateway.protocols.centrifuge import CentrifugeProtocol, SilentCentrifugeProtocol
from gateway.transports.handshake import Handshake

SUBPROTOCOL = "centrifuge-json"
PROTOBUF = "centrifuge-protobuf"
SPEAKS = f"this path speaks JSON (subprotocol {SUBPROTOCOL}, or none), and Protobuf is not available yet"
# For tools such as wscat, which answer pings of WebSocket but not those of the protocol.
SILENT = SilentCentrifugeProtocol()


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    """Raises HandshakeRefused for what is not spoken: such a client would not understand a single message."""
    offered = handshake.subprotocols
    if "protobuf" in (handshake.parameter("cf_protocol"), handshake.parameter("format")):
        raise refusal(handshake, SPEAKS, "Protobuf")
    if offered and SUBPROTOCOL not in offered:
        raise refusal(handshake, SPEAKS, "Protobuf" if PROTOBUF in offered else "no known subprotocol")
    variant = SILENT if handshake.parameter("cf_ws_frame_ping_pong") == "true" else None
    return Welcome(subprotocol=SUBPROTOCOL if offered else None, variant=variant)


CENTRIFUGE_WEBSOCKET = Entrance(
    name="centrifuge",
    path="/connection/websocket",
    carrier=OverWebSocket(),
    protocol=CentrifugeProtocol(),
    welcome=_welcome,
)
