"""Packets of Socket.IO v5, as clients send them."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BAD_COMMAND, Disconnect
from gateway.json_text import MAX_DEPTH
from gateway.protocols.socketio.socketio_packets import (
    MAX_ACK_ID,
    MAX_ARGUMENTS,
    MAX_NAMESPACE,
    RESERVED_EVENTS,
    Argument,
    SocketAck,
    SocketConnect,
    SocketDisconnect,
    SocketEvent,
    SocketPacket,
    decode,
)
from tests.protocols.socketio.steps import steps_of


def arguments(*values: bytes) -> tuple[Argument, ...]:
    return tuple(Argument(value) for value in values)


# Hostile input.

BAD_PACKETS: dict[bytes, str] = {
    b"": "unknown type",
    b"7": "unknown type",
    b"a": "unknown type",
    b'42["a"]': "no array|no object|reserved|from a client",
    "\N{SUPERSCRIPT TWO}".encode(): "unknown type",
    b'2["\xff"]': "not UTF-8",
    b'2/\xff,["a"]': "not UTF-8",
    b'2["\xed\xa0\x80"]': "not UTF-8",
    # Payloads.
    b"2": "no array",
    b"2{}": "no array",
    b'2"a"': "no array",
    b'2 ["a"]': "no array",
    b"2null": "no array",
    b"2[]": "without a name",
    b"2[ ]": "without a name",
    b"2[null]": "neither a string nor a number",
    b"2[true]": "neither a string nor a number",
    b'2[["a"]]': "neither a string nor a number",
    b'2[{"a":1}]': "neither a string nor a number",
    b'2["a"': "not as it should be",
    b'2["a"]]': "not as it should be",
    b'2["a",]': "not as it should be",
    b"2['a']": "not as it should be",
    b'2["a",NaN]': "not as it should be",
    b'2["a","\x1e"]': "not as it should be",
    b'2["a\n"]': "not as it should be",
    b'2["a",{"b":"\r"}]': "not as it should be",
    b'0{"a":"\n"}': "not as it should be",
    b'2["a"] ["b"]': "not as it should be",
    b'0"token"': "no object",
    b"0[]": "no object",
    b"0null": "no object",
    b"0{": "not as it should be",
    b"0{}{}": "not as it should be",
    b"0{'a':1}": "not as it should be",
    b"1{}": "with a payload",
    b'1"bye"': "with a payload",
    b"31": "no array",
    b"3[]": "without an id",
    b"31{}": "no array",
    b'4{"message":"no"}': "from a client",
    b"4": "from a client",
    # Ack ids.
    b'2%d["a"]' % (MAX_ACK_ID + 1): "ack id",
    b"2" + b"9" * 100_000 + b'["a"]': "ack id",
    b'2-1["a"]': "no array",
    b'21.5["a"]': "no array",
    b'21e3["a"]': "no array",
    '2\N{ARABIC-INDIC DIGIT ONE}["a"]'.encode(): "no array",
    # Attachments.
    b'5["a"]': "without its number",
    b'5-["a"]': "without its number",
    b'50-["a"]': "without its number",
    b'501-["a"]': "without its number",
    b'51["a"]': "without its number",
    b'5/a,1-["a"]': "without its number",
    b'511-["a"]': "more than 10 attachments",
    b'5100-["a"]': "more than 10 attachments",
    b"5" + b"1" * 100_000 + b'-["a"]': "more than 10 attachments",
    b'5-1-["a"]': "without its number",
    b'51.0-["a"]': "without its number",
    b'5 1-["a"]': "without its number",
    b"51-": "no array",
    b'21-["a"]': "a packet that has none",
    b"01-{}": "a packet that has none",
    # Namespaces.
    b"0/" + b"a" * MAX_NAMESPACE: "more than 255 bytes",
    b"0/a\x1eb,": "control character",
    b'2/a\n,["a"]': "control character",
    b'2/a["a"]': "no array",
    b'2/a?b=1,2,["a"]': "no array",
    b'2a,["a"]': "no array",
}


@pytest.mark.parametrize("packet", BAD_PACKETS, ids=lambda packet: repr(packet[:30]))
def test_what_is_no_packet_ends_the_connection(packet: bytes) -> None:
    """With the reason."""
    with pytest.raises(Disconnect, match=BAD_PACKETS[packet]) as caught:
        decode(packet)
    assert caught.value.code == BAD_COMMAND


@pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
def test_clients_cannot_emit_reserved_events(name: str) -> None:
    """However they spell them, with or without attachments."""
    escaped = "".join(f"\\u{ord(character):04x}" for character in name)
    for packet in (f'2["{name}"]', f'2/a,1["{escaped}",1]', f'51-["{name}",{{"_placeholder":true,"num":0}}]'):
        with pytest.raises(Disconnect, match=f"reserved name {name}"):
            decode(packet.encode())
    assert isinstance(decode(f'2["{name}ed"]'.encode()), SocketEvent)


@pytest.mark.parametrize("start", [b'2["a",', b'0{"a":', b"31[", b'51-["a",'])
@pytest.mark.parametrize("levels", [MAX_DEPTH, 50_000])
def test_json_that_is_nested_too_deeply_is_refused(start: bytes, levels: int) -> None:
    end = b"}" if start[:1] == b"0" else b"]"
    with pytest.raises(Disconnect, match="nested deeper"):
        decode(start + b"[" * levels + b"]" * levels + end)
    decode(start + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + end)


def test_arguments_are_bounded() -> None:
    """Besides the name of an event; in an acknowledgement there is one more."""
    most = b",".join([b"1"] * MAX_ARGUMENTS)
    assert decode(b'2["a",%b]' % most) == SocketEvent("/", "a", arguments(*[b"1"] * MAX_ARGUMENTS))
    for packet in (b'2["a",1,%b]' % most, b'2["a"%b]' % (b",1" * 100_000), b"31[1,1,%b]" % most):
        with pytest.raises(Disconnect, match="at most length"):
            decode(packet)


PARTS = [b"0", b"2", b"3", b"5", b"6", b"1-", b"10-", b"/", b"/a", b"?", b",", b"12", b"[", b"]", b'"a"', b"{", b"}"]
PARTS += [
    b'["a"]',
    b'"a":',
    b"1",
    b",1",
    b" ",
    b"\\ud800",
    b"\xff",
    b"\xc3\xa9",
    b"\x1e",
    b'{"_placeholder":true,"num":0}',
]


@settings(derandomize=True, max_examples=1000)
@given(st.binary(max_size=40) | st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join))
def test_any_bytes_are_a_packet_or_end_the_connection(data: bytes) -> None:
    with suppress(Disconnect):
        decode(data)


@pytest.mark.parametrize(
    "of",
    [
        lambda size: b"2" + b"1" * size + b'["a"]',
        lambda size: b"5" + b"1" * size + b'-["a"]',
        lambda size: b"5" + b"1" * size,
        lambda size: b"2/" + b"a" * size + b',["a"]',
        lambda size: b'2/a?%b,["a"]' % (b"?" * size),
        lambda size: b'2["a","%b"]' % (b"\\" * 2 * size),
        lambda size: b'2["a"%b]' % (b",1" * size),
        lambda size: b'2["a",[%b1]]' % (b"[1]," * size),
        lambda size: b'2["a",%b' % (b"[" * size),
        lambda size: b'2["a","%b' % (b"\\ud800" * size),
    ],
)
def test_no_python_runs_for_each_byte(of: Any) -> None:
    """The steps do not grow with a packet; what they call is linear.

    The expression of the header has possessive repetitions only, so no byte is read more than twice; msgspec reads the
    JSON once, and at most once more after a repair. json_text argues for its own functions.
    """

    def ended(size: int) -> None:
        with suppress(Disconnect):
            decode(of(size))

    assert steps_of(lambda: ended(20_000)) == steps_of(lambda: ended(40_000)) < 60


# What clients send.


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        # The documentation of the protocol.
        (b"0", SocketConnect("/")),
        (b"0/admin,", SocketConnect("/admin")),
        (b'0{"token":"123"}', SocketConnect("/", b'{"token":"123"}')),
        (b'0/admin,{"token":"123"}', SocketConnect("/admin", b'{"token":"123"}')),
        (b"1", SocketDisconnect("/")),
        (b"1/admin,", SocketDisconnect("/admin")),
        (b'2["foo"]', SocketEvent("/", "foo")),
        (b'2/admin,["bar"]', SocketEvent("/admin", "bar")),
        (b'212["foo"]', SocketEvent("/", "foo", id=12)),
        (b'3/admin,13["bar"]', SocketAck("/admin", 13, arguments(b'"bar"'))),
        (b"312[]", SocketAck("/", 12)),
        (
            b'51-["baz",{"_placeholder":true,"num":0}]',
            SocketEvent("/", "baz", arguments(b'{"_placeholder":true,"num":0}'), attachments=1),
        ),
        (
            b'52-/admin,["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
            SocketEvent(
                "/admin",
                "baz",
                arguments(b'{"_placeholder":true,"num":0}', b'{"_placeholder":true,"num":1}'),
                attachments=2,
            ),
        ),
        (
            b'61-15["bar",{"_placeholder":true,"num":0}]',
            SocketAck("/", 15, arguments(b'"bar"', b'{"_placeholder":true,"num":0}'), attachments=1),
        ),
        # Traps: no comma at the end, a query, an explicit default, a comma in JSON, ids at their limits.
        (b"0/random", SocketConnect("/random")),
        (b"0/", SocketConnect("/")),
        (b"1/a", SocketDisconnect("/a")),
        (b"0/admin?token=1234&uid=abcd,", SocketConnect("/admin")),
        (b"0/admin?token=1234", SocketConnect("/admin")),
        (b'2/?a=/b,["c"]', SocketEvent("/", "c")),
        (b'2/,["a"]', SocketEvent("/", "a")),
        (b'2["/a,b"]', SocketEvent("/", "/a,b")),
        (b'0/a/b-1,{"a":1}', SocketConnect("/a/b-1", b'{"a":1}')),
        ('0/\N{EURO SIGN},{"a":1}'.encode(), SocketConnect("/\N{EURO SIGN}", b'{"a":1}')),
        (b"0/" + b"a" * 254 + b"?" + b"b" * 1000, SocketConnect("/" + "a" * 254)),
        (b'20["a"]', SocketEvent("/", "a", id=0)),
        (b'2007["a"]', SocketEvent("/", "a", id=7)),
        (b'2%d["a"]' % MAX_ACK_ID, SocketEvent("/", "a", id=MAX_ACK_ID)),
        (b'2[1,"a"]', SocketEvent("/", "1", arguments(b'"a"'))),
        (b"2[-1.5e3]", SocketEvent("/", "-1.5e3")),
        (b'2[""]', SocketEvent("/", "")),
        (b'2["a",null,[1, 2], {"b" : 2}]', SocketEvent("/", "a", arguments(b"null", b"[1, 2]", b'{"b" : 2}'))),
        # An event without attachments has no placeholders, only objects like these.
        (b'2["a",{"_placeholder":true,"num":0}]', SocketEvent("/", "a", arguments(b'{"_placeholder":true,"num":0}'))),
        # An id where none belongs: the reference does not look at it.
        (b"012{}", SocketConnect("/", b"{}")),
        (b"112", SocketDisconnect("/")),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_packets(data: bytes, packet: SocketPacket) -> None:
    assert decode(data) == packet


def test_line_breaks_between_tokens_are_gone() -> None:
    """They would split what line-based protocols send."""
    assert decode(b'2["a",\r\n{"b":\n1}]') == SocketEvent("/", "a", arguments(b'{"b": 1}'))
    assert decode(b'0{"a":\n1}') == SocketConnect("/", b'{"a": 1}')


def test_halves_of_characters_are_repaired() -> None:
    """JavaScript writes them as escapes, which other decoders refuse."""
    assert decode(rb'2["a\ud800","\udc00\ud83d\ude00"]') == SocketEvent(
        "/", "a\N{REPLACEMENT CHARACTER}", arguments(rb'"\ufffd\ud83d\ude00"')
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMESPACES = st.sampled_from(["/", "/admin", "/a/b", "/\N{EURO SIGN}"])


@settings(derandomize=True, max_examples=300)
@given(NAMESPACES, st.none() | st.integers(0, MAX_ACK_ID), st.lists(JSON, max_size=MAX_ARGUMENTS), st.booleans())
def test_what_a_client_writes_is_read(namespace: str, id: int | None, values: list[Any], plain: bool) -> None:
    """As JSON.stringify writes it, and with white space and escapes."""
    dump = json.dumps if plain else lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    head = ("" if namespace == "/" else f"{namespace},") + ("" if id is None else str(id))
    packet = decode(f"2{head}{dump(['name', *values])}".encode(errors="surrogatepass"))
    assert isinstance(packet, SocketEvent)
    assert (packet.namespace, packet.name, packet.id) == (namespace, "name", id)
    assert [json.loads(argument.data) for argument in packet.arguments] == values
