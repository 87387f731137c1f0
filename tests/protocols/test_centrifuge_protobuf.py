"""The native protocol in Protobuf, against the generated classes of an SDK."""

import contextlib
import json
import random
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import BAD_COMMAND, Disconnect
from gateway.json_text import MAX_DEPTH
from gateway.messages import (
    Call,
    Channel,
    ClientInfo,
    Connect,
    Kind,
    Pong,
    Position,
    Publication,
    Publish,
    Request,
    Subscribe,
    SubscribeResult,
    UnknownFields,
    Unsupported,
)
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobufProtocol
from gateway.protocols.fossil import LIMIT
from gateway.protocols.protobuf_wire import delimited, written
from tests.protocols.encodings import Command, ProtobufEncoding, command_of, requests_of, told

ENCODING = ProtobufEncoding()
PROTOCOL = CentrifugeProtobufProtocol()
CHANNEL = Channel("default", "c")


def decoded(command: bytes) -> list[Request]:
    """The requests of a command without its length."""
    return list(PROTOCOL.decode(delimited(command), binary=True))


def pushed(*publications: Publication) -> list[Any]:
    return [reply.push.pub for reply in told(ENCODING, PROTOCOL.events(publications))]


def test_a_ping_is_an_empty_reply() -> None:
    """And its answer an empty command: nothing behind a length of zero."""
    (ping,) = PROTOCOL.ping()
    assert ping == (b"\0", True)
    assert list(PROTOCOL.decode(b"\0", binary=True)) == [Pong()]
    assert PROTOCOL.count(b"\0") == 1


# Payloads


@pytest.mark.parametrize(
    ("payload", "kind", "data"),
    [
        (b'{"a":1}', Kind.JSON, b'{"a":1}'),
        (b"1", Kind.JSON, b"1"),
        (b"null", Kind.JSON, b"null"),
        (b' {"a":\r\n1}', Kind.JSON, b' {"a":  1}'),
        (rb'"\ud83d"', Kind.JSON, rb'"\ufffd"'),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, Kind.JSON, b"[" * MAX_DEPTH + b"]" * MAX_DEPTH),
        (b"[" * 200 + b"]" * 200, Kind.BINARY, b"[" * 200 + b"]" * 200),
        (b"hello", Kind.BINARY, b"hello"),
        (b"{} {}", Kind.BINARY, b"{} {}"),
        (b'"\xff"', Kind.BINARY, b'"\xff"'),
        (b"\x00\xff\n", Kind.BINARY, b"\x00\xff\n"),
        (b"\n", Kind.BINARY, b"\n"),
        # Absent, for Protobuf: the session refuses it.
        (b"", Kind.JSON, b""),
    ],
)
def test_bytes_that_are_json_are_published_as_json(payload: bytes, kind: Kind, data: bytes) -> None:
    """And all others as bytes, like the `b64data` of the API."""
    command = {"id": 1, "publish": {"channel": "c", "data": payload}}
    assert requests_of(ENCODING, command) == [Publish(1, "c", data, kind)]


@pytest.mark.parametrize(
    ("payload", "data"),
    [(b'{"a":\n1}', b'{"a": 1}'), (b"null", b"null"), (b"", b""), (b"\x00\xff", b'{"base64":"AP8="}')],
)
def test_the_application_reads_json(payload: bytes, data: bytes) -> None:
    """Of calls, connects and subscribes; bytes are shown to it as to a client that speaks JSON."""
    assert requests_of(ENCODING, {"id": 1, "rpc": {"method": "m", "data": payload}}) == [Call(1, "m", data)]
    assert requests_of(ENCODING, {"send": {"data": payload}}) == [Call(0, "", data)]
    optional = b"" if data == b"null" else data
    assert requests_of(ENCODING, {"id": 1, "connect": {"data": payload}}) == [Connect(1, data=optional)]
    subscribe = {"id": 1, "subscribe": {"channel": "c", "data": payload}}
    assert requests_of(ENCODING, subscribe) == [Subscribe(1, "c", data=optional)]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.JSON, b'{"a": 1}'),
        (Kind.TEXT, 'héllo "x"\n'.encode()),
        (Kind.TEXT, b""),
        (Kind.BINARY, b"\x00\xff"),
        (Kind.BINARY, b"x" * 20_000),
    ],
)
def test_every_payload_arrives_as_it_was_published(kind: Kind, data: bytes) -> None:
    assert [pub.data for pub in pushed(Publication(CHANNEL, data, kind))] == [data]


