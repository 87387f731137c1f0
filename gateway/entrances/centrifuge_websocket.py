"""The native protocol over WebSocket, in JSON or Protobuf: clients send a connect command, then any others."""

from gateway.entrances.entrance import Entrance, OverWebSocket, Welcome
from gateway.entrances.subprotocols import refusal
from gateway.protocols.centrifuge import CentrifugeProtocol, SilentCentrifugeProtocol
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobufProtocol, SilentCentrifugeProtobufProtocol
from gateway.protocols.wire_protocol import WireProtocol
from gateway.transports.handshake import Handshake

JSON = "centrifuge-json"
PROTOBUF = "centrifuge-protobuf"
SPEAKS = (
    f"this path speaks JSON (subprotocol {JSON}, or none) and Protobuf (subprotocol {PROTOBUF}, or ?format=protobuf)"
)
# By whether they are for tools such as wscat, which answer pings of WebSocket but not those of the protocol.
_JSON: dict[bool, WireProtocol] = {False: CentrifugeProtocol(), True: SilentCentrifugeProtocol()}
_PROTOBUF: dict[bool, WireProtocol] = {False: CentrifugeProtobufProtocol(), True: SilentCentrifugeProtobufProtocol()}


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    """Raises HandshakeRefused for what is not spoken: such a client would not understand a single message."""
    is_asked = "protobuf" in (handshake.parameter("cf_protocol"), handshake.parameter("format"))
    is_silent = handshake.parameter("cf_ws_frame_ping_pong") == "true"
    # Who offers both gets JSON, as from the server of this protocol.
    spoken = (PROTOBUF,) if is_asked else (JSON, PROTOBUF)
    chosen = next((each for each in spoken if each in handshake.subprotocols), None)
    if handshake.subprotocols and chosen is None:
        asked = "Protobuf by its URL and another subprotocol" if is_asked else "no known subprotocol"
        raise refusal(handshake, SPEAKS, asked)
    is_protobuf = is_asked or chosen == PROTOBUF
    return Welcome(subprotocol=chosen, variant=(_PROTOBUF if is_protobuf else _JSON)[is_silent])


CENTRIFUGE_WEBSOCKET = Entrance(
    name="centrifuge",
    path="/connection/websocket",
    carrier=OverWebSocket(),
    protocol=_JSON[False],
    welcome=_welcome,
)
