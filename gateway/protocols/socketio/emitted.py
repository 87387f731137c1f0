"""Decodes what services emit through Redis, to clients whose connections they do not hold.

| service                     | Redis channel         | message                                                       |
|-----------------------------|-----------------------|---------------------------------------------------------------|
| `@socket.io/redis-emitter`  | KEY#/# or KEY#/#ROOM# | MessagePack: [uid, {type, data, nsp}, {rooms, except, flags}] |
| managers of python-socketio | CHANNEL               | JSON: {"method": "emit", "event", "data", "room", ...}        |

Emitters of other languages, and servers that use the Pub/Sub adapter, send the same as the first. An event with one
argument is what a channel can store, by the table in `attachments`. Everything else is refused with its reason.

Whoever may publish in Redis may send anything. All takes linear time, and memory in proportion to the message: it is
looked through as a whole before anything is made of it, since a MessagePack array only claims its length.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from gateway.errors import GatewayError
from gateway.json_text import TOO_DEEP, compact, is_too_deep, mended
from gateway.messages import Kind
from gateway.protocols.socketio.socketio_packets import DEFAULT_NAMESPACE, RESERVED_EVENTS

# Bytes of a message for each byte that may be published, and beside them: JSON in ASCII has six bytes for a character
# of two, and rooms have names.
EXPANSION = 4
BESIDE = 64 * 1024

# Client ids are UUIDs.
_CLIENT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The first byte of every pickle since protocol 2, with which older managers of python-socketio write.
_PICKLE = b"\x80"
# MessagePack types without an equal in JSON (bin and ext). These bytes also occur in texts: then the value is searched.
_BINARY = re.compile(rb"[\xc4-\xc9\xd4-\xd8]")
_BIN = (b"\xc4", b"\xc5", b"\xc6")
# Types of Socket.IO packets.
_EVENTS = (2, 5)


class Emission(msgspec.Struct, frozen=True, gc=False):
    """One event, and to whom."""

    event: str
    data: bytes
    kind: Kind = Kind.JSON
    # Empty: everybody.
    rooms: Sequence[str] = ()
    # The client that does not get it; empty for none.
    exclude_client: str = ""


class NotEmitted(GatewayError):
    """Nothing is emitted. `reason` is one of a few fixed words; the text says more, and may quote the message."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Packet(msgspec.Struct, gc=False):
    data: Raw
    type: int
    nsp: str = DEFAULT_NAMESPACE


class _Operator(msgspec.Struct, gc=False):
    rooms: list[str | int] | None = None
    excepted: list[str | int] | None = msgspec.field(default=None, name="except")


class _Triple(msgspec.Struct, array_like=True, gc=False):
    uid: Raw
    packet: _Packet
    operator: _Operator


_EMPTY = Raw()


class _Event(msgspec.Struct, array_like=True, gc=False):
    """The data of a packet. Items beyond these are skipped."""

    name: str | int
    argument: Raw = _EMPTY
    more: Raw = _EMPTY


class _Arguments(msgspec.Struct, array_like=True, gc=False):
    argument: Raw = _EMPTY
    more: Raw = _EMPTY


class _WithBuffers(msgspec.Struct, array_like=True, gc=False):
    """Arguments with placeholders, and the buffers in base64."""

    arguments: Raw
    buffer: str
    more: Raw = _EMPTY


