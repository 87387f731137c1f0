"""Results of the HTTP API; the shapes are those of the Centrifugo server API, so that its clients work."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType


class EmptyResult(msgspec.Struct, frozen=True):
    """Done."""


class RevokeResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of the user whose `iat` is lower are refused. A new one with just this `iat` is accepted at once."""

    num_clients: Annotated[int, Meta(description="Connections on all nodes that used these tokens, and were closed.")]
    issued_before: Annotated[int, Meta(description="Unix time in seconds; absent after a revocation by `jti`.")] = 0


class KickResult(msgspec.Struct, frozen=True):
    """Tokens of the user whose `iat` is lower do not open the channel. A new one with just this `iat` does at once."""

    num_clients: Annotated[int, Meta(description="Connections on all nodes whose subscription ended.")]
    issued_before: Annotated[int, Meta(description="Unix time in seconds.")]


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


class BatchReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result under the name of its command, or `error`."""

    publish: PublishResult | None = None
    broadcast: BroadcastResult | None = None
    subscribe: EmptyResult | None = None
    unsubscribe: EmptyResult | None = None
    disconnect: EmptyResult | None = None
    refresh: EmptyResult | None = None
    revoke: RevokeResult | None = None
    kick: KickResult | None = None
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
