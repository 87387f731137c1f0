"""One channel over a plain WebSocket: bare messages without an envelope."""

from gateway.entrances.channel_url import one_channel
from gateway.entrances.credentials import token_of
from gateway.entrances.entrance import Entrance, OverWebSocket, Welcome
from gateway.entrances.subprotocols import refusal
from gateway.protocols.plain import PlainProtocol
from gateway.transports.handshake import Handshake

SPEAKS = "this path speaks no subprotocol but `token`, which a token has to follow"


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    """A token in `Sec-WebSocket-Protocol: token, TOKEN` takes precedence over all other places.

    Browsers can set no other header. Raises HandshakeRefused for all other subprotocols: browsers would give up a
    connection that accepts none of them.
    """
    offered = handshake.subprotocols
    if len(offered) == 2 and offered[0] == "token":
        return one_channel(handshake, offered[1], "token")
    if offered:
        raise refusal(handshake, SPEAKS)
    return one_channel(handshake, token_of(handshake, cookie))


PLAIN_WEBSOCKET = Entrance(
    name="plain", path="/ws/{channel:path}", carrier=OverWebSocket(), protocol=PlainProtocol(), welcome=_welcome
)
