"""Requests and results of the HTTP API; the shapes are those of the Centrifugo server API, so that its clients work.

Unknown fields are refused: a misspelt option would otherwise be ignored silently.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

ChannelName = Annotated[str, Meta(min_length=1, description="Name of the channel, with its namespace.")]
# Tokens do not allow longer ids.
UserId = Annotated[
    str, Meta(min_length=1, max_length=255, description="Id of the user. Anonymous clients cannot be addressed.")
]
Id = Annotated[str, Meta(max_length=255)]
Client = Annotated[str, Meta(description="Act on this connection of the user only. Empty: on all of them.")]
Json = Annotated[Raw, Meta(description="Any JSON value.")]
Base64 = Annotated[str, Meta(description="Bytes in base64 (RFC 4648 section 4).")]
Tags = Annotated[dict[str, str], Meta(max_length=64, description="Delivered with the publication.")]
UnixTime = Annotated[int, Meta(ge=0, le=2**53, description="Unix time in seconds; 0 for never.")]
# Bounded because they are stored: in the stream with the message, and as part of a Redis key.
IdempotencyKey = Annotated[
    str, Meta(max_length=256, description="Publishing again with the same key within 5 minutes changes nothing.")
]
ExcludedClient = Annotated[str, Meta(max_length=255, description="This connection does not get the publication.")]


class ApiRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request of the API."""


class PublicationRequest(ApiRequest, frozen=True):
    """What publish and broadcast have in common: exactly one of `data` and `b64data`."""

    data: Json | UnsetType = UNSET
    b64data: Base64 | UnsetType = UNSET
    tags: Tags | None = None
    idempotency_key: IdempotencyKey = ""
    exclude_client: ExcludedClient = ""
    skip_history: Annotated[bool, Meta(description="Deliver it now, without storing it.")] = False
    version: Annotated[
        int,
        Meta(ge=0, le=2**53, description="Not published when the channel has seen this version, or a newer one."),
    ] = 0
    version_epoch: Annotated[str, Meta(max_length=64, description="Versions count anew within another one.")] = ""


class PublishRequest(PublicationRequest, frozen=True, kw_only=True):
    """Publish to one channel: exactly one of `data` and `b64data`."""

    channel: ChannelName


class BroadcastRequest(PublicationRequest, frozen=True, kw_only=True):
    """Publish the same to several channels: exactly one of `data` and `b64data`."""

    channels: Annotated[list[ChannelName], Meta(min_length=1)]


class StreamPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place in the stream of a channel with history."""

    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    epoch: Annotated[str, Meta(max_length=64, description="Empty: any.")] = ""


class SubscribeRequest(ApiRequest, frozen=True):
    """Subscribe the connections of a user to a channel."""

    user: UserId
    channel: ChannelName
    client: Client = ""
    info: Json | UnsetType = UNSET
    b64info: Base64 | UnsetType = UNSET
    data: Json | UnsetType = UNSET
    b64data: Base64 | UnsetType = UNSET
    expire_at: UnixTime = 0
    recover_since: Annotated[StreamPosition | None, Meta(description="Deliver what came after it first.")] = None


class UnsubscribeRequest(ApiRequest, frozen=True):
    """End subscriptions of a user; an empty channel stands for all of them."""

    user: UserId
    channel: str = ""
    client: Client = ""


class CloseReason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How connections are closed."""

    code: Annotated[
        int,
        Meta(
            ge=0,
            le=4999,
            description="Clients reconnect on 3000-3499 and 4000-4499, and stay away on 3500-3999 and 4500-4999. "
            "0 stands for 3503, force disconnect.",
        ),
    ] = 0
    reason: Annotated[str, Meta(max_length=123, description="At most 123 bytes in UTF-8.")] = ""


class DisconnectRequest(ApiRequest, frozen=True):
    """Close the connections of a user, except those on the whitelist."""

    user: UserId
    client: Client = ""
    whitelist: list[str] = []
    disconnect: CloseReason = CloseReason()


