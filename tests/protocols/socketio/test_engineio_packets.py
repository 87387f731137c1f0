"""Packets of Engine.IO v4, in WebSocket messages and in bodies of long polling."""

import base64
import json
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BAD_COMMAND, MESSAGE_TOO_BIG, Disconnect
from gateway.protocols.socketio import engineio_packets
from gateway.protocols.socketio.engineio_packets import (
    MAX_PACKETS,
    EnginePacket,
    EngineType,
    as_answer,
    decode,
    decode_own,
    encode,
    encode_body,
    handshake,
    split_body,
)
from gateway.protocols.wire_protocol import Message
from tests.protocols.socketio.steps import steps_of

ROOM = 1_000_000


def decoded(body: bytes, max_bytes: int = ROOM) -> list[EnginePacket]:
    return [decode(packet, binary=False) for packet in split_body(body, max_bytes)]


def text(data: bytes) -> EnginePacket:
    return EnginePacket(EngineType.MESSAGE, data)


def buffer(data: bytes) -> EnginePacket:
    return EnginePacket(EngineType.MESSAGE, data, binary=True)


# Hostile input.

BAD_PACKETS = {
    b"": "an empty packet",
    b"7": "unknown type",
    b"9x": "unknown type",
    b"-1": "unknown type",
    b" 4a": "unknown type",
    b"B": "unknown type",
    "\N{FULLWIDTH DIGIT FOUR}a".encode(): "unknown type",
    b"bA": "not base64",
    b"bQQ": "not base64",
    b"bQQ=": "not base64",
    b"bQQ===": "not base64",
    b"bQQ==QQ==": "not base64",
    b"b=": "not base64",
    b"bQQ==\n": "not base64",
    b"b QQ==": "not base64",
    b"b-_-_": "not base64",
    "bQQ==\N{LATIN SMALL LETTER E WITH ACUTE}".encode(): "not base64",
}


@pytest.mark.parametrize("packet", BAD_PACKETS)
def test_what_is_no_packet_ends_the_connection(packet: bytes) -> None:
    """With the reason; in a message and in a body alike."""
    for read in (lambda: decode(packet, binary=False), lambda: decoded(b"4a\x1e" + packet)):
        with pytest.raises(Disconnect, match=BAD_PACKETS[packet]) as caught:
            read()
        assert caught.value.code == BAD_COMMAND


@pytest.mark.parametrize("body", [b"", b"\x1e", b"4a\x1e", b"\x1e4a", b"4a\x1e\x1e4b"])
def test_a_body_has_no_empty_packet(body: bytes) -> None:
    with pytest.raises(Disconnect, match="an empty packet"):
        decoded(body)


def test_packets_before_a_bad_one_count() -> None:
    """As in the reference, which handles them and closes then."""
    assert list(split_body(b"4a\x1e3\x1ex\x1e4b", ROOM)) == [b"4a", b"3", b"x", b"4b"]


def test_a_body_is_bounded_before_anything_is_decoded() -> None:
    """In bytes, and in packets: the call itself raises."""
    assert decoded(b"4abc", 4) == [text(b"abc")]
    for body in (b"4abcd", b"x" * 5):
        with pytest.raises(Disconnect, match="more than 4 bytes") as caught:
            split_body(body, 4)
        assert caught.value.code == MESSAGE_TOO_BIG
    assert len(decoded(b"\x1e".join([b"3"] * MAX_PACKETS))) == MAX_PACKETS
    with pytest.raises(Disconnect, match=f"more than {MAX_PACKETS} packets") as caught:
        split_body(b"\x1e" * MAX_PACKETS, ROOM)
    assert caught.value.code == MESSAGE_TOO_BIG


def test_acknowledgements_in_a_body_of_the_default_size_are_never_too_many() -> None:
    """They are the shortest packets that an application may cause in any number."""
    assert (64 * 1024 + 1) // len(b"430[]\x1e") < MAX_PACKETS


@pytest.mark.parametrize("body", [b"4\xff", b"4a\x1e4\xed\xa0\x80", b"4\xc3\x1e4\xa9"])
def test_a_body_that_is_not_utf8_is_refused_as_a_whole(body: bytes) -> None:
    """Also where the halves of a character are in two packets."""
    with pytest.raises(Disconnect, match="not UTF-8"):
        split_body(body, ROOM)


PARTS = st.sampled_from([b"4", b"b", b"\x1e", b"QQ==", b"=", b"7", b"2probe", b"\xff", b"\xc3\xa9"])


