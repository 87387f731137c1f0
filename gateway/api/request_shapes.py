"""Requests of the HTTP API; the shapes are those of the Centrifugo server API, so that its clients work.

Unknown fields are refused: a misspelt option would otherwise be ignored silently. Null and empty values leave a field
out, because serialisers of several languages write them for fields that were not set. Our own client encodes these
shapes too, and omits such fields.
"""

from typing import Annotated, Any

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
JsonOrNull = Annotated[Raw, Meta(description="Any JSON value. Null is none.")]
Base64 = Annotated[str, Meta(description="Bytes in base64 (RFC 4648 section 4).")]
Tags = Annotated[
    dict[str, str | None], Meta(max_length=64, description="Delivered with the publication; null as an empty text.")
]
UnixTime = Annotated[int, Meta(ge=0, le=2**53, description="Unix time in seconds; 0 for never.")]
# Bounded because they are stored: in the stream with the message, and as part of a Redis key.
IdempotencyKey = Annotated[
    str, Meta(max_length=256, description="Publishing again with the same key within 5 minutes changes nothing.")
]
ExcludedClient = Annotated[str, Meta(max_length=255, description="This connection does not get the publication.")]

# Fields of Centrifugo that this version has no use for. A value that would change something is refused with 108 when
# the request is carried out; the decoder accepts those that would not.
_UNSERVED = "Not available: for clients that always send it, without a value."
UnservedText = Annotated[str | None, Meta(description=_UNSERVED, extra_json_schema={"maxLength": 0})]
UnservedFlag = Annotated[bool | None, Meta(description=_UNSERVED, extra_json_schema={"enum": [False, None]})]
UnservedObject = Annotated[
    dict[str, Any] | None,
    Meta(description=_UNSERVED, extra_json_schema={"additionalProperties": {"type": "null"}}),
]
UnservedJson = Annotated[Raw, Meta(description=_UNSERVED, extra_json_schema={"type": "null"})]


class ApiRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request of the API."""


class PublicationRequest(ApiRequest, frozen=True):
    """What publish and broadcast have in common: exactly one of `data` and `b64data`."""

    data: Annotated[Json, Meta(description="Any JSON value. Null beside `b64data` is no value.")] | UnsetType = UNSET
    b64data: Base64 | None = None
    binary: Annotated[bool, Meta(description="Deliver `b64data` as bytes even if they are JSON.")] | None = None
    event: (
        Annotated[str, Meta(max_length=128, description="Its name, for Socket.IO; `message` without one.")] | None
    ) = None
    tags: Tags | None = None
    idempotency_key: IdempotencyKey | None = None
    exclude_client: ExcludedClient | None = None
    skip_history: Annotated[bool, Meta(description="Deliver it now, without storing it.")] | None = None
    delta: (
        Annotated[bool, Meta(description="Only in channels that have deltas, where all are; 108 in others.")] | None
    ) = None
    version: (
        Annotated[
            int,
            Meta(ge=0, le=2**53, description="Not published when the channel has seen this version, or a newer one."),
        ]
        | None
    ) = None
    version_epoch: Annotated[str, Meta(max_length=64, description="Versions count anew within another one.")] | None = (
        None
    )


class PublishRequest(PublicationRequest, frozen=True, kw_only=True):
    """Publish to one channel: exactly one of `data` and `b64data`."""

    channel: ChannelName


class BroadcastRequest(PublicationRequest, frozen=True, kw_only=True):
    """Publish the same to several channels: exactly one of `data` and `b64data`."""

    # Of any type: a name that is none is answered in its place, and does not stop the others.
    channels: Annotated[list[Any], Meta(min_length=1, extra_json_schema={"items": {"type": "string", "minLength": 1}})]


class StreamPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A place in the stream of a channel with history."""

    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    epoch: Annotated[str, Meta(max_length=64, description="Empty: any.")] | None = None


class UserRequest(ApiRequest, frozen=True, kw_only=True):
    """The fields by which requests find the connections they act on."""

    user: UserId
    client: Client | None = None
    session: UnservedText = None
    label_filter: UnservedObject = None
    all_users: UnservedFlag = None


class SubscribeRequest(UserRequest, frozen=True, kw_only=True):
    """Subscribe the connections of a user to a channel."""

    channel: ChannelName
    info: JsonOrNull | UnsetType = UNSET
    b64info: Base64 | None = None
    data: JsonOrNull | UnsetType = UNSET
    b64data: Base64 | None = None
    expire_at: UnixTime | None = None
    recover_since: Annotated[StreamPosition | None, Meta(description="Deliver what came after it first.")] = None
    override: UnservedObject = None


class UnsubscribeRequest(UserRequest, frozen=True, kw_only=True):
    """End subscriptions of a user; an empty channel stands for all of them."""

    channel: str | None = None


