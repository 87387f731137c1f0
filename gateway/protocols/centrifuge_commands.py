"""Decodes what clients of the native protocol send: commands, one JSON object per line.

Payloads are never parsed into Python objects: they are taken as raw JSON.
"""

import re
from collections.abc import Callable

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
    Unsubscribe,
    Unsupported,
)

_EMPTY = msgspec.Raw()


class _Since(msgspec.Struct, frozen=True, gc=False):
    """StreamPosition."""

    offset: int = 0
    epoch: str = ""


class _SubPosition(msgspec.Struct, frozen=True, gc=False):
    """The part of a SubscribeRequest that a connect carries for a server-side subscription."""

    recover: bool = False
    offset: int = 0
    epoch: str = ""


class _Body(msgspec.Struct, gc=False):
    """All fields that the gateway reads, of any command; each command uses some of them."""

    channel: str = ""
    token: str = ""
    data: msgspec.Raw = _EMPTY
    method: str = ""
    # Positions. `_position` refuses offsets that are negative or too large.
    recover: bool = False
    offset: int = 0
    epoch: str = ""
    flag: int = 0
    delta: str = ""
    subs: dict[str, _SubPosition] = {}
    limit: int = 0
    since: _Since | None = None
    reverse: bool = False


class _Command(msgspec.Struct, gc=False):
    """Command{id, exactly one body}. An absent body is None."""

    id: int = 0
    connect: _Body | None = None
    subscribe: _Body | None = None
    unsubscribe: _Body | None = None
    publish: _Body | None = None
    presence: _Body | None = None
    presence_stats: _Body | None = None
    history: _Body | None = None
    ping: _Body | None = None
    send: _Body | None = None
    rpc: _Body | None = None
    refresh: _Body | None = None
    sub_refresh: _Body | None = None


_decode_line = msgspec.json.Decoder(_Command).decode
# The gap between two commands: nowhere else in JSON do `}`, a line break and `{` follow, since strings hold no raw one.
_BETWEEN = re.compile(rb"(?<=\})[ \t\r]*\n[ \t\r\n]*(?=\{)")
_MAX_ID = 2**32 - 1
_MAX_OFFSET = 2**63 - 1
# SubscribeRequest.flag: the client prefers an error to a subscription that is not recovered.
_REJECT_UNRECOVERED = 2


def decode(data: bytes) -> Request:
    """The request in one command. Raises Disconnect(3501) for anything else."""
    try:
        command = _command(data)
    except RecursionError:
        raise Disconnect(BAD_COMMAND, TOO_DEEP) from None
    except ValueError as error:
        # From the decoder, or because the text is not UTF-8.
        raise Disconnect(BAD_COMMAND, str(error)) from None
    if is_too_deep(data):
        raise Disconnect(BAD_COMMAND, TOO_DEEP)
    return _request(command)


def cut(data: bytes, start: int) -> tuple[bytes, int]:
    """The command that begins at `start` of a frame, and where the next one begins: the end, after the last one."""
    between = _BETWEEN.search(data, start) if data.find(b"\n", start) >= 0 else None
    return (data[start:], len(data)) if between is None else (data[start : between.start()], between.end())


def _command(data: bytes) -> _Command:
    try:
        return _decode_line(data)
    except msgspec.DecodeError:
        whole = mended(data)
        if whole == data:
            raise
        return _decode_line(whole)


def _request(command: _Command) -> Request:
    """The request in a command. Raises Disconnect(3501)."""
    name = _method(command)
    if name == "pong":
        return Pong()
    body: _Body = getattr(command, name)
    if name == "send":
        return Call(0, "", compact(bytes(body.data)))
    if not 0 < command.id <= _MAX_ID:
        raise Disconnect(BAD_COMMAND, f"{name} without an id between 1 and {_MAX_ID}")
    return _MAKERS[name](command.id, body)


def _method(command: _Command) -> str:
    """The name of the one body that is present; "pong" for an empty command without an id (the answer to a ping)."""
    # Counting first is fast: every publish passes here.
    present = len(_METHODS) + 1 - astuple(command).count(None)
    if present == 2:
        if command.publish is not None:
            return "publish"
        return next(name for name in _METHODS if getattr(command, name) is not None)
    if present == 1 and command.id == 0:
        return "pong"
    raise Disconnect(BAD_COMMAND, "no command in the object" if present == 1 else "more than one command in the object")


_METHODS = tuple(field for field in _Command.__struct_fields__ if field != "id")


def _connect(id: int, body: _Body) -> Connect:
    positions = {name: _position(sub.offset, sub.epoch) for name, sub in body.subs.items() if sub.recover}
    return Connect(id, body.token, positions=positions)


def _subscribe(id: int, body: _Body) -> Subscribe:
    since = _position(body.offset, body.epoch) if body.recover else None
    reject = bool(body.flag & _REJECT_UNRECOVERED)
    delta = body.delta == "fossil"
    return Subscribe(id, body.channel, body.token, since, reject, delta)


def _history(id: int, body: _Body) -> History:
    since = None if body.since is None else _position(body.since.offset, body.since.epoch)
    return History(id, body.channel, body.limit, since, body.reverse)


_MAKERS: dict[str, Callable[[int, _Body], Request]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": lambda id, body: Unsubscribe(id, body.channel),
    "publish": lambda id, body: Publish(id, body.channel, compact(bytes(body.data))),
    "presence": lambda id, body: Presence(id, body.channel),
    "presence_stats": lambda id, body: PresenceStats(id, body.channel),
    "history": _history,
    "ping": lambda id, body: Unsupported(id, "ping"),
    "rpc": lambda id, body: Call(id, body.method, compact(bytes(body.data))),
    "refresh": lambda id, body: Refresh(id, body.token),
    "sub_refresh": lambda id, body: SubRefresh(id, body.channel, body.token),
}


def _position(offset: int, epoch: str) -> Position:
    """Raises Disconnect for an offset that no stream can have."""
    if not 0 <= offset <= _MAX_OFFSET:
        raise Disconnect(BAD_COMMAND, "an offset that no stream has")
    return Position(offset, epoch)