class RefreshRequest(ApiRequest, frozen=True):
    """Let the connections of a user live until `expire_at`, or end them as expired."""

    user: UserId
    client: Client = ""
    expired: bool = False
    expire_at: UnixTime = 0


class RevokeRequest(ApiRequest, frozen=True):
    """Refuse tokens on every node from now on: all that a user has so far, or the one with this `jti`."""

    user: Id = ""
    jti: Id = ""
    expire_at: Annotated[
        UnixTime, Meta(description="When the last of these tokens expires, and the revocation may be forgotten.")
    ] = 0


class HistoryRequest(ApiRequest, frozen=True):
    """Read the history of a channel. Without `limit`, only its position."""

    channel: ChannelName
    limit: Annotated[int, Meta(ge=-1, le=2**31, description="Publications at most; -1 for all there are.")] = 0
    since: Annotated[StreamPosition | None, Meta(description="Start behind it; in reverse, before it.")] = None
    reverse: Annotated[bool, Meta(description="The newest first.")] = False


class HistoryRemoveRequest(ApiRequest, frozen=True):
    """Forget the history of a channel. Its position stays, so that subscribers who missed some of it are told."""

    channel: ChannelName


class LatestRequest(ApiRequest, frozen=True):
    """The newest value of each key of a channel with `delivery = "latest"`."""

    channel: ChannelName


class LatestRemoveRequest(ApiRequest, frozen=True):
    """Remove the value of a key. Subscribers get a publication of `null` with the tag `removed`."""

    channel: ChannelName
    key: Annotated[str, Meta(max_length=255, description="Empty: the value published without a key.")] = ""


class PresenceRequest(ApiRequest, frozen=True):
    """Who is in a channel."""

    channel: ChannelName


class PresenceStatsRequest(ApiRequest, frozen=True):
    """How many are in a channel."""

    channel: ChannelName


class ChannelsRequest(ApiRequest, frozen=True):
    """List the channels that have subscribers."""

    pattern: Annotated[str, Meta(max_length=255, description="Glob: * and ? and [...]. Empty: all channels.")] = ""
    limit: Annotated[int, Meta(ge=0, le=10_000, description="Channels per page. 0: all channels in one answer.")] = 0
    cursor: Annotated[str, Meta(description="The cursor of the previous page.")] = ""


class DrainRequest(ApiRequest, frozen=True):
    """Send the clients of one node to the others; it keeps running, unready, until it is stopped."""

    node: Annotated[str, Meta(min_length=1, description="Name or uid of the node.")]


class ReloadRequest(ApiRequest, frozen=True):
    """Make nodes read their settings again, without closing a connection. If they are wrong, nothing changes."""

    node: Annotated[str, Meta(description="Name or uid of the node. Empty: all of them.")] = ""


class InfoRequest(ApiRequest, frozen=True):
    """List the nodes of the cluster."""


class EmptyResult(msgspec.Struct, frozen=True):
    """Done."""


class PublishResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The broker has accepted the publication; its position in a channel with history."""

    offset: int = 0
    epoch: str = ""


class ApiError(msgspec.Struct, frozen=True):
    """Why a request failed: a code of the protocol and a text for humans."""

    code: int
    message: str


class Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """A connection: who published, or who is in a channel."""

    user: str
    client: str
    conn_info: Raw | UnsetType = UNSET
    chan_info: Raw | UnsetType = UNSET


class HistoryPublication(msgspec.Struct, frozen=True, omit_defaults=True):
    data: Raw
    offset: int
    info: Info | None = None
    tags: dict[str, str] | None = None
    time: Annotated[int, Meta(description="When it was published, Unix time in milliseconds.")] = 0
    version: int = 0


class HistoryResult(msgspec.Struct, frozen=True):
    """Publications in the requested order, and the position of the newest publication ever."""

    publications: list[HistoryPublication]
    epoch: str
    offset: int


class LatestResult(msgspec.Struct, frozen=True):
    """The values, in the order in which they were published."""

    publications: list[HistoryPublication]


class PresenceResult(msgspec.Struct, frozen=True):
    """Connections by their client id."""

    presence: dict[str, Info]


class PresenceStatsResult(msgspec.Struct, frozen=True):
    """Connections, and users; anonymous connections are one user."""

    num_clients: int
    num_users: int


class PublishResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one publication of a broadcast: `result` or `error`."""

    result: PublishResult | None = None
    error: ApiError | None = None


