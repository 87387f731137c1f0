"""What a Socket.IO server sends."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.messages import Channel, Kind, Publication
from gateway.protocols.socketio import socketio_encoder as encoder
from gateway.protocols.socketio.socketio_packets import Argument, SocketAck, SocketDisconnect, SocketEvent, decode
from gateway.protocols.wire_protocol import Message


def publication(data: bytes, kind: Kind = Kind.JSON) -> Publication:
    return Publication(Channel("default", "c"), data, kind)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (encoder.event("foo", b""), b'42["foo"]'),
        (encoder.event("foo", b'{"a":1}'), b'42["foo",{"a":1}]'),
        (encoder.event("foo", b'1,"b"', namespace="/admin"), b'42/admin,["foo",1,"b"]'),
        (encoder.event("foo", b"", namespace="/admin", id=12), b'42/admin,12["foo"]'),
        (encoder.event("foo", b"1", id=0), b'420["foo",1]'),
        (encoder.event("foo", b"1", offset="7:e"), b'42["foo",1,"7:e"]'),
        (encoder.event("foo", b"", offset='"'), b'42["foo","\\""]'),
        (encoder.event('"\n', b"1", id=1, offset="o"), b'421["\\"\\n",1,"o"]'),
        (encoder.event("\N{EURO SIGN}", b"1", namespace="/\N{EURO SIGN}"), '42/€,["€",1]'.encode()),
        (encoder.ack(12), b"4312[]"),
        (encoder.ack(0, b'"bar"'), b'430["bar"]'),
        (encoder.ack(13, b'1,{"a":2}', namespace="/admin"), b'43/admin,13[1,{"a":2}]'),
        (encoder.connected("abc"), b'40{"sid":"abc"}'),
        (encoder.connected("abc", "xyz", namespace="/admin"), b'40/admin,{"sid":"abc","pid":"xyz"}'),
        (encoder.connect_error("Invalid namespace", namespace="/x"), b'44/x,{"message":"Invalid namespace"}'),
        (encoder.connect_error('no "', b'{"code":1}'), b'44{"message":"no \\"","data":{"code":1}}'),
        (encoder.disconnected(), b"41"),
        (encoder.disconnected(namespace="/admin"), b"41/admin,"),
    ],
)
def test_packets(sent: bytes, expected: bytes) -> None:
    assert sent == expected


def test_an_event_with_a_buffer() -> None:
    """Two messages, in this order."""
    header = b'451-["message",{"_placeholder":true,"num":0}]'
    assert encoder.binary_event("message", b"\x01") == (Message(header), Message(b"\x01", binary=True))
    first, second = encoder.binary_event("m", b"", namespace="/n", id=3, offset="9")
    assert first == Message(b'451-/n,3["m",{"_placeholder":true,"num":0},"9"]')
    assert second == Message(b"", binary=True)


def test_publications() -> None:
    """A value, a string, a buffer."""
    assert encoder.published(publication(b'{"a":1}'), "m") == (Message(b'42["m",{"a":1}]'),)
    text = encoder.published(publication(b'say "hi"', Kind.TEXT), "m", namespace="/n", offset="1")
    assert text == (Message(b'42/n,["m","say \\"hi\\"","1"]'),)
    buffer = encoder.published(publication(b"\xff", Kind.BINARY), "m", offset="1")
    assert buffer == encoder.binary_event("m", b"\xff", offset="1")


def test_json_of_a_publisher_is_no_placeholder() -> None:
    """It goes out in an event without attachments, in which clients look for none."""
    (message,) = encoder.published(publication(b'{"_placeholder":true,"num":5}'), "m")
    assert message.data.startswith(b"42[")


def test_names_that_others_choose_do_not_fill_the_memory() -> None:
    """The beginnings of events are kept for short names only, and so many of them."""
    encoder._kept_head.cache_clear()
    for number in range(3000):
        assert encoder.event(f"{number}" + "x" * 200, b"1").endswith(b'xx",1]')
        encoder.event(f"{number}", b"1")
    assert encoder._kept_head.cache_info().currsize == 1024
    encoder._kept_head.cache_clear()
    encoder.event("x" * 129, b"1")
    encoder.event("x" * 128, b"1")
    assert encoder._kept_head.cache_info().currsize == 1


NAMES = st.text(st.characters(codec="utf-8"), max_size=150)
NAMESPACES = st.sampled_from(["/", "/admin", "/a/b", "/\N{EURO SIGN}"])
IDS = st.integers(0, 2**53 - 1)
VALUES = st.lists(st.integers() | NAMES | st.none(), max_size=4)


def spliced(values: list[object]) -> bytes:
    return json.dumps(values).encode()[1:-1]


@settings(derandomize=True, max_examples=300)
@given(NAMES.map(lambda name: f"_{name}"), VALUES, NAMESPACES, st.none() | IDS, NAMES)
def test_events_come_back(name: str, values: list[object], namespace: str, id: int | None, offset: str) -> None:
    sent = encoder.event(name, spliced(values), namespace=namespace, id=id, offset=offset)
    assert sent[:1] == b"4"
    packet = decode(sent[1:])
    assert isinstance(packet, SocketEvent)
    expected = [*values, offset] if offset else values
    assert replace(packet, arguments=()) == SocketEvent(namespace, name, (), id)
    assert [json.loads(argument.data) for argument in packet.arguments] == expected


@settings(derandomize=True, max_examples=100)
@given(VALUES, NAMESPACES, IDS)
def test_acknowledgements_come_back(values: list[object], namespace: str, id: int) -> None:
    packet = decode(encoder.ack(id, spliced(values), namespace=namespace)[1:])
    assert isinstance(packet, SocketAck)
    assert packet == SocketAck(namespace, id, tuple(Argument(each.data) for each in packet.arguments))
    assert [json.loads(argument.data) for argument in packet.arguments] == values
    assert decode(encoder.disconnected(namespace=namespace)[1:]) == SocketDisconnect(namespace)
