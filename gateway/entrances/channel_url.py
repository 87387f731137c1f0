"""Clients whose URL names their only channel, and which send neither connect nor subscribe."""

from gateway.auth.token_verifier import is_subscription_token
from gateway.entrances.credentials import misplaced, position
from gateway.entrances.entrance import Welcome
from gateway.messages import Connect, Subscribe
from gateway.transports.handshake import Handshake


def one_channel(handshake: Handshake, token: str, subprotocol: str | None = None, *, position_in: str = "") -> Welcome:
    """Connect with the token (for a connection, or for a subscription to the channel), and subscribe.

    The route's path parameter `channel` names the channel. EPOCH:OFFSET in the header `position_in`, or else in
    `?since=`, asks for missed publications.
    """
    channel = handshake.path_params["channel"]
    if handshake.path.endswith("\n"):
        # The `$` of route patterns matches before it. Kept, so that the name is invalid, not another channel's.
        channel += "\n"
    by_grant = is_subscription_token(token)
    since, malformed = None, ""
    in_header = handshake.header(position_in) if position_in else ""
    try:
        since = position(in_header or handshake.parameter("since"))
    except ValueError:
        malformed = f"{position_in if in_header else 'since'} is not EPOCH:OFFSET"
    initial = (
        Connect(
            1,
            token,
            by_grant=by_grant,
            positions={channel: since} if since else {},
            malformed=malformed,
            hint="" if token else misplaced(handshake),
        ),
        Subscribe(2, channel, token if by_grant else "", since=since),
    )
    return Welcome(channel, initial, subprotocol=subprotocol)
