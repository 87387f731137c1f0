"""Buffers in Socket.IO packets: they follow their packet as binary messages, in the order of their placeholders.

How a channel stores an argument of an event, as one publication, and what its subscribers get:

| argument                       | publication     | Socket.IO         | native, SSE         | plain WebSocket  |
|--------------------------------|-----------------|-------------------|---------------------|------------------|
| JSON                           | JSON            | the value         | the value           | a text message   |
| one buffer                     | binary          | a buffer          | {"base64": "..."}   | a binary message |
| JSON that holds buffers        | none: error 107 |                   |                     |                  |

A buffer that is an argument is what every protocol has an equal for: users of Socket.IO get back what they sent, all
others what they get for any binary publication. JSON with buffers in it has no equal. Put into it as {"base64": "..."},
a buffer would arrive as an object at the very clients that sent it. To turn such objects back into buffers, every JSON
publication would have to be parsed for each of its deliveries, and objects that merely look alike would change as well.
So the sender is told at its first try, and can send the buffer as an argument of its own, or base64 in the JSON.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.errors import BAD_COMMAND, BAD_REQUEST, MESSAGE_TOO_BIG, Disconnect, RequestError
from gateway.messages import Kind
from gateway.protocols.socketio.socketio_packets import (
    Argument,
    SocketAck,
    SocketEvent,
    SocketPacket,
    decode,
    refuse,
)

_PLACEHOLDER = "_placeholder"
# As clients write the key of a placeholder: none of them has a reason for an escape in it.
_KEY = b'"_placeholder"'
# Bytes of JSON that is parsed to find placeholders. Empty objects take 20 times as much as their text: hundreds of
# megabytes, where large messages are allowed. JSON of that size with a buffer in it cannot be published anyway.
_MAX_PARSED = 64 * 1024
# Nothing here looks at such numbers, and those that no float can hold are JSON as well.
_parse = msgspec.json.Decoder(float_hook=str).decode


class _Pending(NamedTuple):
    """A packet whose buffers are not all here."""

    packet: SocketEvent | SocketAck
    # Which buffer is the argument; None for JSON.
    places: Sequence[int | None]
    buffers: list[bytes]


class Assembler:
    """Puts the messages of one connection together to complete packets.

    Holds at most one incomplete packet, of at most `max_bytes` with its buffers, which are at most 10.
    """

    __slots__ = ("_left", "_max_bytes", "_pending")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pending: _Pending | None = None
        # Bytes that the rest of the packet may have.
        self._left = 0

    def add(self, data: bytes, *, binary: bool) -> SocketPacket | None:
        """The packet that is complete with this message, the payload of one of Engine.IO; None if more have to come.

        Raises Disconnect.
        """
        if binary:
            return self._add_buffer(data)
        if self._pending is not None:
            refuse("text while binary messages are to come")
        packet = decode(data)
        if not isinstance(packet, SocketEvent | SocketAck) or not packet.attachments:
            return packet
        self._left = self._max_bytes
        self._take(len(data))
        # Placeholders are checked before a buffer is kept for them.
        arguments, places = _placed(packet)
        self._pending = _Pending(replace(packet, arguments=arguments), places, [])
        return None

    def _add_buffer(self, data: bytes) -> SocketPacket | None:
        if self._pending is None:
            refuse("a binary message that no packet has announced")
        packet, places, buffers = self._pending
        self._take(len(data))
        buffers.append(data)
        if len(buffers) < packet.attachments:
            return None
        self._pending = None
        arguments = tuple(
            [
                argument if place is None else Argument(buffers[place], Kind.BINARY)
                for argument, place in zip(packet.arguments, places, strict=True)
            ]
        )
        return replace(packet, arguments=arguments, attachments=0)

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Disconnect(MESSAGE_TOO_BIG, f"Socket.IO: a packet with buffers of more than {self._max_bytes} bytes")


def payload_of(argument: Argument) -> tuple[bytes, Kind]:
    """The argument as the data of one publication. Raises RequestError(107) for JSON that holds buffers."""
    if argument.holds_buffers:
        raise RequestError(BAD_REQUEST, "a buffer within JSON: send it as an argument of its own, or as base64")
    return argument.data, argument.kind


def _placed(packet: SocketEvent | SocketAck) -> tuple[Sequence[Argument], Sequence[int | None]]:
    """The arguments, and which buffer each of them is.

    Raises Disconnect unless every buffer has exactly one placeholder: clients number them as they find them.
    """
    arguments: list[Argument] = []
    places: list[int | None] = []
    found: list[int] = []
    for argument in packet.arguments:
        value = _value(argument.data) if _KEY in argument.data else None
        inside = list(_numbers(value, packet.attachments))
        found += inside
        is_buffer = bool(inside) and _is_placeholder(value)
        places.append(inside[0] if is_buffer else None)
        arguments.append(replace(argument, holds_buffers=bool(inside) and not is_buffer))
    if len(found) != packet.attachments or len(set(found)) != len(found):
        refuse(f"{packet.attachments} attachments, and not one placeholder for each")
    return arguments, places


def _value(data: bytes) -> Any:
    if len(data) > _MAX_PARSED:
        refuse(f"a placeholder in JSON of more than {_MAX_PARSED} bytes")
    try:
        return _parse(data)
    except ValueError as error:
        raise Disconnect(BAD_COMMAND, f"Socket.IO: JSON with attachments: {error}") from None


def _is_placeholder(value: Any) -> bool:
    """As the reference sees it: other keys do not matter."""
    return isinstance(value, dict) and value.get(_PLACEHOLDER) is True


def _numbers(value: Any, count: int) -> Iterator[int]:
    """The numbers of all placeholders in a value. Every part of it is visited once; its depth is bounded already."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if _is_placeholder(part):
            number = part.get("num")
            if type(number) is not int or not 0 <= number < count:
                refuse("a placeholder for none of the attachments")
            yield number
        elif isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
