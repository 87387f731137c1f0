"""Decodes what clients of the native protocol send in Protobuf: commands, each behind its length.

A payload is bytes. Where it is JSON it is taken as JSON, so that clients of all protocols read it alike.
"""

from collections.abc import Sequence

import msgspec

from gateway.errors import BAD_COMMAND, Disconnect
from gateway.messages import Call, Kind, Publish, Request, UnknownFields, Unsupported
from gateway.protocols.centrifuge_requests import (
    MAKERS,
    CallBody,
    ChannelBody,
    Command,
    ConnectBody,
    HistoryBody,
    Makers,
    PingBody,
    PublishBody,
    RefreshBody,
    SinceBody,
    SubRefreshBody,
    SubscribeBody,
    connect_of,
    request_of,
    subscribe_of,
    unsupported_in,
)
from gateway.protocols.payload import in_base64, json_of
from gateway.protocols.protobuf_wire import (
    Reader,
    Shape,
    blob,
    int32,
    int64,
    mapping,
    message,
    number,
    text,
    varint,
)

# Bytes of the shortest command that is no pong: its length and the tag and the length of a body, as of an empty `send`.
_SHORTEST = 3
# Fields of a connect: a client that recovers a thousand subscriptions by the server sends 7,000, which
# take 12 ms (4 ms in JSON). A connection has one connect in its life.
_CONNECT_FIELDS = 8192
# Commands that are counted one by one, in 3.4 ms. More are refused as a flood, however many they are.
_COUNTED = 16 * 1024


class _Filter(msgspec.Struct, gc=False):
    """FilterNode: it is checked, and not available."""

    op: str | None = None
    key: str | None = None
    cmp: str | None = None
    val: str | None = None
    vals: list[str] | None = None
    nodes: "list[_Filter] | None" = None


class _Keys(msgspec.Struct, gc=False):
    """TrackBatch and KeyedItem, which are not available either."""

    key: str | None = None
    version: int | None = None
    signature: str | None = None
    items: "list[_Keys] | None" = None


def _string(data: bytes) -> msgspec.Raw:
    """The bytes of a string that only informs. Raises ValueError if it is not UTF-8."""
    data.decode()
    return msgspec.Raw(data)


_FILTER = Shape(
    _Filter,
    {1: text("op"), 2: text("key"), 3: text("cmp"), 4: text("val"), 5: text("vals", is_list=True)},
)
_FILTER.add(6, message("nodes", _FILTER, is_list=True))
_SUBSCRIBE = Shape(
    SubscribeBody,
    {
        1: text("channel"),
        2: text("token"),
        3: number("recover", bool),
        6: text("epoch"),
        7: number("offset"),
        8: blob("data", msgspec.Raw),
        9: number("positioned", bool),
        10: number("recoverable", bool),
        11: number("join_leave", bool),
        12: text("delta"),
        13: message("tf", _FILTER),
        14: number("flag", int64),
        15: number("type", int32),
        16: number("phase", int32),
        17: text("cursor"),
        18: number("limit", int32),
        19: number("asc", bool),
    },
)
_CONNECT = Shape(
    ConnectBody,
    {
        1: text("token"),
        2: blob("data", msgspec.Raw),
        3: mapping("subs", lambda name: message(name, _SUBSCRIBE)),
        4: blob("name", _string),
        5: blob("version", _string),
        6: blob("headers", msgspec.Raw),
        7: number("flag"),
        8: blob("dict", _string),
        9: blob("profile", _string),
    },
    most=_CONNECT_FIELDS,
)
_CHANNEL = Shape(ChannelBody, {1: text("channel")})
_PUBLISH = Shape(
    PublishBody,
    {
        1: text("channel"),
        2: blob("data", msgspec.Raw),
        3: number("type", int32),
        4: text("key"),
        5: number("removed", bool),
    },
)
_SINCE = Shape(SinceBody, {1: number("offset"), 2: text("epoch")})
_HISTORY = Shape(
    HistoryBody,
    {1: text("channel"), 7: number("limit", int32), 8: message("since", _SINCE), 9: number("reverse", bool)},
)
_PING = Shape(PingBody, {})
_SEND = Shape(CallBody, {1: blob("data", msgspec.Raw)})
_RPC = Shape(CallBody, {1: blob("data", msgspec.Raw), 2: text("method")})
_REFRESH = Shape(RefreshBody, {1: text("token")})
_ITEM = Shape(_Keys, {1: text("key"), 2: number("version")})
_BATCH = Shape(_Keys, {1: text("signature"), 2: message("items", _ITEM, is_list=True)})
_SUB_REFRESH = Shape(
    SubRefreshBody,
    {
        1: text("channel"),
        2: text("token"),
        3: number("type", int32),
        4: message("track", _BATCH, is_list=True),
        5: text("untrack", is_list=True),
    },
)
_COMMAND = Shape(
    Command,
    {
        # Above uint32 it is refused, and not cut to its lower half: no encoder writes that.
        1: number("id"),
        4: message("connect", _CONNECT),
        5: message("subscribe", _SUBSCRIBE),
        6: message("unsubscribe", _CHANNEL),
        7: message("publish", _PUBLISH),
        8: message("presence", _CHANNEL),
        9: message("presence_stats", _CHANNEL),
        10: message("history", _HISTORY),
        11: message("ping", _PING),
        12: message("send", _SEND),
        13: message("rpc", _RPC),
        14: message("refresh", _REFRESH),
        15: message("sub_refresh", _SUB_REFRESH),
    },
)


