"""Packets of Engine.IO v4: `<digit>[payload]`, one in a WebSocket message or several in a body of long polling.

| packet  | WebSocket                           | body: packets joined by U+001E |
|---------|-------------------------------------|--------------------------------|
| text    | text message: `4hello`, `2`         | the same                       |
| binary  | binary message: the payload alone   | `b` and base64                 |

With the option `forceBase64`, `b64=1` in the URL, clients send `b` and base64 over WebSocket as well, and expect
it: `encode_body` of one message.
"""

import enum
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import msgspec

from gateway.errors import BAD_COMMAND, MESSAGE_TOO_BIG, Disconnect
from gateway.protocols.wire_protocol import Message

# Packets in one body. The clients of the reference put into one POST all that was written while they were offline, and
# only heed its bytes: a small limit would refuse them after each outage (python-engineio's, 16, is known for that).
# The shortest packet that a client may repeat is an acknowledgement, `430[]`: 64 KiB have room for 10,922 of those, so
# that nothing but noise gets here by default. Packets are decoded one at a time, so this bounds time and not memory.
MAX_PACKETS = 16 * 1024

# Packets in one answer to a poll. Clients of python-engineio close the connection at more.
MAX_ANSWERED = 16

# Packets of the server that never change. In answer to a close a parked poll gets NOOP.
CLOSE = b"1"
PING = b"2"
NOOP = b"6"
# The upgrade of long polling to WebSocket: the payload of the client's ping, and the server's answer.
PROBE = b"probe"
PROBED = b"3probe"

SEPARATOR = b"\x1e"
_BASE64 = b"b"


class EngineType(enum.IntEnum):
    """What a packet is for."""

    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


class EnginePacket(NamedTuple):
    """One packet. Binary ones are messages."""

    type: EngineType
    data: bytes = b""
    binary: bool = False


_TYPES = {b"%d" % type: type for type in EngineType}


def decode(message: bytes, *, binary: bool) -> EnginePacket:
    """The packet in one WebSocket message. Raises Disconnect.

    Whether a type may come from a client, and when, is for the session to say. Text is not checked to be UTF-8 here: a
    WebSocket has done so.
    """
    if binary:
        return EnginePacket(EngineType.MESSAGE, message, binary=True)
    first = message[:1]
    type = _TYPES.get(first)
    if type is None:
        if first != _BASE64:
            _refuse("a packet of an unknown type" if message else "an empty packet")
        return EnginePacket(EngineType.MESSAGE, _from_base64(message), binary=True)
    return EnginePacket(type, message[1:])


def split_body(body: bytes, max_bytes: int) -> Iterator[bytes]:
    """The packets in the body of a POST, as so many WebSocket messages, one at a time and in order.

    Raises Disconnect for a body that is too large or not UTF-8. Reads the body once: no list of its parts is made.
    """
    if len(body) > max_bytes:
        raise Disconnect(MESSAGE_TOO_BIG, f"Engine.IO: a body of more than {max_bytes} bytes")
    if body.count(SEPARATOR) >= MAX_PACKETS:
        raise Disconnect(MESSAGE_TOO_BIG, f"Engine.IO: more than {MAX_PACKETS} packets in a body")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            _refuse("a body that is not UTF-8")
    return _split(body)


def _split(body: bytes) -> Iterator[bytes]:
    start = 0
    while (end := body.find(SEPARATOR, start)) >= 0:
        yield body[start:end]
        start = end + 1
    yield body[start:]


def _from_base64(packet: bytes) -> bytes:
    """Raises Disconnect for what RFC 4648 section 4 does not allow: other characters, or a wrong padding."""
    try:
        return a2b_base64(packet[1:], strict_mode=True)
    except ValueError:
        _refuse("a binary packet that is not base64")


def _refuse(reason: str) -> NoReturn:
    raise Disconnect(BAD_COMMAND, f"Engine.IO: {reason}")


def encode(packet: EnginePacket) -> Message:
    """The packet as one WebSocket message."""
    return Message(packet.data, binary=True) if packet.binary else Message(b"%d%b" % (packet.type, packet.data))


def encode_body(messages: Sequence[Message]) -> bytes:
    """What would be so many WebSocket messages, as part of the body of an answer: each ends with a separator.

    Text never holds the separator: JSON has no raw control characters, nor have names of namespaces.
    """
    return b"".join(
        [_BASE64 + b64encode(data) + SEPARATOR if binary else data + SEPARATOR for data, binary in messages]
    )


def as_answer(body: bytes) -> bytes:
    """The body of an answer, made of such parts: its last packet has no separator behind it."""
    return body.removesuffix(SEPARATOR)


def first_part(body: bytes) -> int:
    """How many bytes of such a body go into one answer: those of MAX_ANSWERED packets, or all."""
    end = 0
    for _ in range(MAX_ANSWERED):
        end = body.find(SEPARATOR, end) + 1
        if not end:
            return len(body)
    return end


def decode_own(body: bytes) -> list[Message]:
    """The messages that `encode_body` was called with, in several parts."""
    packets = as_answer(body).split(SEPARATOR) if body else []
    return [
        Message(a2b_base64(packet[1:]), binary=True) if packet.startswith(_BASE64) else Message(packet)
        for packet in packets
    ]


class _Handshake(msgspec.Struct, rename="camel"):
    # In the order of the reference, and nothing else: its test suite compares the keys.
    sid: str
    upgrades: Sequence[str]
    ping_interval: int
    ping_timeout: int
    max_payload: int


def handshake(sid: str, upgrades: Sequence[str], ping_interval: int, ping_timeout: int, max_payload: int) -> bytes:
    """The first packet of the server. Times are milliseconds; there are no upgrades from WebSocket.

    `max_payload` (bytes) bounds what clients gather into one POST.
    """
    return b"0" + msgspec.json.encode(_Handshake(sid, upgrades, ping_interval, ping_timeout, max_payload))
