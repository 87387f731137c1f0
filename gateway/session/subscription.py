"""One subscription of one session."""

from gateway.messages import Channel


class Subscription:
    """Exists from the request on; `acquired` once the channel reaches the node, `joined` once it is delivered."""

    __slots__ = ("acquired", "channel", "expire_at", "info", "joined", "jti", "server_side")

    def __init__(
        self, channel: Channel, *, server_side: bool, info: bytes = b"", expire_at: int = 0, jti: str = ""
    ) -> None:
        """`info` is the chan_info of publications (JSON); `expire_at` in Unix seconds, 0 for never."""
        self.channel = channel
        self.acquired = False
        self.joined = False
        self.server_side = server_side
        self.info = info
        self.expire_at = expire_at
        self.jti = jti
