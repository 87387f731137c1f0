"""The unidirectional variants: for clients that only listen, such as an `EventSource`, `curl` or a few lines of code.

The connect request is the body of the request, or its parameter `cf_connect`, or the first message of a WebSocket. A
token may also be where all other clients have it. Tokens, hooks and the personal channel say what the client gets.
"""

from msgspec.structs import replace

from gateway.entrances.credentials import misplaced, token_of
from gateway.entrances.entrance import Entrance, OverWebSocket, Welcome
from gateway.entrances.first_message import first_message, refusal
from gateway.entrances.stream_carriers import over_events, over_lines
from gateway.errors import Disconnect
from gateway.messages import Connect
from gateway.protocols.centrifuge_commands import decode_connect
from gateway.protocols.centrifuge_uni import UniCentrifugeProtocol
from gateway.transports.handshake import Handshake

NAME = "centrifuge_uni"
PROTOCOL = UniCentrifugeProtocol()


def _connect(handshake: Handshake, cookie: str) -> Connect:
    """Raises HandshakeRefused for a connect request that is none."""
    try:
        request = decode_connect(first_message(handshake) or b"{}")
    except Disconnect as error:
        raise refusal(400, "malformed connect", f"not a connect request: {error.detach().detail}") from None
    token = request.token or token_of(handshake, cookie)
    return replace(request, token=token, hint="" if token else misplaced(handshake))


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    return Welcome(initial=(_connect(handshake, cookie),))


def _welcome_websocket(handshake: Handshake, cookie: str) -> Welcome:
    """Without `cf_connect`, the first message is awaited."""
    return _welcome(handshake, cookie) if handshake.parameter("cf_connect") else Welcome()


UNI_WEBSOCKET = Entrance(
    name=NAME,
    path="/connection/uni_websocket",
    carrier=OverWebSocket(),
    protocol=PROTOCOL,
    welcome=_welcome_websocket,
)
UNI_SSE = Entrance(
    name=NAME,
    path="/connection/uni_sse",
    carrier=over_events(is_emulated=False),
    protocol=PROTOCOL,
    welcome=_welcome,
)
UNI_HTTP_STREAM = Entrance(
    name=NAME,
    path="/connection/uni_http_stream",
    carrier=over_lines(is_emulated=False),
    protocol=PROTOCOL,
    welcome=_welcome,
)
