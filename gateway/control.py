"""Control messages between nodes, and what nodes report about themselves."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, NewType

import msgspec

from gateway.json_text import check_line
from gateway.messages import Position

NodeId = NewType("NodeId", str)

END_OF_TIME = 2**53
# Unix time in seconds, 0 for never.
UnixTime = Annotated[int, msgspec.Meta(ge=0, le=END_OF_TIME)]
# Close codes above those of RFC 6455 and of frameworks (section 7.4.2).
ClosesWith = Annotated[int, msgspec.Meta(ge=3000, le=4999)]

# Control messages: from one node to all nodes. Decoding checks the types; `check` checks the rest.


class DisconnectUser(msgspec.Struct, frozen=True, tag="disconnect"):
    app: str
    user: str
    # Only this connection, when not empty.
    client: str = ""
    whitelist: tuple[str, ...] = ()
    code: ClosesWith = 3503
    reason: str = "force disconnect"


class SubscribeUser(msgspec.Struct, frozen=True, tag="subscribe"):
    app: str
    user: str
    channel: str
    client: str = ""
    # JSON texts, empty for none.
    info: bytes = b""
    data: bytes = b""
    expire_at: UnixTime = 0
    # Deliver what came after this position first.
    since: Position | None = None


class UnsubscribeUser(msgspec.Struct, frozen=True, tag="unsubscribe"):
    app: str
    user: str
    # Every channel, when empty.
    channel: str = ""
    client: str = ""


class RefreshUser(msgspec.Struct, frozen=True, tag="refresh"):
    app: str
    user: str
    client: str = ""
    expired: bool = False
    expire_at: UnixTime = 0


class RevokeTokens(msgspec.Struct, frozen=True, tag="revoke"):
    """Close what uses the tokens of a user (issued before `issued_before`, Unix seconds), or one token by its id."""

    app: str
    user: str = ""
    jti: str = ""
    issued_before: UnixTime = 0
    # As in a Revocation.
    expire_at: UnixTime = 0


class KickUser(msgspec.Struct, frozen=True, tag="kick"):
    """End a user's subscriptions to a channel; tokens issued before `issued_before` (Unix seconds) do not open it.

    (Not a RevokeTokens with a channel: a node that did not know the field would revoke all tokens of the user.)
    """

    app: str
    user: str
    channel: Annotated[str, msgspec.Meta(min_length=1)]
    issued_before: UnixTime = 0
    # As in a Revocation.
    expire_at: UnixTime = 0


class DrainNode(msgspec.Struct, frozen=True, tag="drain"):
    """Send the clients of one node to the others."""

    uid: NodeId


class ReloadSettings(msgspec.Struct, frozen=True, tag="reload"):
    """Read the settings again: on one node, or on all when `uid` is empty."""

    uid: NodeId = NodeId("")


class LearnRevocations(msgspec.Struct, frozen=True, tag="learn"):
    """Read the revocations again: the registry had lost some."""


Control = (
    DrainNode
    | ReloadSettings
    | LearnRevocations
    | DisconnectUser
    | SubscribeUser
    | UnsubscribeUser
    | RefreshUser
    | RevokeTokens
    | KickUser
)


def check(message: Control) -> None:
    """Raises ValueError for invalid JSON: it is spliced into lines that clients get."""
    if isinstance(message, SubscribeUser):
        for text in (message.info, message.data):
            if text:
                check_line(text)
        if message.since is not None and message.since.offset < 0:
            raise ValueError("a negative offset")


class Reloaded(msgspec.Struct, frozen=True):
    """The outcome of a reload on one node."""

    uid: NodeId
    # Why nothing was changed; empty after a success.
    error: str = ""
    # Dotted names of settings that have new values now.
    changed: list[str] = []
    # Dotted names of settings that have new values in the sources and need a restart.
    needs_restart: list[str] = []


# The answer of a node to a control message: the connections it acted on, or the outcome of a reload that it carried
# out.
Answer = int | Reloaded


class ControlResult(NamedTuple):
    """The outcome of a control message: nodes that were alive, nodes that answered, connections it acted on."""

    nodes: int
    replies: int
    affected: int
    reloaded: Sequence[Reloaded] = ()

    @classmethod
    def of(cls, nodes: int, answers: Sequence[Answer]) -> "ControlResult":
        reloaded = tuple(answer for answer in answers if isinstance(answer, Reloaded))
        return cls(nodes, len(answers), sum(answer for answer in answers if isinstance(answer, int)), reloaded)


class NodeInfo(msgspec.Struct, frozen=True):
    """What a node reports about itself in its lease."""

    uid: NodeId
    name: str
    version: str
    # Unix time in seconds at which the node started.
    started_at: int
    # Where clients reach this node directly; empty if not configured.
    url: str = ""
    # host:port of the node's internal listener; empty when it has none.
    internal_address: str = ""
    num_clients: int = 0
    num_users: int = 0
    num_subs: int = 0
    num_channels: int = 0
    # It sends its clients to other nodes.
    draining: bool = False
    # Version of the messages on the bus; 0 if unknown.
    bus: int = 0
    # Digests of the settings that have to be equal on all nodes, by section.
    settings: dict[str, str] = {}
    # CPU time used since the start (s) and resident memory (bytes).
    cpu_seconds: float = 0.0
    rss: int = 0


# Seconds that a revocation is kept beyond its `expire_at`: tokens are accepted for auth.leeway longer, connections live
# for heartbeat.expired_grace longer, and clocks differ.
KEPT_BEYOND = 7_200


class Revocation(msgspec.Struct, frozen=True):
    """Tokens no longer accepted: those of `user` issued before `issued_before`, or the one with `jti`.

    With `channel` (a kick), the tokens of `user` no longer open this channel, and are otherwise good.
    """

    app: str
    user: str = ""
    jti: str = ""
    issued_before: UnixTime = 0
    # When these tokens have expired by themselves; 0: never.
    expire_at: UnixTime = 0
    channel: str = ""

    def is_over(self, now: float) -> bool:
        """Whether it may be forgotten."""
        return 0 < self.expire_at <= now - KEPT_BEYOND

    def joined(self, other: "Revocation") -> "Revocation":
        """The union of two revocations of the same tokens: neither weakens the other."""
        return Revocation(
            self.app,
            self.user,
            self.jti,
            max(self.issued_before, other.issued_before),
            max(self.expire_at, other.expire_at) if self.expire_at and other.expire_at else 0,
            self.channel,
        )


class ChannelCount(NamedTuple):
    """A channel with the number of its subscriptions in the whole cluster."""

    name: str
    num_clients: int


class ChannelPage(NamedTuple):
    """Some channels in the order of the registry; `cursor` continues, and is empty at the end."""

    channels: list[ChannelCount]
    cursor: str