def count(data: bytes) -> int:
    """An upper bound of the commands in a frame; 1 only if the whole frame is one, or malformed."""
    if data and data[0] == len(data) - 1 < 0x80:
        return 1
    at = found = 0
    while at < len(data):
        found += 1
        size = data[at]
        at += 1
        if size >= 0x80:
            try:
                size, at = _length(data, at - 1)
            except ValueError:
                # `cut` refuses it.
                return found
        at += size
        if found == _COUNTED:
            return found + max(len(data) - at, 0) // _SHORTEST
    return found or 1


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The length of a command, and where it ends. Raises ValueError for one that cannot be.

    No encoder writes it in more bytes than it takes. A frame of such lengths took 40 ms to count.
    """
    size, end = varint(data, at)
    if end - at > 1 and not data[end - 1]:
        raise ValueError("a length in more bytes than it takes")
    return size, end


def cut(data: bytes, start: int) -> tuple[bytes, int]:
    """The command that begins at `start` of a frame, with its length, and where it ends. Raises Disconnect(3501)."""
    try:
        size, at = _length(data, start)
    except ValueError as error:
        raise Disconnect(BAD_COMMAND, str(error)) from None
    end = at + size
    if end > len(data):
        raise Disconnect(BAD_COMMAND, "a command ends behind its frame")
    return data[start:end], end


def decode(data: bytes) -> Sequence[Request]:
    """The request in one command, after UnknownFields if it has some. Raises Disconnect(3501) for anything else."""
    command, reader = Command(), Reader(data)
    try:
        size, at = _length(data, 0)
        if at + size != len(data):
            raise ValueError("the length of the command is another one")
        reader.read(_COMMAND, command, at, len(data))
    except IndexError:
        raise Disconnect(BAD_COMMAND, "the command is cut off") from None
    except ValueError as error:
        # It is malformed, or a string is not UTF-8.
        raise Disconnect(BAD_COMMAND, str(error)) from None
    request = request_of(command, _MAKERS)
    return (UnknownFields(), request) if reader.has_unknown else (request,)


def _publish(id: int, body: PublishBody) -> Publish | Unsupported:
    if unsupported := unsupported_in(id, body):
        return unsupported
    data = bytes(body.data)
    if not data:
        # Absent and empty are the same in Protobuf.
        return Publish(id, body.channel or "", b"")
    json = json_of(data)
    if json is None:
        return Publish(id, body.channel or "", data, Kind.BINARY)
    return Publish(id, body.channel or "", json)


_MAKERS: Makers = {
    **MAKERS,
    "connect": lambda id, body: connect_of(
        id, body, _optional(body.data), bytes(body.name).decode(), bytes(body.version).decode()
    ),
    "subscribe": lambda id, body: subscribe_of(id, body, _optional(body.data)),
    "publish": _publish,
    "rpc": lambda id, body: Call(id, body.method or "", _json(body.data)),
    "send": lambda id, body: Call(id, "", _json(body.data)),
}


def _json(value: msgspec.Raw) -> bytes:
    """A payload for the application, which reads JSON; empty for an absent one."""
    data = bytes(value)
    return (json_of(data) or in_base64(data)) if data else b""


def _optional(value: msgspec.Raw) -> bytes:
    """The same; empty for null, too."""
    data = _json(value)
    return b"" if data == b"null" else data
