"""What nodes say to each other, and of themselves."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, NewType

import msgspec

from gateway.json_text import check_line
from gateway.messages import Position

NodeId = NewType("NodeId", str)

# Unix time in seconds, 0 for never.
UnixTime = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
# Of a WebSocket, above those of RFC 6455 and of transports (section 7.4.2).
ClosesWith = Annotated[int, msgspec.Meta(ge=3000, le=4999)]

# Control messages: from one node to all nodes. What is decoded was checked; `check` looks at what types cannot say.


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
    """Close what lives on the tokens of a user (issued until `issued_before`, Unix seconds), or on one token id."""

    app: str
    user: str = ""
    jti: str = ""
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
    """Read the revocations again: the registry had forgotten some."""


Control = (
    DrainNode
    | ReloadSettings
    | LearnRevocations
    | DisconnectUser
    | SubscribeUser
    | UnsubscribeUser
    | RefreshUser
    | RevokeTokens
)


def check(message: Control) -> None:
    """Raises ValueError for JSON that is none: it is spliced into what clients get, which are lines."""
    if isinstance(message, SubscribeUser):
        for text in (message.info, message.data):
            if text:
                check_line(text)
        if message.since is not None and message.since.offset < 0:
            raise ValueError("a negative offset")


class Reloaded(msgspec.Struct, frozen=True):
    """What became of a reload on one node."""

    uid: NodeId
    # Why everything is as it was before, empty when it is not.
    error: str = ""
    # Dotted names of settings that are others now.
    changed: list[str] = []
    # Of those that are others in the sources, and that a node takes only when it starts.
    needs_restart: list[str] = []


# What a node answers to a control message: connections it acted on, or what became of a reload that it was meant for.
Answer = int | Reloaded


class ControlResult(NamedTuple):
    """What became of a control message: nodes that were alive, nodes that answered, connections it acted on."""

    nodes: int
    replies: int
    affected: int
    reloaded: Sequence[Reloaded] = ()

    @classmethod
    def of(cls, nodes: int, answers: Sequence[Answer]) -> "ControlResult":
        reloaded = tuple(answer for answer in answers if isinstance(answer, Reloaded))
        return cls(nodes, len(answers), sum(answer for answer in answers if isinstance(answer, int)), reloaded)


class NodeInfo(msgspec.Struct, frozen=True):
    """What a node says of itself in its lease."""

    uid: NodeId
    name: str
    version: str
    # Unix time in seconds at which the node started.
    started_at: int
    # Where clients reach this very node; empty when nobody said.
    url: str = ""
    # host:port of the node's internal listener; empty when it has none.
    internal_address: str = ""
    num_clients: int = 0
    num_users: int = 0
    num_subs: int = 0
    num_channels: int = 0
    # It sends its clients away.
    draining: bool = False
    # Version of the messages on the bus; 0 when it does not say.
    bus: int = 0
    # Digests of the settings that all nodes have to agree in, by section.
    settings: dict[str, str] = {}
    # CPU time used since the start (s) and resident memory (bytes).
    cpu_seconds: float = 0.0
    rss: int = 0


# Seconds for which a revocation is known beyond its `expire_at`: tokens are accepted for auth.leeway longer, what lives
# on them for heartbeat.expired_grace, and clocks differ.
KEPT_BEYOND = 7_200


class Revocation(msgspec.Struct, frozen=True):
    """Tokens no longer accepted: those of `user` issued at or before `issued_before`, or the one with `jti`."""

    app: str
    user: str = ""
    jti: str = ""
    issued_before: UnixTime = 0
    # When these tokens have expired by themselves; 0: never.
    expire_at: UnixTime = 0

    def is_over(self, now: float) -> bool:
        """Whether it may be forgotten."""
        return 0 < self.expire_at <= now - KEPT_BEYOND

    def joined(self, other: "Revocation") -> "Revocation":
        """Of two about the same tokens, what both say: neither weakens the other."""
        return Revocation(
            self.app,
            self.user,
            self.jti,
            max(self.issued_before, other.issued_before),
            max(self.expire_at, other.expire_at) if self.expire_at and other.expire_at else 0,
        )


class ChannelCount(NamedTuple):
    """A channel with the number of its subscriptions in the whole cluster."""

    name: str
    num_clients: int


class ChannelPage(NamedTuple):
    """Some channels in the order of the registry; `cursor` continues, and is empty at the end."""

    channels: list[ChannelCount]
    cursor: str
