"""Decodes packets of Socket.IO v5 that clients send: `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`.

| type            | JSON                                                      |
|-----------------|-----------------------------------------------------------|
| 0 CONNECT       | none or an object, for authentication                     |
| 1 DISCONNECT    | none                                                      |
| 2 EVENT         | an array; the first item is the name, a string or number  |
| 3 ACK           | an array; with the ack id of an event of the server       |
| 5 BINARY_EVENT  | as 2, with placeholders; 1 to 10 attachments follow       |
| 6 BINARY_ACK    | as 3, with placeholders                                   |

4 (CONNECT_ERROR) comes from servers only. Arguments stay raw JSON: they are spliced into what others get.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec
from msgspec.structs import astuple

from gateway.errors import BAD_COMMAND, Disconnect
from gateway.json_text import TOO_DEEP, compact, is_too_deep, mended
from gateway.messages import Kind

# Of the reference.
MAX_ATTACHMENTS = 10
# Names that applications cannot send: clients and servers of the reference emit these themselves.
RESERVED_EVENTS = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"),
)
# Arguments besides the name. The reference has no limit; events that a gateway knows have a channel and a payload, and
# every item costs more than a hundred bytes here, where two in the message are enough.
MAX_ARGUMENTS = 8
# The largest number that JavaScript counts to in steps of one: from there on the reference acknowledges another id
# than it was sent.
MAX_ACK_ID = 2**53 - 1
# Bytes of a namespace's name, without the query behind it.
MAX_NAMESPACE = 255

DEFAULT_NAMESPACE = "/"


class Argument(msgspec.Struct, frozen=True, gc=False):
    """One argument of an event or of an acknowledgement: JSON, or (after assembly) the bytes of a buffer."""

    data: bytes
    kind: Kind = Kind.JSON
    # Buffers are somewhere within the JSON, where placeholders stand for them.
    holds_buffers: bool = False


class SocketConnect(msgspec.Struct, frozen=True, gc=False):
    """The client joins a namespace. `auth` is a JSON object; empty if there is none."""

    namespace: str
    auth: bytes = b""


class SocketDisconnect(msgspec.Struct, frozen=True, gc=False):
    """The client leaves a namespace."""

    namespace: str


class SocketEvent(msgspec.Struct, frozen=True, gc=False):
    """The client emits an event; with an id, it waits for an acknowledgement.

    A name that is a number keeps its spelling: `1` and `1.0` are two names.
    """

    namespace: str
    name: str
    arguments: Sequence[Argument] = ()
    id: int | None = None
    # Binary messages that are still to come; none after assembly.
    attachments: int = 0


class SocketAck(msgspec.Struct, frozen=True, gc=False):
    """The client acknowledges an event of the server."""

    namespace: str
    id: int
    arguments: Sequence[Argument] = ()
    attachments: int = 0


SocketPacket = SocketConnect | SocketDisconnect | SocketEvent | SocketAck


T = TypeVar("T")


# Each part is read at most twice: all repetitions are possessive, and a namespace ends at a comma or with the packet.
_HEADER = re.compile(rb"([0-6])(?:([0-9]++)-)?+(?:(/[^,]*+)(?:,|\Z))?+([0-9]*+)")
_ID_DIGITS = len(str(MAX_ACK_ID))
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

_EMPTY = msgspec.Raw()
# Items beyond the last field are refused before anything is made of them; a list would be built first.
_Items: Any = msgspec.defstruct(
    "_Items",
    [(f"item{number}", msgspec.Raw, _EMPTY) for number in range(1 + MAX_ARGUMENTS)],
    array_like=True,
    forbid_unknown_fields=True,
    gc=False,
)
_decode_items: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(_Items).decode
_decode_value = msgspec.json.Decoder(msgspec.Raw).decode
_decode_name = msgspec.json.Decoder(str).decode


def decode(data: bytes) -> SocketPacket:
    """The packet in the text payload of an Engine.IO message, which is one without the `4`. Raises Disconnect.

    An event or an acknowledgement with attachments is incomplete: see `attachments.Assembler`. Takes linear time.
    """
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            refuse("a packet that is not UTF-8")
    header = _HEADER.match(data)
    if header is None:
        refuse("a packet of an unknown type")
    type, attachments, namespace, id = header.groups()
    return _DECODERS[type](
        DEFAULT_NAMESPACE if namespace is None else _namespace(namespace),
        _ack_id(id) if id else None,
        _attachments(type, attachments),
        data[header.end() :],
    )


class Head(NamedTuple):
    """What says whose a packet is."""

    type: bytes
    namespace: str
    # Binary messages that follow it.
    attachments: int


CONNECT, DISCONNECT = b"0", b"1"
_MAIN_EVENT = Head(b"2", DEFAULT_NAMESPACE, 0)


def head_of(data: bytes) -> Head:
    """The head of a packet, the rest of which may be wrong. Raises Disconnect."""
    if data.startswith(b"2["):
        return _MAIN_EVENT
    header = _HEADER.match(data)
    if header is None:
        refuse("a packet of an unknown type")
    type, attachments, namespace, _ = header.groups()
    name = DEFAULT_NAMESPACE if namespace is None else _namespace(namespace)
    return Head(type, name, _attachments(type, attachments))


def refuse(reason: str) -> NoReturn:
    """Raises Disconnect: the packet violates the protocol."""
    raise Disconnect(BAD_COMMAND, f"Socket.IO: {reason}")


def _namespace(text: bytes) -> str:
    """The name of a namespace, without a query behind it.

    Clients of other languages, and those written for v2, send `/name?key=value`; servers other than the reference cut
    it off. It belongs to no name: the same client would wait for packets of `/name`.
    """
    name = text.partition(b"?")[0]
    if len(name) > MAX_NAMESPACE:
        refuse(f"a namespace of more than {MAX_NAMESPACE} bytes")
    # One of them separates the packets of a body, and answers repeat the name.
    if _CONTROL.search(name):
        refuse("a control character in a namespace")
    return name.decode()


def _ack_id(digits: bytes) -> int:
    """Counting the digits first keeps the time linear: int() takes the square of it."""
    if len(digits) > _ID_DIGITS or (id := int(digits)) > MAX_ACK_ID:
        refuse(f"an ack id above {MAX_ACK_ID}")
    return id


def _attachments(type: bytes, digits: bytes | None) -> int:
    if type not in (b"5", b"6"):
        if digits is not None:
            refuse("attachments of a packet that has none")
        return 0
    if digits is None or digits[:1] == b"0":
        refuse("a binary packet without its number of attachments")
    if len(digits) > 2 or (number := int(digits)) > MAX_ATTACHMENTS:
        refuse(f"more than {MAX_ATTACHMENTS} attachments")
    return number


def _connect(namespace: str, id: int | None, attachments: int, payload: bytes) -> SocketConnect:
    if payload:
        if payload[:1] != b"{":
            refuse("a CONNECT whose payload is no object")
        payload = compact(bytes(_parsed(_decode_value, payload)))
    return SocketConnect(namespace, payload)


def _disconnect(namespace: str, id: int | None, attachments: int, payload: bytes) -> SocketDisconnect:
    if payload:
        refuse("a DISCONNECT with a payload")
    return SocketDisconnect(namespace)


def _event(namespace: str, id: int | None, attachments: int, payload: bytes) -> SocketEvent:
    items = _items(payload)
    if not items:
        refuse("an event without a name")
    return SocketEvent(namespace, _event_name(items[0]), _arguments(items[1:]), id, attachments)


def _ack(namespace: str, id: int | None, attachments: int, payload: bytes) -> SocketAck:
    if id is None:
        refuse("an acknowledgement without an id")
    return SocketAck(namespace, id, _arguments(_items(payload)), attachments)


def _connect_error(namespace: str, id: int | None, attachments: int, payload: bytes) -> NoReturn:
    refuse("a CONNECT_ERROR from a client")


_DECODERS: dict[bytes, Callable[[str, int | None, int, bytes], SocketPacket]] = {
    b"0": _connect,
    b"1": _disconnect,
    b"2": _event,
    b"3": _ack,
    b"4": _connect_error,
    b"5": _event,
    b"6": _ack,
}


def _items(payload: bytes) -> Sequence[bytes]:
    """The items of the array, as raw JSON."""
    if payload[:1] != b"[":
        refuse("a payload that is no array")
    items = [bytes(item) for item in astuple(_parsed(_decode_items, payload)) if item]
    # Only what was checked: a raw line break within a string is an error.
    return items if compact(payload) is payload else [compact(item) for item in items]


def _parsed(decode: Callable[[bytes], T], payload: bytes) -> T:
    try:
        try:
            value = decode(payload)
        except msgspec.DecodeError:
            # Halves of characters, which JavaScript writes as escapes, are no errors of the client.
            value = decode(mended(payload))
    except RecursionError:
        refuse(TOO_DEEP)
    except ValueError as error:
        refuse(f"the payload is not as it should be: {error}")
    if is_too_deep(payload):
        refuse(TOO_DEEP)
    return value


def _event_name(item: bytes) -> str:
    if item[:1] == b'"':
        name = _decode_name(item)
        if name in RESERVED_EVENTS:
            refuse(f"an event with the reserved name {name}")
        return name
    if item[:1] in b"-0123456789":
        return item.decode()
    refuse("an event whose name is neither a string nor a number")


def _arguments(items: Sequence[bytes]) -> Sequence[Argument]:
    return tuple([Argument(item) for item in items])
