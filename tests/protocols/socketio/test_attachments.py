"""Buffers in packets of Socket.IO, from their messages to publications and back."""

import json
import random
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BAD_COMMAND, BAD_REQUEST, MESSAGE_TOO_BIG, Disconnect, RequestError
from gateway.messages import Channel, Kind, Publication
from gateway.protocols.socketio.attachments import Assembler, payload_of
from gateway.protocols.socketio.socketio_encoder import published
from gateway.protocols.socketio.socketio_packets import Argument, SocketAck, SocketConnect, SocketEvent, SocketPacket
from tests.protocols.socketio.steps import steps_of

ROOM = 1000
ONE = b'{"_placeholder":true,"num":0}'


def assembled(*messages: bytes, max_bytes: int = ROOM) -> SocketPacket | None:
    """What the last message completes: a header, then buffers."""
    assembler = Assembler(max_bytes)
    header, *buffers = messages
    packet = assembler.add(header, binary=False)
    for number, data in enumerate(buffers):
        assert packet is None, f"complete before buffer {number}"
        packet = assembler.add(data, binary=True)
    return packet


def refused(*messages: bytes, match: str, max_bytes: int = ROOM) -> Disconnect:
    with pytest.raises(Disconnect, match=match) as caught:
        assembled(*messages, max_bytes=max_bytes)
    return caught.value


# Hostile input.


@pytest.mark.parametrize(
    "header",
    [
        b'51-["a"]',
        b'51-["a",{"_placeholder":true,"num":1}]',
        b'51-["a",{"_placeholder":true,"num":-1}]',
        b'51-["a",{"_placeholder":true,"num":0.0}]',
        b'51-["a",{"_placeholder":true,"num":0.5}]',
        b'51-["a",{"_placeholder":true,"num":"0"}]',
        b'51-["a",{"_placeholder":true,"num":true}]',
        b'51-["a",{"_placeholder":true,"num":null}]',
        b'51-["a",{"_placeholder":true,"num":1e400}]',
        b'51-["a",{"_placeholder":true,"num":99999999999999999999}]',
        b'51-["a",{"_placeholder":true}]',
        b'51-["a",{"_placeholder":1,"num":0}]',
        b'51-["a",{"_placeholder":"true","num":0}]',
        b'51-["a",{"_placeholder":false,"num":0}]',
        b'51-["a",{"num":0}]',
        b'51-["a","{\\"_placeholder\\":true,\\"num\\":0}"]',
        b'51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]',
        b'51-["a",[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]]',
        b'51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
        b'52-["a",{"_placeholder":true,"num":0}]',
        b'52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]',
        b'52-["a",{"_placeholder":true,"num":1},{"_placeholder":true,"num":2}]',
        b'61-1[{"_placeholder":true,"num":1}]',
        # What is inside a placeholder goes with it.
        b'52-["a",{"_placeholder":true,"num":0,"more":{"_placeholder":true,"num":1}}]',
        # The last of two equal keys counts.
        b'51-["a",{"_placeholder":true,"num":0,"num":1}]',
        b'51-["a",[%b,%b]]' % (ONE, b"1" * 5000),
        b'51-["a",{"\\u005fplaceholder":true,"num":0}]',
    ],
)
def test_every_buffer_has_one_placeholder(header: bytes) -> None:
    """Anything else ends the connection, before a buffer is taken."""
    assert refused(header, match="placeholder|out of range", max_bytes=10_000).code == BAD_COMMAND


def test_little_json_is_parsed() -> None:
    """What has no placeholder is not; what has one is bounded, since objects take more memory than their text."""
    large = b"[%b1]" % (b"{}," * 50_000)
    assert assembled(b'51-["a",%b,%b]' % (large, ONE), b"x", max_bytes=10**6) is not None
    assert steps_of(partial(assembled, b'51-["a",%b,%b]' % (large, ONE), b"x", max_bytes=10**6)) < 150
    refused(b'51-["a",[%b,%b]]' % (large, ONE), match="a placeholder in JSON of more than 65536", max_bytes=10**6)