# Hostile commands


@pytest.mark.parametrize(
    "command",
    [
        b"\xff",
        b"\x08",
        b"\x08\x01",
        b"\x08\x01\x22",
        b"\x08\x01\x22\x00\x2a\x00",
        b"\x22\x00",
        b"\x08\x00\x22\x00",
        # 2^32 as the id, and a negative one.
        b"\x08\x80\x80\x80\x80\x10\x22\x00",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x22\x00",
        # The id as a string, the body as a number, and groups.
        b"\x0a\x01\x01\x22\x00",
        b"\x08\x01\x20\x01",
        b"\x08\x01\x23\x24",
        b"\x08\x01\x22\x00\x83\x02\x84\x02",
        # Strings that are not UTF-8: token, name, version, profile, channel, and one in a filter.
        b"\x08\x01\x22\x03\x0a\x01\xff",
        b"\x08\x01\x22\x03\x22\x01\xff",
        b"\x08\x01\x22\x03\x2a\x01\xff",
        b"\x08\x01\x22\x03\x4a\x01\xff",
        b"\x08\x01\x3a\x03\x0a\x01\xff",
        b"\x08\x01\x2a\x05\x6a\x03\x0a\x01\xff",
        # Lengths behind the end: of a string, and of a body.
        b"\x08\x01\x3a\x06\x0a\xff\xff\xff\xff\x07",
        b"\x08\x01\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_anything_else_is_a_bad_request(command: bytes) -> None:
    """Close code 3501, and nothing but that."""
    with pytest.raises(Disconnect) as caught:
        decoded(command)
    assert caught.value.code == BAD_COMMAND


@pytest.mark.parametrize(
    "length", [b"", b"\x80", b"\x03", b"\x05", b"\xff" * 10, b"\x80" * 11, b"\xff\xff\xff\xff\x7f", b"\x84\x00"]
)
def test_the_length_of_a_command_is_its_length(length: bytes) -> None:
    """Whether it is alone in its frame or not; other lengths are refused, and nothing is allocated for them."""
    command = b"\x08\x01\x22\x00"
    assert list(PROTOCOL.decode(b"\x04" + command, binary=True)) == [Connect(1)]
    with pytest.raises(Disconnect) as caught:
        PROTOCOL.decode(length + command[: 4 if length else 0], binary=True)
    assert caught.value.code == BAD_COMMAND
    with pytest.raises(Disconnect):
        every(b"\x04" + command + length + (b"" if length else b"\x01"))


def every(frame: bytes) -> list[Request]:
    """All requests of a frame."""
    found: list[Request] = []
    start = 0
    while start < len(frame):
        command, start = PROTOCOL.cut(frame, start)
        found += PROTOCOL.decode(command, binary=True)
    return found


def test_an_empty_frame_is_a_bad_request() -> None:
    assert PROTOCOL.count(b"") == 1
    for read in (lambda: PROTOCOL.decode(b"", binary=True), lambda: PROTOCOL.cut(b"", 0)):
        with pytest.raises(Disconnect):
            read()


def test_filters_nest_only_so_deep() -> None:
    """They are not available, and cost no stack."""
    node = b""
    for _ in range(3000):
        node = b"\x32" + delimited(node)
    subscribe = b"\x6a" + delimited(node)
    with pytest.raises(Disconnect) as caught:
        decoded(b"\x08\x01\x2a" + delimited(subscribe))
    assert "nested" in caught.value.detail
    shallow = b"\x08\x01\x2a" + delimited(b"\x0a\x01c\x6a" + delimited(b"\x32\x00" * 3))
    assert decoded(shallow) == [Unsupported(1, "subscribe with tf", "c")]


def test_a_command_has_only_so_many_fields() -> None:
    """They cost the time: 64 KiB of the shortest ones would take that of a hundred commands."""
    with pytest.raises(Disconnect) as caught:
        decoded(b"\x08\x01" * 30_000)
    assert "fields" in caught.value.detail
    subs = {f"channel {number}": {"recover": True, "epoch": "e", "offset": number} for number in range(1000)}
    assert len(getattr(requests_of(ENCODING, {"id": 1, "connect": {"subs": subs}})[0], "positions", ())) == 1000


@pytest.mark.parametrize("tail", [b"", b"\x05", b"\x80", b"\x7f\x01"])
def test_commands_are_counted_before_they_are_read(tail: bytes) -> None:
    """Never too few, and never 1 for a frame with more; however many there are, that takes little time."""
    ping = b"\x04\x08\x01\x5a\x00"
    assert PROTOCOL.count(ping * 1000 + tail) == 1000 + bool(tail)
    assert PROTOCOL.count(b"\0" * 300_000 + tail) >= 100_000
    assert PROTOCOL.count(b"\x02\x62\x00" * 100_000 + tail) >= 100_000


@pytest.mark.parametrize("length", [b"\x80\x00", b"\x80\x80\x00", b"\x80" * 9 + b"\x00", b"\x81\x00"])
def test_lengths_with_padding_are_not_counted(length: bytes) -> None:
    """No encoder writes them. Each took ten times as long as a length of one byte: 160 KiB of them 40 ms."""
    assert PROTOCOL.count(length * 16_000) == 1
    with pytest.raises(Disconnect) as caught:
        every(length * 16_000)
    assert caught.value.code == BAD_COMMAND


def test_unknown_fields_are_told_apart() -> None:
    """At any depth, and also the numbers that are reserved. They are ignored otherwise."""
    publish = command_of({"id": 4, "publish": {"channel": "c", "data": 1}}).SerializeToString()
    for field in (
        b"\xa8\x01\x05",
        b"\xaa\x01\x02\xff\xff",
        b"\x10\x01",
        b"\xad\x01" + bytes(4),
        b"\xa9\x01" + bytes(8),
    ):
        for command in (field + publish, publish + field):
            assert decoded(command) == [UnknownFields(), Publish(4, "c", b"1")]
        inner = b"\x0a\x01c" + field + b"\x12\x011"
        if field != b"\x10\x01":
            assert decoded(b"\x08\x04\x3a" + delimited(inner)) == [UnknownFields(), Publish(4, "c", b"1")]


def test_fields_come_in_any_order_and_the_last_wins() -> None:
    """A body that is there twice is one, merged of both."""
    body = b"\x0a\x01a\x12\x011\x0a\x01b"
    assert decoded(b"\x3a" + delimited(body) + b"\x08\x09\x08\x04") == [Publish(4, "b", b"1")]
    assert decoded(b"\x3a\x03\x0a\x01c\x08\x04\x3a\x03\x12\x017") == [Publish(4, "c", b"7")]
    subs = b"\x1a\x07\x0a\x01c\x12\x02\x18\x01" + b"\x1a\x09\x12\x02\x38\x05\x12\x02\x18\x01\x0a"
    with pytest.raises(Disconnect):
        decoded(b"\x08\x01\x22" + delimited(subs))
    subs = b"\x1a\x0b\x12\x02\x38\x05\x0a\x01c\x12\x02\x18\x01"
    assert decoded(b"\x08\x01\x22" + delimited(subs)) == [Connect(1, positions={"c": Position(5, "")})]


# What Google's implementation takes as a command, and other bytes


TEXTS = st.text(max_size=12)
PAYLOADS = st.binary(max_size=20) | st.sampled_from([b"1", b'{"a":[1,2]}', b"null"])
SUBSCRIBES = st.fixed_dictionaries(
    {},
    optional={
        "channel": TEXTS,
        "token": TEXTS,
        "recover": st.booleans(),
        "epoch": TEXTS,
        "offset": st.integers(0, 2**64 - 1),
        "data": PAYLOADS,
        "positioned": st.booleans(),
        "recoverable": st.booleans(),
        "join_leave": st.booleans(),
        "delta": st.sampled_from(["", "fossil"]),
        "flag": st.integers(-(2**63), 2**63 - 1),
    },
)
BODIES = st.one_of(
    SUBSCRIBES.map(lambda body: {"subscribe": body}),
    st.fixed_dictionaries(
        {},
        optional={
            "token": TEXTS,
            "data": PAYLOADS,
            "name": TEXTS,
            "version": TEXTS,
            "subs": st.dictionaries(TEXTS, SUBSCRIBES, max_size=4),
            "headers": st.dictionaries(TEXTS, TEXTS, max_size=2),
            "flag": st.integers(-1, 3),
        },
    ).map(lambda body: {"connect": body}),
    st.fixed_dictionaries({"channel": TEXTS, "data": PAYLOADS}).map(lambda body: {"publish": body}),
    st.fixed_dictionaries(
        {},
        optional={
            "channel": TEXTS,
            "limit": st.integers(-(2**31), 2**31 - 1),
            "reverse": st.booleans(),
            "since": st.fixed_dictionaries({"offset": st.integers(0, 2**64 - 1), "epoch": TEXTS}),
        },
    ).map(lambda body: {"history": body}),
    st.fixed_dictionaries({"method": TEXTS, "data": PAYLOADS}).map(lambda body: {"rpc": body}),
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(BODIES, st.integers(1, 2**32 - 1))
def test_commands_mean_what_they_do_in_json(body: dict[str, Any], id: int) -> None:
    """Written by Google's implementation, read here; in parts as well, since parts of a message are merged."""
    command = command_of({"id": id, **body})
    (request,) = decoded(command.SerializeToString())
    ((name, fields),) = body.items()
    assert getattr(request, "id", None) == id
    assert getattr(request, "channel", fields.get("channel", "")) == fields.get("channel", "")
    if isinstance(request, Subscribe):
        asked = Position(min(fields.get("offset", 0), 2**63 - 1), fields.get("epoch", ""))
        assert request.since == (asked if fields.get("recover") else None)
        assert request.all_or_nothing == bool(fields.get("flag", 0) & 2)
        assert request.token == fields.get("token", "")
    if isinstance(request, Connect):
        assert request.positions.keys() == {each for each, sub in fields.get("subs", {}).items() if sub.get("recover")}
        assert (request.name, request.version) == (fields.get("name", ""), fields.get("version", ""))
    if name == "history":
        assert getattr(request, "limit", None) == fields.get("limit", 0)
    parts = b"".join(command_of({"id": id, name: {key: value}}).SerializeToString() for key, value in fields.items())
    assert decoded(parts + command_of({"id": id, name: {}}).SerializeToString()) == [request]


@settings(derandomize=True, max_examples=1000, deadline=None)
@given(st.binary(max_size=60))
@example(b"\x08\x01\x22\x00")
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    """Nor a frame of them, whose commands are never more than counted."""
    with contextlib.suppress(Disconnect):
        assert decoded(data)
    assert PROTOCOL.count(data) >= 1
    with contextlib.suppress(Disconnect):
        start = commands = 0
        while start < len(data):
            command, start = PROTOCOL.cut(data, start)
            commands += 1
            assert commands <= PROTOCOL.count(data)
            PROTOCOL.decode(command, binary=True)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(BODIES, st.randoms(use_true_random=False))
def test_what_is_taken_is_a_command_to_others_too(body: dict[str, Any], rng: random.Random) -> None:
    """Damaged commands: those that are accepted, Google's implementation accepts and reads alike."""
    data = bytearray(command_of({"id": 1, **body}).SerializeToString())
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        requests = decoded(bytes(data))
    except Disconnect:
        return
    try:
        command = Command.FromString(bytes(data))
    except DecodeError:
        # Headers are not looked into.
        assert "headers" in str(body)
        return
    assert getattr(requests[-1], "id", 0) == command.id
    if isinstance(requests[-1], Publish):
        assert requests[-1].channel == command.publish.channel
        assert requests[-1].kind is Kind.JSON or requests[-1].data == command.publish.data


PUBLICATIONS = st.builds(
    Publication,
    st.just(CHANNEL),
    st.binary(max_size=300),
    st.just(Kind.BINARY),
    offset=st.integers(0, 2**63 - 1) | st.integers(0, 200),
    epoch=TEXTS,
    tags=st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3),
    info=st.none() | st.builds(ClientInfo, TEXTS, TEXTS, st.binary(max_size=200), st.binary(max_size=9)),
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(PUBLICATIONS, min_size=1, max_size=4))
def test_others_read_what_is_written(publications: list[Publication]) -> None:
    """Publications of any size, by Google's implementation."""
    result = SubscribeResult(position=Position(2**40, "e"), recovered=True, publications=publications)
    (recovered,) = told(ENCODING, PROTOCOL.subscribed(7, "c", result))
    for found in (pushed(*publications), recovered.subscribe.publications):
        assert len(found) == len(publications)
        for pub, publication in zip(found, publications, strict=True):
            assert pub.data == publication.data
            assert pub.offset == publication.offset
            assert dict(pub.tags) == (publication.tags or {})
            assert pub.epoch == (publication.epoch if publication.offset == 1 else "")
            info = publication.info or ClientInfo("", "")
            assert pub.HasField("info") == (publication.info is not None)
            assert (pub.info.user, pub.info.client) == (info.user, info.client)
            assert (pub.info.conn_info, pub.info.chan_info) == (info.conn_info, info.chan_info)


# Deltas


def test_deltas_are_bytes() -> None:
    """From the payload before, whatever its kind; whole where a delta saves nothing, and for large ones."""
    rng = random.Random(7)
    noise = rng.randbytes(2000)
    texts = [json.dumps({"n": number, "filling": "é" * 200}).encode() for number in range(2)]
    payloads = [
        (Kind.JSON, texts[0]),
        (Kind.JSON, texts[1]),
        (Kind.TEXT, texts[1] + b"."),
        (Kind.BINARY, noise),
        (Kind.BINARY, noise[:1000] + b"\xff" + noise[1000:]),
        (Kind.BINARY, b"\x80" * 3000),
        (Kind.BINARY, b"\x80" * 2999),
        (Kind.BINARY, b"x" * (LIMIT + 1)),
        (Kind.JSON, texts[0]),
    ]
    publications = [Publication(CHANNEL, data, kind, offset=5 + at) for at, (kind, data) in enumerate(payloads)]
    pubs = [reply.push.pub for reply in told(ENCODING, PROTOCOL.events_after(None, publications))]
    assert [pub.delta for pub in pubs] == [False, True, True, False, True, False, True, False, False]
    before = b""
    for pub, (_, data) in zip(pubs, payloads, strict=True):
        before = bytes(apply_delta(before, pub.data)) if pub.delta else pub.data
        assert before == data
    assert [pub.offset for pub in pubs] == list(range(5, 14))
    (next_,) = told(ENCODING, PROTOCOL.events_after(publications[0], publications[1:2]))
    assert next_.push.pub.delta
    assert next_.push.channel == "c"


def test_what_was_missed_is_whole() -> None:
    """Also where deltas were negotiated, and not as a string as in JSON."""
    missed = [Publication(CHANNEL, b'{"a":1}', offset=2)]
    result = SubscribeResult(position=Position(1, "e"), recovered=True, publications=missed, delta=True)
    (reply,) = told(ENCODING, PROTOCOL.subscribed(1, "c", result))
    assert reply.subscribe.delta
    assert [(pub.data, pub.delta) for pub in reply.subscribe.publications] == [(b'{"a":1}', False)]


def test_long_lengths_are_written_in_as_many_bytes_as_they_take() -> None:
    for size in (0, 100, 127, 128, 16_383, 16_384, 70_000):
        assert [len(pub.data) for pub in pushed(Publication(CHANNEL, b"x" * size, Kind.BINARY))] == [size]
        assert len(delimited(b"x" * size)) == size + len(written(size))