@settings(derandomize=True, max_examples=500)
@given(st.binary(max_size=50) | st.lists(PARTS, max_size=12).map(b"".join))
def test_any_bytes_are_packets_or_end_the_connection(data: bytes) -> None:
    for read in (lambda: decode(data, binary=False), lambda: decoded(data)):
        with suppress(Disconnect):
            read()


@pytest.mark.parametrize("part", [b"4aaaaaaa\x1e", b"3\x1e", b"bQQ==\x1e"])
def test_twice_as_much_takes_twice_as_long(part: bytes) -> None:
    """A body is read once: find() goes on where it was, and each packet is copied once."""
    once, twice = (steps_of(partial(decoded, part * count + b"3")) for count in (500, 1000))
    assert once < twice < 2.1 * once


# What clients and servers send.


@pytest.mark.parametrize(
    ("message", "packet"),
    [
        (b'0{"sid":"a"}', EnginePacket(EngineType.OPEN, b'{"sid":"a"}')),
        (b"1", EnginePacket(EngineType.CLOSE)),
        (b"2probe", EnginePacket(EngineType.PING, engineio_packets.PROBE)),
        (engineio_packets.PING, EnginePacket(EngineType.PING)),
        (engineio_packets.PROBED, EnginePacket(EngineType.PONG, b"probe")),
        (b"4hello", text(b"hello")),
        (b"4", text(b"")),
        ("4\N{EURO SIGN}".encode(), text("\N{EURO SIGN}".encode())),
        (b"5", EnginePacket(EngineType.UPGRADE)),
        (engineio_packets.NOOP, EnginePacket(EngineType.NOOP)),
    ],
)
def test_text_packets(message: bytes, packet: EnginePacket) -> None:
    """The same in a message and in a body, in both directions."""
    assert decode(message, binary=False) == packet
    assert encode(packet) == Message(message)
    assert decoded(message) == [packet]


def test_binary_packets() -> None:
    """Over WebSocket as they are, whatever they begin with, or in base64 if the client wants that."""
    assert decode(b"4\x1e\xff", binary=True) == buffer(b"4\x1e\xff")
    assert encode(buffer(b"4\xff")) == Message(b"4\xff", binary=True)
    assert decode(b"bAQIDBA==", binary=False) == buffer(b"\x01\x02\x03\x04")
    assert decode(b"", binary=True) == decode(b"b", binary=False) == buffer(b"")


def test_the_body_of_the_documentation() -> None:
    """`4hello\\x1e2\\x1e4world`, and one with binary."""
    assert decoded(b"4hello\x1e2\x1e4world") == [text(b"hello"), EnginePacket(EngineType.PING), text(b"world")]
    body = b"4hello\x1ebAQIDBA=="
    assert decoded(body) == [text(b"hello"), buffer(b"\x01\x02\x03\x04")]
    assert as_answer(encode_body([Message(b"4hello"), Message(b"\x01\x02\x03\x04", binary=True)])) == body


TYPES = st.sampled_from(EngineType)
TEXTS = st.text(st.characters(exclude_characters="\x1e", codec="utf-8"), max_size=20).map(str.encode)
PACKETS = st.builds(EnginePacket, TYPES, TEXTS, st.just(False)) | st.builds(buffer, st.binary(max_size=20))


@settings(derandomize=True, max_examples=300)
@given(st.lists(PACKETS, min_size=1, max_size=10))
def test_packets_come_back(packets: list[EnginePacket]) -> None:
    messages = [encode(packet) for packet in packets]
    assert [decode(data, binary=binary) for data, binary in messages] == packets
    assert decoded(as_answer(encode_body(messages))) == packets
    assert decode_own(b"".join(encode_body([message]) for message in messages)) == messages


def test_the_handshake_has_the_five_keys_of_the_reference() -> None:
    """In its order."""
    expected = {"sid": "lv_VI97HAXpY6yYWAAAC", "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 20000}
    expected["maxPayload"] = 1000000
    sent = handshake("lv_VI97HAXpY6yYWAAAC", ["websocket"], 25000, 20000, 1000000)
    assert sent == b"0" + json.dumps(expected, separators=(",", ":")).encode()
    assert json.loads(handshake("a", (), 1, 2, 3)[1:])["upgrades"] == []


def test_base64_is_the_alphabet_that_clients_use() -> None:
    """All bytes, with every padding."""
    for length in (255, 256, 257):
        data = bytes(number % 256 for number in range(length))
        assert decode(b"b" + base64.b64encode(data), binary=False) == buffer(data)