class _Placeholder(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    placeholder: bool = msgspec.field(name="_placeholder")
    num: int


class _Message(msgspec.Struct, gc=False):
    """What a manager sends. Other methods have other fields."""

    method: str
    event: str | int = ""
    data: Raw = _EMPTY
    binary: bool = False
    namespace: str | None = None
    room: str | int | list[str | int] | None = None
    skip_sid: str | list[str] | None = None


T = TypeVar("T")

_skim = msgspec.msgpack.Decoder(Raw).decode
_decode_triple = msgspec.msgpack.Decoder(_Triple).decode
_decode_event = msgspec.msgpack.Decoder(_Event).decode
_decode_value = msgspec.msgpack.Decoder().decode
_decode_buffer = msgspec.msgpack.Decoder(bytes).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_arguments = msgspec.json.Decoder(_Arguments).decode
_decode_with_buffers = msgspec.json.Decoder(_WithBuffers).decode
_decode_placeholder = msgspec.json.Decoder(_Placeholder).decode


def from_emitter(message: bytes, most_bytes: int) -> Emission:
    """What `@socket.io/redis-emitter` has sent. `most_bytes`: of name and data together. Raises NotEmitted."""
    _check_size(message, most_bytes)
    _parsed(_skim, message)
    triple = _parsed(_decode_triple, message)
    packet, operator = triple.packet, triple.operator
    if packet.type not in _EVENTS:
        raise NotEmitted("method", f"a packet of type {packet.type}")
    _check_namespace(packet.nsp)
    event = _parsed(_decode_event, bytes(packet.data))
    excluded = _excluded(operator.excepted or ())
    _check_single(bytes(event.more))
    kind, data = _value(bytes(event.argument), most_bytes)
    return _emission(event.name, kind, data, operator.rooms or (), excluded, most_bytes)


def from_manager(message: bytes, most_bytes: int) -> Emission:
    """What a manager of python-socketio has sent. `most_bytes`: of name and data together. Raises NotEmitted."""
    _check_size(message, most_bytes)
    if message[:1] == _PICKLE:
        raise NotEmitted("pickle", "a pickle, which could run code; newer versions of python-socketio send JSON")
    told = _parsed(_told, message)
    if told.method != "emit":
        raise NotEmitted("method", f"the method {told.method[:32]!r}")
    _check_namespace(told.namespace or DEFAULT_NAMESPACE)
    skipped = [told.skip_sid] if isinstance(told.skip_sid, str) else told.skip_sid
    excluded = _excluded(skipped or ())
    data = bytes(told.data)
    kind, data = _buffer(data) if told.binary else (Kind.JSON, _single(data))
    room = told.room
    rooms = room if isinstance(room, list) else () if room is None else (room,)
    return _emission(told.event, kind, data, rooms, excluded, most_bytes)


def _told(message: bytes) -> _Message:
    """Raises ValueError."""
    if not message.isascii():
        message.decode()
    try:
        return _decode_message(message)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Halves of characters, which Python writes as escapes too.
        return _decode_message(mended(message))


def _check_size(message: bytes, most_bytes: int) -> None:
    if len(message) > EXPANSION * most_bytes + BESIDE:
        raise NotEmitted("size", f"a message of {len(message)} bytes (limits.message_size)")


def _check_published(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise NotEmitted("size", f"{size} bytes to deliver, {most_bytes} are allowed (limits.message_size)")


def _parsed(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except RecursionError:
        raise NotEmitted("malformed", TOO_DEEP) from None
    # A TypeError is for keys that Python cannot hash.
    except (ValueError, TypeError, OverflowError) as error:
        raise NotEmitted("malformed", f"not as it should be: {error}") from None


def _check_namespace(name: str) -> None:
    if name != DEFAULT_NAMESPACE:
        raise NotEmitted("namespace", f"the namespace {name[:64]!r}, and there is only {DEFAULT_NAMESPACE}")


def _check_single(more: bytes) -> None:
    if more:
        raise NotEmitted("arguments", "an event with several arguments; a channel stores one")


def _excluded(clients: Sequence[str | int]) -> str:
    """The one client that does not get the event. Somebody who may not get it must not, so others get nothing."""
    if not clients:
        return ""
    if len(clients) > 1:
        raise NotEmitted("except", f"{len(clients)} exceptions; there can be one, of a client id")
    (client,) = clients
    if not isinstance(client, str) or not is_client_id(client):
        raise NotEmitted("except", f"{str(client)[:64]!r} is excepted, which is no client id")
    return client


def _emission(
    event: str | int, kind: Kind, data: bytes, rooms: Sequence[str | int], excluded: str, most_bytes: int
) -> Emission:
    name = str(event)
    if not name or name in RESERVED_EVENTS:
        raise NotEmitted("malformed", f"an event with the name {name!r}")
    _check_published(len(data) + len(name.encode()), most_bytes)
    # Each once, in their order.
    return Emission(name, data, kind, tuple(dict.fromkeys(map(str, rooms))), excluded)


# MessagePack


def _value(argument: bytes, most_bytes: int) -> tuple[Kind, bytes]:
    """An argument of an event as it is stored. An event without one has null, as it has in python-socketio."""
    if not argument:
        return Kind.JSON, b"null"
    if argument[:1] in _BIN:
        return Kind.BINARY, _parsed(_decode_buffer, argument)
    held = [_parsed(_decode_value, argument)]
    data = _parsed(msgspec.json.encode, held[0])
    # Searching takes a microsecond for each value, and the JSON of a value takes two bytes or more.
    _check_published(len(data), most_bytes)
    if _BINARY.search(argument):
        _to_json_types(held)
        data = msgspec.json.encode(held[0])
    if is_too_deep(data):
        raise NotEmitted("malformed", TOO_DEEP)
    return Kind.JSON, data


def _to_json_types(root: list[Any]) -> None:
    """Write dates as JavaScript's JSON.stringify does, in place. Raises NotEmitted for what has no equal in JSON."""
    waiting: list[Any] = [root]
    while waiting:
        container = waiting.pop()
        is_map = isinstance(container, dict)
        for key, value in list(container.items() if is_map else enumerate(container)):
            if is_map and not isinstance(key, str | int):
                raise NotEmitted("malformed", "an object whose keys are no strings")
            match value:
                case str() | int() | float() | None:
                    pass
                case list() | dict():
                    if value:
                        waiting.append(value)
                case datetime():
                    container[key] = value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
                case bytes():
                    raise NotEmitted("buffers", "buffers within JSON; a channel stores one that is the only argument")


# JSON


def _single(data: bytes) -> bytes:
    """The argument of an event. Arguments come as a list. What is no list is the only one."""
    if data[:1] == b"[":
        arguments = _parsed(_decode_arguments, data)
        _check_single(bytes(arguments.more))
        data = bytes(arguments.argument)
    if is_too_deep(data):
        raise NotEmitted("malformed", TOO_DEEP)
    return compact(data) or b"null"


def _buffer(data: bytes) -> tuple[Kind, bytes]:
    """The buffer that is the one argument."""
    held = _parsed(_decode_with_buffers, data)
    argument = _single(bytes(held.arguments))
    try:
        if _decode_placeholder(argument).num or bytes(held.more):
            raise ValueError("more than one buffer")
    except (ValueError, RecursionError):
        raise NotEmitted("buffers", "buffers within JSON; a channel stores one that is the only argument") from None
    return Kind.BINARY, _parsed(_from_base64, held.buffer.encode())


def _from_base64(text: bytes) -> bytes:
    """Raises ValueError."""
    return b64decode(text, validate=True)


def is_client_id(text: str) -> bool:
    """Whether it is the id of a client, which is the `socket.id` of a Socket.IO client."""
    return _CLIENT.fullmatch(text) is not None