def test_text_between_buffers_ends_the_connection() -> None:
    """Also text that is no packet."""
    for text in (b'2["a"]', b"1", b"", b'51-["a",%b]' % ONE):
        assembler = Assembler(ROOM)
        assert assembler.add(b'52-["a",%b,{"_placeholder":true,"num":1}]' % ONE, binary=False) is None
        assert assembler.add(b"one", binary=True) is None
        with pytest.raises(Disconnect, match="text while binary messages are to come"):
            assembler.add(text, binary=False)


def test_a_buffer_that_was_not_announced_ends_the_connection() -> None:
    """At the start, after other packets, and after the last of those that were."""
    for before in ([], [(b'2["a"]', False)], [(b'51-["a",%b]' % ONE, False), (b"one", True)]):
        assembler = Assembler(ROOM)
        for data, binary in before:
            assembler.add(data, binary=binary)
        with pytest.raises(Disconnect, match="no packet has announced"):
            assembler.add(b"two", binary=True)


def test_a_packet_is_bounded_with_its_buffers() -> None:
    """All together, not each of them; the next packet has the same room again."""
    header = b'52-["a",%b,{"_placeholder":true,"num":1}]' % ONE
    room = len(header) + 10
    assert assembled(header, b"12345", b"67890", max_bytes=room) is not None
    assert refused(header, b"12345", b"678901", match=f"more than {room} bytes", max_bytes=room).code == MESSAGE_TOO_BIG
    assert refused(header, b"12345678901", match="more than", max_bytes=room).code == MESSAGE_TOO_BIG
    assert refused(header, match="more than", max_bytes=len(header) - 1).code == MESSAGE_TOO_BIG
    assembler = Assembler(room)
    for _ in range(3):
        assembler.add(header, binary=False)
        assembler.add(b"12345", binary=True)
        assert assembler.add(b"67890", binary=True) is not None


@settings(derandomize=True, max_examples=500)
@given(
    st.integers(0, 11),
    st.lists(st.sampled_from([ONE, b'{"_placeholder":true,"num":1}', b"[]", b"[%b]" % ONE, b'"x"', b"}"]), max_size=4),
    st.lists(st.tuples(st.binary(max_size=8), st.booleans()), max_size=4),
)
def test_any_messages_are_packets_or_end_the_connection(
    count: int, items: list[bytes], rest: list[tuple[bytes, bool]]
) -> None:
    assembler = Assembler(ROOM)
    with suppress(Disconnect):
        assembler.add(b'5%d-["a",%b]' % (count, b",".join(items)), binary=False)
        for data, binary in rest:
            assembler.add(data, binary=binary)


@pytest.mark.parametrize("part", [b"1,", b"{},", b"[[[]]],", b'{"a":{"a":1}},', b'"_placeholder",'])
def test_twice_as_much_takes_twice_as_long(part: bytes) -> None:
    """Every part of the JSON is visited once."""

    def header(count: int) -> bytes:
        return b'51-["a",[%b%b]]' % (part * count, ONE)

    once, twice = (steps_of(partial(assembled, header(count), max_bytes=10**6)) for count in (1000, 2000))
    assert once < twice < 2.1 * once


# What clients send.


def test_packets_without_buffers_are_complete() -> None:
    assert assembled(b"0") == SocketConnect("/")
    assert assembled(b'2["a",1]') == SocketEvent("/", "a", (Argument(b"1"),))
    assert assembled(b"31[]") == SocketAck("/", 1)
    # They are bounded by their message.
    assert assembled(b'2["a",1]', max_bytes=1) is not None


