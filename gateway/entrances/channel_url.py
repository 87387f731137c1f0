"""Clients whose request names their only channel, and which send neither connect nor subscribe."""

from gateway.auth.token_verifier import is_subscription_token
from gateway.entrances.credentials import position
from gateway.entrances.entrance import Welcome
from gateway.messages import Connect, Subscribe
from gateway.transports.handshake import Handshake


def one_channel(handshake: Handshake, token: str, subprotocol: str | None = None) -> Welcome:
    """Connects with the token (of a connection, or of a subscription to the channel), and subscribes.

    The channel is the part of the path that the route calls so; `?since=EPOCH:OFFSET` asks for what was missed.
    """
    channel = handshake.path_params["channel"]
    if handshake.path.endswith("\n"):
        # Patterns of routes end before it (`$`); the name is no other channel's, but not a valid one.
        channel += "\n"
    by_grant = is_subscription_token(token)
    since = position(handshake.parameter("since"))
    initial = (
        Connect(1, token, by_grant=by_grant, positions={channel: since} if since else {}),
        Subscribe(2, channel, token if by_grant else "", since=since),
    )
    return Welcome(channel, initial, subprotocol)
