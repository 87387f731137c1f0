"""What the commands of the native protocol ask for, whatever encodes them: their fields, and the requests of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import astuple

from gateway.errors import BAD_COMMAND, Disconnect
from gateway.messages import (
    Connect,
    History,
    Pong,
    Position,
    Presence,
    PresenceStats,
    Refresh,
    Request,
    SubRefresh,
    Subscribe,
    Unsubscribe,
    Unsupported,
)

_EMPTY = msgspec.Raw()


# Commands as clients send them: all fields that client.proto defines. None, null and absent are the same. Payloads are
# Raw, and so are fields that only inform the server: nothing is refused for their values.


class SinceBody(msgspec.Struct, gc=False):
    """StreamPosition."""

    offset: int | None = None
    epoch: str | None = None


class SubscribeBody(msgspec.Struct, gc=False):
    channel: str | None = None
    token: str | None = None
    recover: bool | None = None
    epoch: str | None = None
    # `_position` refuses offsets that are negative or too large.
    offset: int | None = None
    flag: int | None = None
    delta: str | None = None
    data: msgspec.Raw = _EMPTY
    # Requests for what the namespace of the channel decides.
    positioned: bool | None = None
    recoverable: bool | None = None
    join_leave: bool | None = None
    # Not available.
    tf: dict[str, msgspec.Raw] | None = None
    type: int | None = None
    phase: int | None = None
    cursor: str | None = None
    limit: int | None = None
    asc: bool | None = None


class ConnectBody(msgspec.Struct, gc=False):
    token: str | None = None
    # The positions of server-side subscriptions.
    subs: Mapping[str, SubscribeBody | None] | None = None
    data: msgspec.Raw = _EMPTY
    name: msgspec.Raw = _EMPTY
    version: msgspec.Raw = _EMPTY
    headers: msgspec.Raw = _EMPTY
    # The client can read compressed messages: it allows that and does not ask for it.
    flag: msgspec.Raw = _EMPTY
    profile: msgspec.Raw = _EMPTY
    dict: msgspec.Raw = _EMPTY


class PublishBody(msgspec.Struct, gc=False):
    channel: str | None = None
    data: msgspec.Raw = _EMPTY
    # Not available.
    type: int | None = None
    key: str | None = None
    removed: bool | None = None


class ChannelBody(msgspec.Struct, gc=False):
    """UnsubscribeRequest, PresenceRequest, PresenceStatsRequest."""

    channel: str | None = None


class HistoryBody(msgspec.Struct, gc=False):
    channel: str | None = None
    limit: int | None = None
    since: SinceBody | None = None
    reverse: bool | None = None


class CallBody(msgspec.Struct, gc=False):
    """RPCRequest, and SendRequest without a method."""

    method: str | None = None
    data: msgspec.Raw = _EMPTY


class RefreshBody(msgspec.Struct, gc=False):
    token: str | None = None


class SubRefreshBody(msgspec.Struct, gc=False):
    channel: str | None = None
    token: str | None = None
    # Not available.
    type: int | None = None
    track: list[msgspec.Raw] | None = None
    untrack: list[msgspec.Raw] | None = None


class PingBody(msgspec.Struct, gc=False):
    pass


class Command(msgspec.Struct, gc=False):
    """Command{id, exactly one body}. An absent body is None."""

    id: int | None = 0
    connect: ConnectBody | None = None
    subscribe: SubscribeBody | None = None
    unsubscribe: ChannelBody | None = None
    publish: PublishBody | None = None
    presence: ChannelBody | None = None
    presence_stats: ChannelBody | None = None
    history: HistoryBody | None = None
    ping: PingBody | None = None
    send: CallBody | None = None
    rpc: CallBody | None = None
    refresh: RefreshBody | None = None
    sub_refresh: SubRefreshBody | None = None


_MAX_ID = 2**32 - 1
# Offsets are uint64 on the wire, and smaller in streams: one beyond is a position that no stream has reached.
_MAX_OFFSET = 2**64 - 1
_LAST_OFFSET = 2**63 - 1
# SubscribeRequest.flag: the client prefers an error to a subscription that is not recovered.
_REJECT_UNRECOVERED = 2
# Fields that would change what the client gets, if this gateway had them: maps and shared polls. (And `tf`, where an
# empty filter is one too.)
_NOT_IN_SUBSCRIBE = ("type", "phase", "cursor", "limit", "asc")
_NOT_IN_PUBLISH = ("type", "key", "removed")
_NOT_IN_SUB_REFRESH = ("type", "track", "untrack")

Makers = Mapping[str, Callable[[int, Any], Request]]


def request_of(command: Command, makers: Makers) -> Request:
    """The request in a command. `makers` are those of its encoding. Raises Disconnect(3501)."""
    name = _method(command)
    if name == "pong":
        return Pong()
    body = getattr(command, name)
    if name == "send":
        return makers["send"](0, body)
    if not command.id or not 0 < command.id <= _MAX_ID:
        raise Disconnect(BAD_COMMAND, f"{name} without an id between 1 and {_MAX_ID}")
    return makers[name](command.id, body)


def _method(command: Command) -> str:
    """The name of the one body that is present; "pong" for an empty command without an id (the answer to a ping)."""
    # Counting first is fast: every publish passes here.
    if command.id is None:
        command.id = 0
    present = len(_METHODS) + 1 - astuple(command).count(None)
    if present == 2:
        if command.publish is not None:
            return "publish"
        return next(name for name in _METHODS if getattr(command, name) is not None)
    if present == 1 and command.id == 0:
        return "pong"
    raise Disconnect(BAD_COMMAND, "no command in the object" if present == 1 else "more than one command in the object")


_METHODS = tuple(field for field in Command.__struct_fields__ if field != "id")


def connect_of(id: int, body: ConnectBody, data: bytes, name: str, version: str) -> Connect:
    """`data` is JSON, empty for none."""
    positions, unavailable = {}, ""
    for channel, sub in (body.subs or {}).items():
        if sub is None:
            continue
        unavailable = unavailable or _unavailable(sub)
        if sub.recover:
            positions[channel] = _position(sub.offset, sub.epoch)
    return Connect(
        id,
        body.token or "",
        positions=positions,
        unavailable=unavailable,
        data=data,
        name=name,
        version=version,
    )


def subscribe_of(id: int, body: SubscribeBody, data: bytes) -> Subscribe | Unsupported:
    """`data` is JSON, empty for none."""
    channel = body.channel or ""
    if unavailable := _unavailable(body):
        return Unsupported(id, f"subscribe with {unavailable}", channel)
    since = _position(body.offset, body.epoch) if body.recover else None
    reject = bool((body.flag or 0) & _REJECT_UNRECOVERED)
    return Subscribe(id, channel, body.token or "", since, reject, bool(body.delta), data)


def unsupported_in(id: int, body: PublishBody) -> Unsupported | None:
    """What a publish asks for and this gateway does not have."""
    if body.type or body.key or body.removed:
        return Unsupported(id, f"publish with {_asked(body, _NOT_IN_PUBLISH)}", body.channel or "")
    return None


def _history(id: int, body: HistoryBody) -> History:
    since = None if body.since is None else _position(body.since.offset, body.since.epoch)
    return History(id, body.channel or "", body.limit or 0, since, bool(body.reverse))


def _sub_refresh(id: int, body: SubRefreshBody) -> SubRefresh | Unsupported:
    channel = body.channel or ""
    if unavailable := _asked(body, _NOT_IN_SUB_REFRESH):
        return Unsupported(id, f"sub_refresh with {unavailable}", channel)
    return SubRefresh(id, channel, body.token or "")


# Of commands without a payload. Each encoding adds `connect`, `subscribe`, `publish`, `rpc` and `send`.
MAKERS: Makers = {
    "unsubscribe": lambda id, body: Unsubscribe(id, body.channel or ""),
    "presence": lambda id, body: Presence(id, body.channel or ""),
    "presence_stats": lambda id, body: PresenceStats(id, body.channel or ""),
    "history": _history,
    "ping": lambda id, body: Unsupported(id, "ping"),
    "refresh": lambda id, body: Refresh(id, body.token or ""),
    "sub_refresh": _sub_refresh,
}


def _unavailable(body: SubscribeBody) -> str:
    """What a subscribe asks for and this gateway does not have; empty if there is nothing."""
    if body.tf is not None:
        return "tf"
    if body.type or body.phase or body.cursor or body.limit or body.asc:
        return _asked(body, _NOT_IN_SUBSCRIBE)
    return "this delta" if body.delta and body.delta != "fossil" else ""


def _asked(body: msgspec.Struct, fields: Iterable[str]) -> str:
    """The first of the fields that the client gave a value; empty if there is none."""
    return next((field for field in fields if getattr(body, field)), "")


def _position(offset: int | None, epoch: str | None) -> Position:
    """Raises Disconnect for an offset that is none."""
    if not 0 <= (offset or 0) <= _MAX_OFFSET:
        raise Disconnect(BAD_COMMAND, f"an offset is a number from 0 to {_MAX_OFFSET}")
    return Position(min(offset or 0, _LAST_OFFSET), epoch or "")