@pytest.mark.parametrize(
    "placeholder",
    [
        ONE,
        b'{"num":0,"_placeholder":true}',
        b'{ "_placeholder" : true, "num" : 0 }',
        b'{"_placeholder":true,"num":-0}',
        b'{"_placeholder":true,"num":0,"more":[1]}',
    ],
)
def test_a_buffer_takes_the_place_of_its_placeholder(placeholder: bytes) -> None:
    """However other clients write it."""
    packet = assembled(b'51-/n,7["a",1,%b,"z"]' % placeholder, b"\x00\xff")
    buffer = Argument(b"\x00\xff", Kind.BINARY)
    assert packet == SocketEvent("/n", "a", (Argument(b"1"), buffer, Argument(b'"z"')), 7)


def test_buffers_go_where_their_numbers_say() -> None:
    """Ten of them, in any order; the arguments of an acknowledgement too."""
    order = random.Random(1).sample(range(8), 8)
    header = b"68-3[%b]" % b",".join(b'{"_placeholder":true,"num":%d}' % number for number in order)
    packet = assembled(header, *[b"%d" % number for number in range(8)])
    assert isinstance(packet, SocketAck)
    assert [argument.data for argument in packet.arguments] == [b"%d" % number for number in order]
    items = [{"_placeholder": True, "num": number} for number in range(10)]
    packet = assembled(b'510-["a",%b]' % json.dumps(items).encode(), *[b""] * 10)
    assert isinstance(packet, SocketEvent)
    assert packet.attachments == 0


# Publications.


@pytest.mark.parametrize(
    "value", [b'{"file":%b,"name":"x"}' % ONE, b"[%b]" % ONE, b"[[[%b]]]" % ONE, b'{"_placeholder":[%b],"num":0}' % ONE]
)
def test_json_that_holds_buffers_cannot_be_published(value: bytes) -> None:
    """The sender is told; the connection stays, and other arguments are what they are."""
    packet = assembled(b'51-["a",%b,{"b":1}]' % value, b"x")
    assert isinstance(packet, SocketEvent)
    mixed, other = packet.arguments
    with pytest.raises(RequestError, match="a buffer within JSON") as caught:
        payload_of(mixed)
    assert caught.value.error == BAD_REQUEST
    assert payload_of(other) == (b'{"b":1}', Kind.JSON)


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b'{"a":1}'])
def test_a_buffer_comes_back_as_a_buffer(data: bytes) -> None:
    """Publication and all; the offset behind it is no argument of the sender."""
    packet = assembled(b'51-["message",%b]' % ONE, data)
    assert isinstance(packet, SocketEvent)
    stored, kind = payload_of(packet.arguments[0])
    assert (stored, kind) == (data, Kind.BINARY)
    sent = published(Publication(Channel("default", "c"), stored, kind), "message", namespace="/n", offset="1:e")
    assert [message.binary for message in sent] == [False, True]
    back = assembled(sent[0].data[1:], sent[1].data)
    assert back == SocketEvent("/n", "message", (Argument(data, Kind.BINARY), Argument(b'"1:e"')))


VALUES: Any = st.recursive(
    st.integers(0, 9) | st.binary(max_size=4), lambda inner: st.lists(inner, max_size=3), max_leaves=6
)


@settings(derandomize=True, max_examples=300)
@given(st.lists(VALUES, max_size=4))
def test_arguments_arrive_as_a_client_takes_them_apart(values: list[Any]) -> None:
    buffers: list[bytes] = []

    def apart(value: Any) -> Any:
        if isinstance(value, bytes):
            buffers.append(value)
            return {"_placeholder": True, "num": len(buffers) - 1}
        return [apart(inner) for inner in value] if isinstance(value, list) else value

    items = json.dumps(["a", *map(apart, values)])
    if len(buffers) > 10:
        return
    head = f"5{len(buffers)}-" if buffers else "2"
    packet = assembled(f"{head}{items}".encode(), *buffers)
    assert isinstance(packet, SocketEvent)
    for argument, value in zip(packet.arguments, values, strict=True):
        if isinstance(value, bytes):
            assert payload_of(argument) == (value, Kind.BINARY)
        elif not argument.holds_buffers:
            assert json.loads(argument.data) == value
