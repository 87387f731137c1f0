"""One subscription of one session."""

from gateway.auth.identity import Grant, Identity
from gateway.errors import UnsubscribeCode
from gateway.messages import Channel, Destination
from gateway.session.ports import Joiner


class Subscription:
    """Exists from the request on; `acquired` once the channel reaches the node, `joined` once it is delivered."""

    __slots__ = (
        "acquired",
        "alone",
        "channel",
        "delta",
        "ending",
        "expire_at",
        "extended",
        "grant",
        "info",
        "joined",
        "joiner",
        "kicked",
        "lane",
        "note",
        "opened_by",
        "server_side",
    )

    def __init__(self, channel: Channel, *, server_side: bool, info: bytes = b"", expire_at: int = 0) -> None:
        """`info` is the chan_info of publications (JSON); `expire_at` in Unix seconds, 0 for never."""
        self.channel = channel
        self.acquired = False
        self.joined = False
        # Set while it joins a channel with history or latest values.
        self.joiner: Joiner | None = None
        # What it joins in the hub, and whether its publications are written as deltas.
        self.lane: Destination = channel
        self.delta = False
        # Whether it is encoded as for who has no other (Encoder.single).
        self.alone = False
        self.server_side = server_side
        self.info = info
        self.expire_at = expire_at
        # `expire_at` is the application's: it is asked to extend the subscription, and the client is not told.
        self.extended = False
        # What it relies on: a subscription token, or the connection token that names it.
        self.grant: Grant | None = None
        self.opened_by: Identity | None = None
        # Set when it has to end as soon as the client has been told that it began.
        self.ending: UnsubscribeCode | None = None
        # The key under which it is noted for the application; empty if it is not.
        self.note = ""
        # The user was kicked from the channel while this was in progress: it must not begin.
        self.kicked = False

    def renew(self, grant: Grant) -> None:
        """Rely on this subscription token from now on."""
        self.grant = grant
        self.info = grant.info
        self.expire_at = grant.expire_at
