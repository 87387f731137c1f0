"""The native protocol where no WebSocket gets through: replies in an HTTP response, commands in requests of their own.

This is what SDKs call emulation. The first commands come with the request that opens the connection: as its body, or as
its parameter `cf_connect`.
"""

from gateway.entrances.entrance import Entrance, Welcome
from gateway.entrances.first_message import PROTOBUF_TYPE, first_message, is_protobuf, refusal
from gateway.entrances.stream_carriers import over_events, over_lines
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobufProtocol
from gateway.transports.handshake import Handshake

PROTOBUF = CentrifugeProtobufProtocol()


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    return _begun(Welcome(first=first_message(handshake)))


def _welcome_stream(handshake: Handshake, cookie: str) -> Welcome:
    """In Protobuf if the body is."""
    if not is_protobuf(handshake):
        return _welcome(handshake, cookie)
    return _begun(Welcome(first=handshake.body, is_binary=True, variant=PROTOBUF, content_type=PROTOBUF_TYPE))


def _begun(welcome: Welcome) -> Welcome:
    """Raises HandshakeRefused without a first message."""
    if not welcome.first:
        raise refusal(400, "no connect command", "send a connect command, as the body or as the parameter cf_connect")
    return welcome


CENTRIFUGE_SSE = Entrance(
    name="centrifuge",
    path="/connection/sse",
    carrier=over_events(is_emulated=True),
    protocol=CentrifugeProtocol(),
    welcome=_welcome,
)
CENTRIFUGE_HTTP_STREAM = Entrance(
    name="centrifuge",
    path="/connection/http_stream",
    carrier=over_lines(is_emulated=True),
    protocol=CentrifugeProtocol(),
    welcome=_welcome_stream,
)