class CloseReason(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How connections are closed."""

    code: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=4999,
                description="Clients reconnect on 3000-3499 and 4000-4499, and stay away on 3500-3999 and 4500-4999. "
                "0 stands for 3503, force disconnect.",
            ),
        ]
        | None
    ) = None
    reason: Annotated[str, Meta(max_length=123, description="At most 123 bytes in UTF-8.")] | None = None
    reconnect: UnservedFlag = None


class DisconnectRequest(UserRequest, frozen=True, kw_only=True):
    """Close the connections of a user, except those on the whitelist."""

    whitelist: list[str] | None = None
    disconnect: CloseReason | None = None
    go_whitelist: Annotated[list[str] | None, Meta(description="`whitelist`, as the client gocent 3 spells it.")] = (
        msgspec.field(name="ClientWhitelist", default=None)
    )
    go_disconnect: Annotated[
        CloseReason | None, Meta(description="`disconnect`, as the client gocent 3 spells it.")
    ] = msgspec.field(name="Disconnect", default=None)


class RefreshRequest(UserRequest, frozen=True, kw_only=True):
    """Let the connections of a user live until `expire_at`, or end them as expired."""

    expired: bool | None = None
    expire_at: UnixTime | None = None
    info: UnservedJson | UnsetType = UNSET


class RevokeRequest(ApiRequest, frozen=True):
    """Refuse tokens on every node from now on: all that a user has so far, or the one with this `jti`."""

    user: Id | None = None
    jti: Id | None = None
    expire_at: (
        Annotated[
            UnixTime, Meta(description="When the last of these tokens expires, and the revocation may be forgotten.")
        ]
        | None
    ) = None


class KickRequest(ApiRequest, frozen=True):
    """End a user's subscriptions to a channel; no token that the user has so far opens it again."""

    user: UserId
    channel: ChannelName
    expire_at: (
        Annotated[UnixTime, Meta(description="When the last of these tokens expires, and the kick may be forgotten.")]
        | None
    ) = None


class HistoryRequest(ApiRequest, frozen=True):
    """Read the history of a channel. Without `limit`, only its position."""

    channel: ChannelName
    limit: Annotated[int, Meta(ge=-1, le=2**31, description="Publications at most; -1 for all there are.")] | None = (
        None
    )
    since: Annotated[StreamPosition | None, Meta(description="Start behind it; in reverse, before it.")] = None
    reverse: Annotated[bool, Meta(description="The newest first.")] | None = None


class HistoryRemoveRequest(ApiRequest, frozen=True):
    """Forget the history of a channel. Its position stays, so that subscribers who missed some of it are told."""

    channel: ChannelName


class LatestRequest(ApiRequest, frozen=True):
    """The newest value of each key of a channel with `delivery = "latest"`."""

    channel: ChannelName


class LatestRemoveRequest(ApiRequest, frozen=True):
    """Remove the value of a key. Subscribers get a publication of `null` with the tag `removed`."""

    channel: ChannelName
    key: Annotated[str, Meta(max_length=255, description="Empty: the value published without a key.")] | None = None


class PresenceRequest(ApiRequest, frozen=True):
    """Who is in a channel."""

    channel: ChannelName


class PresenceStatsRequest(ApiRequest, frozen=True):
    """How many are in a channel."""

    channel: ChannelName


class ChannelsRequest(ApiRequest, frozen=True):
    """List the channels that have subscribers."""

    pattern: (
        Annotated[str, Meta(max_length=255, description="Glob: * and ? and [...]. Empty: all channels.")] | None
    ) = None
    limit: (
        Annotated[int, Meta(ge=0, le=10_000, description="Channels per page. 0: all channels in one answer.")] | None
    ) = None
    cursor: Annotated[str, Meta(description="The cursor of the previous page.")] | None = None


class DrainRequest(ApiRequest, frozen=True):
    """Send the clients of one node to the others; it keeps running, unready, until it is stopped."""

    node: Annotated[str, Meta(min_length=1, description="Name or uid of the node.")]


class ReloadRequest(ApiRequest, frozen=True):
    """Make nodes read their settings again, without closing a connection. If they are wrong, nothing changes."""

    node: Annotated[str, Meta(description="Name or uid of the node. Empty: all of them.")] | None = None


class InfoRequest(ApiRequest, frozen=True):
    """List the nodes of the cluster."""


class BatchCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One command: exactly one of these fields."""

    publish: PublishRequest | None = None
    broadcast: BroadcastRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    disconnect: DisconnectRequest | None = None
    refresh: RefreshRequest | None = None
    revoke: RevokeRequest | None = None
    kick: KickRequest | None = None
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


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Carry out commands in their order, or in any order when `parallel` is set."""

    commands: Annotated[list[BatchCommand], Meta(min_length=1)]
    parallel: bool | None = None
