"""What a client can ask: one function for each method of the API. None, empty, 0 and False are absent.

Both clients have them as methods. Called as functions, they make the commands of a batch:

    gateway.batch([commands.publish("a", 1), commands.presence("a")])

JSON values may be dataclasses, datetime, UUID, and models of pydantic and msgspec. Raises TypeError or ValueError for
what has no JSON.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import UNSET, Raw, UnsetType

from gateway.api.request_shapes import (
    ApiRequest,
    BatchCommand,
    BatchRequest,
    BroadcastRequest,
    ChannelsRequest,
    CloseReason,
    DisconnectRequest,
    DrainRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    KickRequest,
    LatestRemoveRequest,
    LatestRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    ReloadRequest,
    RevokeRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)
from gateway.api.result_shapes import (
    BatchResult,
    BroadcastResult,
    ChannelsResult,
    DrainResult,
    EmptyResult,
    HistoryResult,
    InfoResult,
    KickResult,
    LatestResult,
    PresenceResult,
    PresenceStatsResult,
    PublishResult,
    ReloadResult,
    RevokeResult,
)
from gateway.encoding import encoded

R = TypeVar("R")


class Command(NamedTuple, Generic[R]):
    """A method of the API, its request, and the shape of its result."""

    method: str
    request: ApiRequest | BatchRequest
    result: type[R]


def publish(
    channel: str,
    data: Any,
    *,
    event: str = "",
    tags: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
    exclude_client: str = "",
    skip_history: bool = False,
    version: int = 0,
    version_epoch: str = "",
) -> Command[PublishResult]:
    """Publish `data` to a channel: a JSON value, or bytes, which arrive as bytes. `event` is its name, for Socket.IO.

    The client makes an idempotency key of its own, so that it may ask again; an empty one means none.
    """
    request = PublishRequest(
        channel=channel,
        **_payload(data),
        event=event or None,
        tags=dict(tags) if tags else None,
        idempotency_key=idempotency_key,
        exclude_client=exclude_client or None,
        skip_history=skip_history or None,
        version=version or None,
        version_epoch=version_epoch or None,
    )
    return Command("publish", request, PublishResult)


def broadcast(
    channels: Iterable[str],
    data: Any,
    *,
    event: str = "",
    tags: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
    exclude_client: str = "",
    skip_history: bool = False,
    version: int = 0,
    version_epoch: str = "",
) -> Command[BroadcastResult]:
    """Publish the same to several channels; as `publish`. Each channel has a response, which may be an error."""
    request = BroadcastRequest(
        channels=list(channels),
        **_payload(data),
        event=event or None,
        tags=dict(tags) if tags else None,
        idempotency_key=idempotency_key,
        exclude_client=exclude_client or None,
        skip_history=skip_history or None,
        version=version or None,
        version_epoch=version_epoch or None,
    )
    return Command("broadcast", request, BroadcastResult)


def subscribe(
    user: str,
    channel: str,
    *,
    client: str = "",
    info: Any = None,
    data: Any = None,
    expire_at: int = 0,
    recover_since: StreamPosition | None = None,
) -> Command[EmptyResult]:
    """Subscribe the connections of a user, or one of them (`client`), to a channel.

    `info` (JSON) is shown with what they publish and in the presence of the channel, `data` (JSON) goes to them.
    `expire_at`: Unix time in seconds. `recover_since`: deliver what came after it first.
    """
    request = SubscribeRequest(
        user=user,
        channel=channel,
        client=client or None,
        info=_json(info),
        data=_json(data),
        expire_at=expire_at or None,
        recover_since=recover_since,
    )
    return Command("subscribe", request, EmptyResult)


def unsubscribe(user: str, channel: str = "", *, client: str = "") -> Command[EmptyResult]:
    """End the subscriptions of a user to a channel; without one, to all channels."""
    return Command(
        "unsubscribe", UnsubscribeRequest(user=user, channel=channel or None, client=client or None), EmptyResult
    )


def disconnect(
    user: str, *, client: str = "", whitelist: Sequence[str] = (), code: int = 0, reason: str = ""
) -> Command[EmptyResult]:
    """Close the connections of a user, except those on the whitelist (client ids).

    Clients reconnect after the codes 3000-3499 and 4000-4499, and stay away after 3500-3999 and 4500-4999. Without a
    code it is 3503.
    """
    request = DisconnectRequest(
        user=user,
        client=client or None,
        whitelist=list(whitelist) or None,
        disconnect=CloseReason(code or None, reason or None) if code or reason else None,
    )
    return Command("disconnect", request, EmptyResult)


def refresh(user: str, *, client: str = "", expired: bool = False, expire_at: int = 0) -> Command[EmptyResult]:
    """Let the connections of a user live until `expire_at` (Unix time in seconds), or end them as expired."""
    request = RefreshRequest(user=user, client=client or None, expired=expired or None, expire_at=expire_at or None)
    return Command("refresh", request, EmptyResult)


def revoke(*, user: str = "", jti: str = "", expire_at: int = 0) -> Command[RevokeResult]:
    """Refuse all tokens that a user has so far, or the one with this `jti`, and close the connections that use them.

    `expire_at`: Unix time in seconds when the last of them expires, and the revocation may be forgotten.
    """
    return Command(
        "revoke", RevokeRequest(user=user or None, jti=jti or None, expire_at=expire_at or None), RevokeResult
    )


def kick(user: str, channel: str, *, expire_at: int = 0) -> Command[KickResult]:
    """End a user's subscriptions to a channel, and refuse all tokens that open it to the user so far.

    `expire_at`: Unix time in seconds when the last of them expires, and the kick may be forgotten.
    """
    return Command("kick", KickRequest(user=user, channel=channel, expire_at=expire_at or None), KickResult)


def history(
    channel: str, *, limit: int = 0, since: StreamPosition | None = None, reverse: bool = False
) -> Command[HistoryResult]:
    """Read at most `limit` publications of a channel, -1 for all; without a limit only its position.

    They begin behind `since`; in reverse, the newest first, before it.
    """
    return Command("history", HistoryRequest(channel, limit or None, since, reverse or None), HistoryResult)


def history_remove(channel: str) -> Command[EmptyResult]:
    """Forget the history of a channel; its position stays."""
    return Command("history_remove", HistoryRemoveRequest(channel), EmptyResult)


def latest(channel: str) -> Command[LatestResult]:
    """The newest value of each key of a channel with `delivery = "latest"`."""
    return Command("latest", LatestRequest(channel), LatestResult)


def latest_remove(channel: str, key: str = "") -> Command[EmptyResult]:
    """Remove the value of a key; empty: the value that was published without a key."""
    return Command("latest_remove", LatestRemoveRequest(channel, key or None), EmptyResult)


def presence(channel: str) -> Command[PresenceResult]:
    """Who is in a channel, by client id."""
    return Command("presence", PresenceRequest(channel), PresenceResult)


def presence_stats(channel: str) -> Command[PresenceStatsResult]:
    """How many connections and users are in a channel."""
    return Command("presence_stats", PresenceStatsRequest(channel), PresenceStatsResult)


def channels(pattern: str = "", *, limit: int = 0, cursor: str = "") -> Command[ChannelsResult]:
    """The channels that have subscribers and match a glob; all of them in one answer, or a page of `limit`."""
    return Command("channels", ChannelsRequest(pattern or None, limit or None, cursor or None), ChannelsResult)


def info() -> Command[InfoResult]:
    """The nodes of the cluster."""
    return Command("info", InfoRequest(), InfoResult)


def drain(node: str) -> Command[DrainResult]:
    """Send the clients of a node (name or uid) to the others."""
    return Command("drain", DrainRequest(node), DrainResult)


def reload(node: str = "") -> Command[ReloadResult]:
    """Make a node (name or uid), or all of them, read their settings again."""
    return Command("reload", ReloadRequest(node or None), ReloadResult)


def batch(commands: Iterable[Command[Any]], *, parallel: bool = False) -> Command[BatchResult]:
    """Carry out many commands in one request, in their order, or in any order if `parallel`.

    Each has a reply with its result in the field of its method, or `error`.
    """
    entries: list[dict[str, Any]] = [{each.method: each.request} for each in commands]
    return Command("batch", BatchRequest([BatchCommand(**each) for each in entries], parallel or None), BatchResult)


def _payload(data: Any) -> dict[str, Any]:
    """The fields of a publication that carry its data."""
    if isinstance(data, bytes | bytearray | memoryview):
        return {"b64data": b64encode(data).decode(), "binary": True}
    return {"data": Raw(encoded(data))}


def _json(value: Any) -> Raw | UnsetType:
    return UNSET if value is None else Raw(encoded(value))
