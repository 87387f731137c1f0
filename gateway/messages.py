"""Messages of the gateway, independent of any wire protocol: publications, joins and leaves, requests, replies."""

import enum
from collections.abc import Sequence
from typing import Literal, NamedTuple, NewType

import msgspec

ClientId = NewType("ClientId", str)

DEFAULT_APP = "default"


class Channel(NamedTuple):
    """A channel of one app (tenant). Two apps never share a channel, whatever its name."""

    app: str
    name: str


class Lane(NamedTuple):
    """The subscribers of a channel with latest values that share one interval."""

    app: str
    name: str
    # Seconds between two publications of a key.
    interval: float


# What subscribers join in the hub.
Destination = Channel | Lane


class User(NamedTuple):
    """A user of one app. An empty name is an anonymous client."""

    app: str
    name: str


class Kind(enum.IntEnum):
    """What the bytes of a publication are. JSON is valid UTF-8 without raw CR or LF; text is valid UTF-8."""

    JSON = 0
    TEXT = 1
    BINARY = 2


# Tags of latest values: the age of a value (ms) in the reply to a subscribe, and the removal of a key.
AGE = "age"
REMOVED = "removed"


class Position(NamedTuple):
    """A place in a channel's stream. Offsets count from 1; another epoch means another, incomparable stream."""

    offset: int
    epoch: str


