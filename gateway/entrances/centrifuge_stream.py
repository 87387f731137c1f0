"""The native protocol where no WebSocket gets through: replies in an HTTP response, commands in requests of their own.

This is what SDKs call emulation. The first commands come with the request that opens the connection: as its body, or as
its parameter `cf_connect`.
"""

from gateway.entrances.entrance import Entrance, Welcome
from gateway.entrances.first_message import first_message
from gateway.entrances.stream_carriers import over_events, over_lines
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.transports.admission import Refusal
from gateway.transports.handshake import Handshake, HandshakeRefused


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    first = first_message(handshake)
    if not first:
        message = "send a connect command, as the body or as the parameter cf_connect"
        raise HandshakeRefused(Refusal(400, "no connect command", "", message), message)
    return Welcome(first=first)


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
    welcome=_welcome,
)
