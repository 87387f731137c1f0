"""Decodes what clients of the native protocol send: commands, one JSON object per line.

Payloads are never parsed into Python objects: they are taken as raw JSON.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import astuple

from gateway.errors import BAD_COMMAND, Disconnect
from gateway.json_text import TOO_DEEP, compact, is_too_deep, mended
from gateway.messages import (
    Call,
    Connect,
    History,
    Pong,
    Position,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Request,
    SubRefresh,
    Subscribe,
    UnknownFields,
    Unsubscribe,
    Unsupported,
)

_EMPTY = msgspec.Raw()


# Requests as clients send them: all fields that client.proto defines. Null and absent are the same. Fields that only
# inform the server are Raw: nothing is refused for their values.


class _Since(msgspec.Struct, gc=False):
    """StreamPosition."""

    offset: int | None = None
    epoch: str | None = None


class _Subscribe(msgspec.Struct, gc=False):
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


class _Connect(msgspec.Struct, gc=False):
    token: str | None = None
    # The positions of server-side subscriptions.
    subs: Mapping[str, _Subscribe | None] | None = None
    data: msgspec.Raw = _EMPTY
    name: msgspec.Raw = _EMPTY
    version: msgspec.Raw = _EMPTY
    headers: msgspec.Raw = _EMPTY
    # The client can read compressed messages: it allows that and does not ask for it.
    flag: msgspec.Raw = _EMPTY
    profile: msgspec.Raw = _EMPTY
    dict: msgspec.Raw = _EMPTY


class _Publish(msgspec.Struct, gc=False):
    channel: str | None = None
    data: msgspec.Raw = _EMPTY
    # Not available.
    type: int | None = None
    key: str | None = None
    removed: bool | None = None


class _OfChannel(msgspec.Struct, gc=False):
    """UnsubscribeRequest, PresenceRequest, PresenceStatsRequest."""

    channel: str | None = None


class _History(msgspec.Struct, gc=False):
    channel: str | None = None
    limit: int | None = None
    since: _Since | None = None
    reverse: bool | None = None


class _Call(msgspec.Struct, gc=False):
    """RPCRequest, and SendRequest without a method."""

    method: str | None = None
    data: msgspec.Raw = _EMPTY


class _Refresh(msgspec.Struct, gc=False):
    token: str | None = None


class _SubRefresh(msgspec.Struct, gc=False):
    channel: str | None = None
    token: str | None = None
    # Not available.
    type: int | None = None
    track: list[msgspec.Raw] | None = None
    untrack: list[msgspec.Raw] | None = None


class _Ping(msgspec.Struct, gc=False):
    pass


class _Command(msgspec.Struct, gc=False):
    """Command{id, exactly one body}. An absent body is None."""

    id: int | None = 0
    connect: _Connect | None = None
    subscribe: _Subscribe | None = None
    unsubscribe: _OfChannel | None = None
    publish: _Publish | None = None
    presence: _OfChannel | None = None
    presence_stats: _OfChannel | None = None
    history: _History | None = None
    ping: _Ping | None = None
    send: _Call | None = None
    rpc: _Call | None = None
    refresh: _Refresh | None = None
    sub_refresh: _SubRefresh | None = None


def _exact(kind: type[msgspec.Struct], **fields: Any) -> type[msgspec.Struct]:
    """The same type, but names that are none of its fields are an error. `fields` get other types."""
    optional = [(name, type_ | None, None) for name, type_ in fields.items()]
    return msgspec.defstruct(kind.__name__, optional, bases=(kind,), forbid_unknown_fields=True)


def _exact_command() -> type[msgspec.Struct]:
    subscribe, of_channel, call = _exact(_Subscribe), _exact(_OfChannel), _exact(_Call)
    return _exact(
        _Command,
        connect=_exact(_Connect, subs=Mapping[str, subscribe | None]),  # type: ignore[valid-type]  # made above
        subscribe=subscribe,
        unsubscribe=of_channel,
        publish=_exact(_Publish),
        presence=of_channel,
        presence_stats=of_channel,
        history=_exact(_History, since=_exact(_Since)),
        ping=_exact(_Ping),
        send=call,
        rpc=call,
        refresh=_exact(_Refresh),
        sub_refresh=_exact(_SubRefresh),
    )


# Nearly all commands have only names that are defined. To tell the others apart costs nothing that way.
_decode_exactly: Callable[[bytes], _Command] = msgspec.json.Decoder[Any](_exact_command()).decode
_decode_line = msgspec.json.Decoder(_Command).decode
_decode_connect = msgspec.json.Decoder(_Connect).decode
# The gap between two commands: nowhere else in JSON do `}`, a line break and `{` follow, since strings hold no raw one.
_BETWEEN = re.compile(rb"(?<=\})[ \t\r]*\n[ \t\r\n]*(?=\{)")
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


def decode(data: bytes) -> Sequence[Request]:
    """The request in one command, after UnknownFields if it has some. Raises Disconnect(3501) for anything else."""
    is_exact = True
    try:
        try:
            command = _decode_exactly(data)
        except msgspec.DecodeError:
            command, is_exact = _decode_again(data)
    except RecursionError:
        raise Disconnect(BAD_COMMAND, TOO_DEEP) from None
    except ValueError as error:
        # From the decoder, or because the text is not UTF-8.
        raise Disconnect(BAD_COMMAND, str(error)) from None
    if is_too_deep(data):
        raise Disconnect(BAD_COMMAND, TOO_DEEP)
    request = _request(command)
    return (request,) if is_exact else (UnknownFields(), request)


def decode_connect(data: bytes) -> Connect:
    """A ConnectRequest by itself, as unidirectional clients send it. Raises Disconnect(3501) for anything else."""
    try:
        body = _decode_connect(data)
    except RecursionError:
        raise Disconnect(BAD_COMMAND, TOO_DEEP) from None
    except ValueError as error:
        raise Disconnect(BAD_COMMAND, str(error)) from None
    if is_too_deep(data):
        raise Disconnect(BAD_COMMAND, TOO_DEEP)
    return _connect(1, body)


def cut(data: bytes, start: int) -> tuple[bytes, int]:
    """The command that begins at `start` of a frame, and where the next one begins: the end, after the last one."""
    between = _BETWEEN.search(data, start) if data.find(b"\n", start) >= 0 else None
    return (data[start:], len(data)) if between is None else (data[start : between.start()], between.end())


def _decode_again(data: bytes) -> tuple[_Command, bool]:
    """A command that is not as it should be, and whether it has only names that the protocol defines.

    Raises ValueError and RecursionError.
    """
    whole = mended(data)
    if whole != data:
        with suppress(msgspec.ValidationError):
            return _decode_exactly(whole), True
    return _decode_line(whole), False


def _request(command: _Command) -> Request:
    """The request in a command. Raises Disconnect(3501)."""
    name = _method(command)
    if name == "pong":
        return Pong()
    body = getattr(command, name)
    if name == "send":
        return Call(0, "", compact(bytes(body.data)))
    if not command.id or not 0 < command.id <= _MAX_ID:
        raise Disconnect(BAD_COMMAND, f"{name} without an id between 1 and {_MAX_ID}")
    return _MAKERS[name](command.id, body)


def _method(command: _Command) -> str:
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


_METHODS = tuple(field for field in _Command.__struct_fields__ if field != "id")


def _connect(id: int, body: _Connect) -> Connect:
    positions, unavailable = {}, ""
    for name, sub in (body.subs or {}).items():
        if sub is None:
            continue
        unavailable = unavailable or _unavailable(sub)
        if sub.recover:
            positions[name] = _position(sub.offset, sub.epoch)
    return Connect(
        id,
        body.token or "",
        positions=positions,
        unavailable=unavailable,
        data=_optional(body.data),
        name=_text(body.name),
        version=_text(body.version),
    )


def _subscribe(id: int, body: _Subscribe) -> Subscribe | Unsupported:
    channel = body.channel or ""
    if unavailable := _unavailable(body):
        return Unsupported(id, f"subscribe with {unavailable}", channel)
    since = _position(body.offset, body.epoch) if body.recover else None
    reject = bool((body.flag or 0) & _REJECT_UNRECOVERED)
    return Subscribe(id, channel, body.token or "", since, reject, bool(body.delta), _optional(body.data))


def _publish(id: int, body: _Publish) -> Publish | Unsupported:
    if body.type or body.key or body.removed:
        return Unsupported(id, f"publish with {_asked(body, _NOT_IN_PUBLISH)}", body.channel or "")
    return Publish(id, body.channel or "", compact(bytes(body.data)))


def _history(id: int, body: _History) -> History:
    since = None if body.since is None else _position(body.since.offset, body.since.epoch)
    return History(id, body.channel or "", body.limit or 0, since, bool(body.reverse))


def _sub_refresh(id: int, body: _SubRefresh) -> SubRefresh | Unsupported:
    channel = body.channel or ""
    if unavailable := _asked(body, _NOT_IN_SUB_REFRESH):
        return Unsupported(id, f"sub_refresh with {unavailable}", channel)
    return SubRefresh(id, channel, body.token or "")


_MAKERS: dict[str, Callable[[int, Any], Request]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": lambda id, body: Unsubscribe(id, body.channel or ""),
    "publish": _publish,
    "presence": lambda id, body: Presence(id, body.channel or ""),
    "presence_stats": lambda id, body: PresenceStats(id, body.channel or ""),
    "history": _history,
    "ping": lambda id, body: Unsupported(id, "ping"),
    "rpc": lambda id, body: Call(id, body.method or "", compact(bytes(body.data))),
    "refresh": lambda id, body: Refresh(id, body.token or ""),
    "sub_refresh": _sub_refresh,
}


def _optional(value: msgspec.Raw) -> bytes:
    """A JSON text; empty for an absent value and for null."""
    text = bytes(value)
    return b"" if text == b"null" else compact(text)


def _text(value: msgspec.Raw) -> str:
    """The text of a field that only informs; empty for anything else."""
    text = bytes(value)
    if text[:1] != b'"':
        return ""
    try:
        return str(msgspec.json.decode(text))
    except ValueError:
        return ""


def _unavailable(body: _Subscribe) -> str:
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