class BroadcastResult(msgspec.Struct, frozen=True):
    """One response for each channel, in their order."""

    responses: list[PublishResponse]


class ChannelInfo(msgspec.Struct, frozen=True):
    num_clients: Annotated[int, Meta(description="Subscriptions in the whole cluster.")]


class ChannelsResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Channels by name. A page may hold fewer channels than its limit, even none, and still have a cursor."""

    channels: dict[str, ChannelInfo]
    cursor: Annotated[str, Meta(description="For the next page. Absent on the last page.")] = ""


class Process(msgspec.Struct, frozen=True):
    cpu: Annotated[float, Meta(description="CPU seconds since the start.")]
    rss: Annotated[int, Meta(description="Bytes of resident memory.")]


class NodeResult(msgspec.Struct, frozen=True):
    """One node of the cluster, by its latest heartbeat."""

    uid: str
    name: str
    version: str
    url: Annotated[str, Meta(description="Where clients reach this node directly; empty if not configured.")]
    num_clients: int
    num_users: int
    num_subs: int
    num_channels: int
    draining: Annotated[bool, Meta(description="It sends its clients to other nodes.")]
    bus: Annotated[int, Meta(description="Version of the messages between nodes; 0 if unknown.")]
    settings: Annotated[str, Meta(description="Digest of the settings that have to be equal on all nodes.")]
    differs: Annotated[
        list[str],
        Meta(description="Sections in which its settings differ from the majority; `bus` for the version."),
    ]
    uptime: Annotated[int, Meta(description="Seconds.")]
    process: Process


class DrainResult(msgspec.Struct, frozen=True):
    num_clients: Annotated[int, Meta(description="Connections that are closed within the window (drain.window).")]


class ReloadedNode(msgspec.Struct, frozen=True):
    """The outcome of a reload on one node."""

    name: str
    uid: str
    error: Annotated[str, Meta(description="Why nothing was reloaded; empty after a success.")]
    changed: Annotated[list[str], Meta(description="Settings that have new values from now on.")]
    needs_restart: Annotated[list[str], Meta(description="Settings with new values that need a restart.")]


class ReloadResult(msgspec.Struct, frozen=True):
    nodes: list[ReloadedNode]


class InfoResult(msgspec.Struct, frozen=True):
    nodes: list[NodeResult]


class BatchCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One command: exactly one of these fields."""

    publish: PublishRequest | None = None
    broadcast: BroadcastRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    disconnect: DisconnectRequest | None = None
    refresh: RefreshRequest | None = None
    revoke: RevokeRequest | None = None
    history: HistoryRequest | None = None
    history_remove: HistoryRemoveRequest | None = None
    latest: LatestRequest | None = None
    latest_remove: LatestRemoveRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    channels: ChannelsRequest | None = None
    info: InfoRequest | None = None
    drain: DrainRequest | None = None
    reload: ReloadRequest | None = None


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Carry out commands in their order, or in any order when `parallel` is set."""

    commands: Annotated[list[BatchCommand], Meta(min_length=1)]
    parallel: bool = False


class BatchReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result under the name of its command, or `error`."""

    publish: PublishResult | None = None
    broadcast: BroadcastResult | None = None
    subscribe: EmptyResult | None = None
    unsubscribe: EmptyResult | None = None
    disconnect: EmptyResult | None = None
    refresh: EmptyResult | None = None
    revoke: EmptyResult | None = None
    history: HistoryResult | None = None
    history_remove: EmptyResult | None = None
    latest: LatestResult | None = None
    latest_remove: EmptyResult | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    channels: ChannelsResult | None = None
    info: InfoResult | None = None
    drain: DrainResult | None = None
    reload: ReloadResult | None = None
    error: ApiError | None = None


class BatchResult(msgspec.Struct, frozen=True):
    """One reply for each command, in their order."""

    replies: list[BatchReply]