class ClientInfo(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who published, or who is present. `conn_info` and `chan_info` are JSON texts."""

    user: str
    client: str
    conn_info: bytes = b""
    chan_info: bytes = b""


def member_footprint(member: ClientInfo) -> int:
    """Bytes of a member in an answer, without the punctuation."""
    return 2 * len(member.client) + len(member.user) + len(member.conn_info) + len(member.chan_info)


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One message of a channel, the same on the bus, in the stream and on its way to every wire protocol."""

    channel: Channel
    data: bytes
    kind: Kind = Kind.JSON
    offset: int = 0
    epoch: str = ""
    # When the gateway accepted it (Unix time in milliseconds); delivery latency is measured from here.
    time: int = 0
    # What it is, for protocols whose messages have a name.
    event: str = ""
    tags: dict[str, str] | None = None
    info: ClientInfo | None = None
    # This connection does not get it.
    exclude_client: str = ""
    version: int = 0


class Membership(msgspec.Struct, frozen=True, gc=False):
    """A join or leave. Travels like a publication, without a position."""

    channel: Channel
    info: ClientInfo
    joined: bool
    # Unix time in milliseconds.
    time: int = 0
    # Fields that the hub reads from publications.
    data: bytes = b""
    offset: int = 0
    exclude_client: str = ""


# Delivered to the subscribers of a channel.
Event = Publication | Membership


class PresenceRules(msgspec.Struct, frozen=True, gc=False):
    """Which joins and leaves are sent to the subscribers."""

    # "clients": of every connection. "users": of the first and the last connection of a user. "": none.
    events: Literal["", "clients", "users"] = ""
    # Members of the channel above which they are not sent, since the cost is quadratic.
    limit: int = 0
    # Seconds in which a user may come back before its leave is sent ("users").
    grace: float = 0.0


class MemberCounts(NamedTuple):
    """How many connections and users are in a channel. Anonymous connections count as one user."""

    clients: int
    users: int


class Retention(msgspec.Struct, frozen=True, gc=False):
    """How much of a channel's stream is kept: at most `size` publications, for `ttl` seconds after the newest.

    The position is kept much longer (`meta_ttl`, seconds): as long as it is known, offsets continue in the same epoch.
    """

    size: int
    ttl: int
    meta_ttl: int


class Latest(msgspec.Struct, frozen=True, gc=False):
    """How the newest values of a channel are kept: at most `keys`, in at most `size` bytes, each for `ttl` seconds.

    `tag` names the key.
    """

    tag: str
    keys: int
    ttl: int
    # Seconds between two publications of a key to a subscriber.
    interval: float
    size: int = 512 * 1024


class PublishOptions(msgspec.Struct, frozen=True, gc=False):
    """How to publish. With an idempotency key, repeating a publish within the window returns the first result."""

    idempotency_key: str = ""
    # Seconds for which the result is remembered.
    idempotency_ttl: int = 300
    # Also append to the channel's stream, which gives the publication its position.
    history: Retention | None = None
    # As the newest value of its key.
    latest: Latest | None = None
    # The series that the version belongs to: another one begins anew.
    version_epoch: str = ""


NO_OPTIONS = PublishOptions()


def latest_key(publication: Publication, latest: Latest) -> str:
    """The key of a publication in a channel with latest values."""
    return (publication.tags or {}).get(latest.tag, "")


def is_removal(publication: Publication) -> bool:
    """Whether it removes the value of its key."""
    return REMOVED in (publication.tags or {})


class PublishResult(NamedTuple):
    """The position of the publication in the stream; zero and empty for a channel without history.

    If its version was not newer than the newest known, it is not published, and this is the end of the stream.
    """

    offset: int = 0
    epoch: str = ""


PUBLISHED = PublishResult()


class HistoryQuery(msgspec.Struct, frozen=True, gc=False):
    """What to read of a stream: `limit` publications after `since` (before it in reverse), or from its start (end)."""

    # 0: none, only the position; -1: all.
    limit: int = 0
    since: Position | None = None
    reverse: bool = False
    # Bytes as stored: reading ends before the publication that would exceed them.
    max_bytes: int = 4 * 1024 * 1024


class HistoryPage(NamedTuple):
    """Publications in the requested order (none after a position of another epoch), and the end of the stream."""

    publications: list[Publication]
    top: Position


class Joined(NamedTuple):
    """Where a subscriber stands when it joins, and what it missed."""

    # None on a channel with latest values, where `publications` are the current values.
    position: Position | None
    # Whether `publications` are all that it missed; None if it did not ask.
    recovered: bool | None = None
    publications: Sequence[Publication] = ()


# Requests of clients. `id` is the client's number for the reply; with 0 it wants none.


class Connect(msgspec.Struct, frozen=True, gc=False):
    id: int
    token: str = ""
    # The token may also be a subscription token, whose user the connection then has.
    by_grant: bool = False
    # Where the client stands in channels that the server subscribes it to.
    positions: dict[str, Position] = {}
    # What the client asks for and the gateway does not have: the connect is answered with "not available".
    unavailable: str = ""
    # For the application: JSON, empty for none; and what the client calls itself.
    data: bytes = b""
    name: str = ""
    version: str = ""
    # What is wrong with the position that the client asks for. The connection is closed with this reason.
    malformed: str = ""
    # Where the client seems to have put its token, for the log, if it has none.
    hint: str = ""
    # Channels that the settings open to every client of its protocol.
    joins: Sequence[str] = ()
    # Prefix of one more, whose name ends with the id of the client; empty for none.
    own: str = ""


class Subscribe(msgspec.Struct, frozen=True, gc=False):
    id: int
    channel: str
    token: str = ""
    # The client has seen everything up to here and asks for what it missed. An empty epoch matches any.
    since: Position | None = None
    # Refuse the subscribe (112) if the missed publications are gone.
    all_or_nothing: bool = False
    # The client understands deltas.
    delta: bool = False
    # For the application: JSON, empty for none.
    data: bytes = b""


class Unsubscribe(msgspec.Struct, frozen=True, gc=False):
    id: int
    channel: str


class Publish(msgspec.Struct, frozen=True, gc=False):
    id: int
    channel: str
    data: bytes
    kind: Kind = Kind.JSON
    # What it is, for protocols whose messages have a name.
    event: str = ""


class Call(msgspec.Struct, frozen=True, gc=False):
    """A message for the application itself, which may answer it unless the id is 0."""

    id: int
    event: str
    # JSON.
    data: bytes


class Refresh(msgspec.Struct, frozen=True, gc=False):
    id: int
    token: str


class SubRefresh(msgspec.Struct, frozen=True, gc=False):
    id: int
    channel: str
    token: str


class History(msgspec.Struct, frozen=True, gc=False):
    id: int
    channel: str
    # 0: only the position; below 0: as many as allowed.
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


class Presence(msgspec.Struct, frozen=True, gc=False):
    id: int
    channel: str


class PresenceStats(msgspec.Struct, frozen=True, gc=False):
    id: int
    channel: str


class Pong(msgspec.Struct, frozen=True, gc=False):
    pass


class Unsupported(msgspec.Struct, frozen=True, gc=False):
    """A well-formed request that this gateway does not serve; answered with "not available"."""

    id: int
    # The command, and what of it.
    feature: str
    channel: str = ""


class Malformed(msgspec.Struct, frozen=True, gc=False):
    """A request that makes no sense, in a protocol that can say so; answered with "bad request"."""

    id: int
    reason: str
    channel: str = ""


class UnknownFields(msgspec.Struct, frozen=True, gc=False):
    """A remark of a decoder: the request after it had fields that its protocol does not define. Only counted."""


Request = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | Call
    | Refresh
    | SubRefresh
    | History
    | Presence
    | PresenceStats
    | Pong
    | Unsupported
    | Malformed
    | UnknownFields
)


# Replies and pushes. Fields with their default are left out of the encoding where the protocol allows it.


class SubscribeResult(msgspec.Struct, frozen=True, gc=False):
    # `expires` and `ttl` (seconds) tell the client when to send a fresh token.
    expires: bool = False
    ttl: int = 0
    data: bytes = b""
    # On channels with history: where the subscriber stands before `publications`.
    position: Position | None = None
    # Whether `publications` are all it missed; None if it did not ask.
    recovered: bool | None = None
    publications: Sequence[Publication] = ()
    # Publications are sent as deltas.
    delta: bool = False


class ConnectResult(msgspec.Struct, frozen=True, gc=False):
    client: ClientId
    version: str
    # Seconds between pings of the server; the client answers each one when `pong` is set.
    ping: int
    pong: bool = True
    expires: bool = False
    ttl: int = 0
    node: str = ""
    # The secret with which a client names its session in other requests; empty for clients that need none.
    session: str = ""
    # Of the application: JSON, empty for none.
    data: bytes = b""
    subs: dict[str, SubscribeResult] | None = None


class RefreshResult(msgspec.Struct, frozen=True, gc=False):
    client: ClientId
    version: str
    expires: bool = False
    ttl: int = 0
