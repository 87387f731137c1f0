"""The frame parser and the command decoders behind it, given anything at all."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import BAD_COMMAND, CloseCode, Disconnect
from gateway.messages import Call, Channel, Kind, Publication, Publish
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobufProtocol
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.wire_protocol import WireProtocol
from gateway.transports.websocket.frames import FrameError, FrameParser
from tests.transports.raw import masked

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
HELLO = masked(TEXT, b'{"id":1,"connect":{}}')


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@st.composite
def damaged(draw: st.DrawFn, sound: st.SearchStrategy[bytes]) -> bytes:
    """Something sound with a few bytes replaced, inserted or taken out."""
    data = bytearray(draw(sound))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


BODIES = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["garbage", "", "nowhere:x", "closed:x", "$x", "a#b", "\u00e4"]),
        "token": st.sampled_from(["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."]),
        "data": st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
        "unknown": st.none(),
    },
)
NAMES = st.sampled_from(
    [*("connect", "subscribe", "unsubscribe", "publish", "send", "rpc"), *("ping", "refresh", "sub_refresh", "history")]
)
COMMANDS = st.builds(
    lambda id, name, body: json.dumps({"id": id, name: body}).encode(),
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8]),
    NAMES,
    BODIES,
)
TEXTS = st.lists(COMMANDS | COMMANDS | COMMANDS | st.just(b"{}"), min_size=1, max_size=4).map(b"\n".join)
PROTOBUF = st.lists(
    st.sampled_from(
        [
            b"\x00",
            b"\x04\x08\x01\x22\x00",
            b"\x09\x08\x02\x2a\x05\x0a\x03a#b",
            b"\x0e\x08\x03\x3a\x0a\x0a\x05chat1\x12\x017",
            b"\x05\x62\x03\x0a\x01\xff",
        ]
    ),
    min_size=1,
    max_size=4,
).map(b"".join)
FRAMES = st.builds(
    lambda opcode, payload, fin: masked(opcode, payload, fin=fin),
    st.sampled_from([TEXT, TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE]),
    damaged(TEXTS) | damaged(PROTOBUF) | st.binary(max_size=300),
    st.sampled_from([True, True, True, False]),
)
FLAWED = damaged(st.lists(FRAMES, min_size=1, max_size=6).map(b"".join))
BROKEN = FLAWED | FLAWED | st.binary(max_size=300)
# Half of the streams are those of a client that is connected.
STREAMS = st.builds(lambda first, rest: first + rest, st.sampled_from([b"", HELLO]), BROKEN)
PROTOCOLS = [CentrifugeProtocol(), CentrifugeProtobufProtocol(), PlainProtocol()]
PLACES = st.lists(st.integers(0, 10_000), max_size=6)


def requests_of(protocol: WireProtocol, data: bytes, *, binary: bool = False) -> Sequence[Any]:
    """What the decoder makes of a message: requests, or the refusal with 3501 and no other."""
    codec = protocol.open()
    requests: list[Any] = []
    start, is_whole = 0, False
    try:
        while not is_whole:
            command, start = codec.cut(data, start)
            requests += codec.decode(command, binary=binary)
            is_whole = start == len(data)
    except Disconnect as error:
        return [*requests, error.code, str(error)]
    assert requests
    return requests


class Decoded:
    """Takes what a parser finds as a session does: whatever the messages say, a decoder may refuse and no more."""

    def __init__(self, protocol: WireProtocol) -> None:
        self._protocol = protocol
        self.seen: list[Any] = []

    @property
    def receiver(self) -> "Decoded":
        return self

    def received(self, data: bytes, *, binary: bool) -> None:
        self.seen += requests_of(self._protocol, data, binary=binary)

    def ping_received(self, data: bytes) -> None:
        self.seen.append(("ping", data))

    def pong_received(self) -> None:
        self.seen.append("pong")

    def close_received(self, code: int, reason: str) -> None:
        self.seen.append(("close", code, reason))


def decoded(protocol: WireProtocol, pieces: Sequence[bytes]) -> list[Any]:
    sink = Decoded(protocol)
    parser = FrameParser(65_536, 20)
    try:
        for piece in pieces:
            parser.feed(piece, sink)
    except FrameError as error:
        sink.seen.append((error.code, error.reason))
    return sink.seen


@settings(derandomize=True, max_examples=300, deadline=None)
@example(stream=b"\x80\x00", places=[], protocol=CentrifugeProtocol())
@given(stream=STREAMS, places=PLACES, protocol=st.sampled_from(PROTOCOLS))
def test_parser_and_decoder_take_anything_however_it_is_cut(
    stream: bytes, places: list[int], protocol: WireProtocol
) -> None:
    """Requests, a frame error or a refusal with 3501, and the same ones for every way to cut the stream."""
    whole = decoded(protocol, [stream])
    assert decoded(protocol, cut(stream, places)) == whole
    assert decoded(protocol, [bytes([octet]) for octet in stream]) == whole


@settings(derandomize=True, max_examples=300, deadline=None)
@given(data=damaged(TEXTS))
@example(data=b'{"id":1,"subscribe":{"channel":"\xff"}}')
def test_what_the_decoder_takes_cannot_split_a_frame(data: bytes) -> None:
    """Payloads go on as they came, so what is accepted has to be fit for others."""
    requests = requests_of(CentrifugeProtocol(), data)
    assert all(request == BAD_COMMAND for request in requests if isinstance(request, CloseCode))
    for request in requests:
        if isinstance(request, Call | Publish):
            assert not set(request.data) & set(b"\r\n")


@settings(derandomize=True, max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), binary=st.booleans())
def test_the_plain_decoder_takes_every_message_as_it_is(data: bytes, binary: bool) -> None:
    (publish,) = PlainProtocol().decode(data, binary=binary)
    assert publish == Publish(0, "", data, Kind.BINARY if binary else Kind.TEXT)
    publication = Publication(Channel("default", "x"), data, Kind.BINARY if binary else Kind.TEXT)
    (message,) = PlainProtocol().events([publication])
    assert message == (data, binary)
