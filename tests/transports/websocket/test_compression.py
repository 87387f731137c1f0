"""permessage-deflate: what is agreed on, and frames that are compressed (RFC 7692 sections 5 to 7)."""

import random
import zlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode

from gateway.config.settings import CompressionSettings
from gateway.hub.encoder import PackingFraming
from gateway.protocols.wire_protocol import Message
from gateway.transports.websocket.compression import LARGEST_MESSAGE, CompressedFraming, Compression
from gateway.transports.websocket.deflate import deflated_bound
from gateway.transports.websocket.frames import (
    BINARY,
    COMPRESSED,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameParser,
    frame,
    unframe,
)
from tests.transports.websocket.test_deflate import deflate
from tests.transports.websocket.test_frames import LIMIT, Events, client_frame, one_by_one

CHOICE = CompressionSettings(enabled=True, min_size=32)
ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
LARGE = f"{ANSWER}; server_max_window_bits=15"
SMALL = f"{ANSWER}; server_max_window_bits=9"
JSON = b'{"push":{"channel":"news","pub":{"data":{"text":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}}}'


def agreed(*lines: str) -> str | None:
    """The answer to these header lines."""
    headers = [(b"host", b"x"), *((b"sec-websocket-extensions", line.encode("latin-1")) for line in lines)]
    agreement = Compression(CHOICE).agree(headers)
    return agreement.answer.decode() if agreement else None


# Negotiation


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", ANSWER),
        ("permessage-deflate; client_max_window_bits", ANSWER),
        ("permessage-deflate; client_max_window_bits=8", ANSWER),
        ('permessage-deflate ;client_max_window_bits = "15"', ANSWER),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", ANSWER),
        ("permessage-deflate; server_max_window_bits=15", LARGE),
        ("permessage-deflate; server_max_window_bits=14", SMALL),
        ("permessage-deflate; server_max_window_bits=9; client_max_window_bits", SMALL),
        ("\tpermessage-deflate\t;\tserver_max_window_bits\t=\t10\t", SMALL),
        ("x-webkit-deflate-frame, permessage-deflate", ANSWER),
        # The first that can be met.
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9", SMALL),
        ("permessage-deflate; unheard_of, permessage-deflate", ANSWER),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", SMALL),
    ],
)
def test_an_offer_is_accepted(offer: str, answer: str) -> None:
    """With `no_context_takeover` both ways, asked for or not (7.1.1)."""
    assert agreed(offer) == answer


@pytest.mark.parametrize(
    "parameters",
    [
        # zlib has no window of 256 bytes for raw DEFLATE.
        "server_max_window_bits=8",
        "server_max_window_bits",
        "server_max_window_bits=",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=09",
        "server_max_window_bits=1e1",
        "server_max_window_bits=\xb9",
        "server_max_window_bits=-9",
        'server_max_window_bits="9',
        'server_max_window_bits="9" "9"',
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=015",
        "client_max_window_bits=''",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=9",
        "Server_no_context_takeover",
        "unheard_of",
        "unheard_of=1",
        "",
        ";",
        "=",
        "=9",
    ],
)
def test_an_offer_is_declined(parameters: str) -> None:
    """7.1: malformed and unknown parameters, values out of range, and the same one twice. Another offer may follow."""
    offer = f"permessage-deflate; {parameters}"
    assert agreed(offer) is None
    assert agreed(f"{offer}, permessage-deflate") == ANSWER
    assert agreed(offer, "permessage-deflate") == ANSWER


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("",),
        (",,,",),
        ("deflate-frame",),
        ("permessage-deflate-not",),
        ("Permessage-Deflate",),
        ('"permessage-deflate"',),
        ("permessage-deflate=1",),
        (";permessage-deflate",),
        ('other; value="a, permessage-deflate"',),
    ],
)
def test_something_else_is_no_offer(lines: Sequence[str]) -> None:
    """Nothing is answered then."""
    assert agreed(*lines) is None


def test_offers_may_be_on_several_lines() -> None:
    """9.1 of RFC 6455: as if they were on one."""
    assert agreed("a, b; c=1", "", "permessage-deflate; server_max_window_bits=12") == SMALL


def test_sixteen_kilobytes_of_offers_are_read_at_once() -> None:
    """Each byte is looked at a few times."""
    for line in (",", ";", '"', "=", " ", "permessage-deflate;", "permessage-deflate;a,", 'x="\\', "server_max_"):
        assert agreed(line * (16_384 // len(line))) is None


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.text(alphabet=';,="\t 189', max_size=30), st.sampled_from(["server_max_window_bits", "client_max_window_bits"])
)
def test_arbitrary_offers_raise_nothing(text: str, name: str) -> None:
    """Nor is anything else answered."""
    assert agreed(f"permessage-deflate; {name}{text}") in (None, ANSWER, LARGE, SMALL)


@pytest.mark.parametrize("server_bits", [None, 9, 12, 15])
@pytest.mark.parametrize("client_bits", [None, True, 9, 15])
def test_a_client_of_websockets_agrees(server_bits: int | None, client_bits: int | bool | None) -> None:
    """It raises if the answer is not one to its offer."""
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=server_bits, client_max_window_bits=client_bits)
    offer = "; ".join(
        [factory.name, *(key if value is None else f"{key}={value}" for key, value in factory.get_request_params())]
    )
    answer = agreed(offer)
    assert answer is not None
    parts = [part.split("=") for part in answer.split("; ")[1:]]
    factory.process_response_params([(part[0], part[1] if len(part) > 1 else None) for part in parts], [])


def test_clients_with_the_same_window_share_a_framing() -> None:
    """Its identity names a delivery group. There are two, whatever clients ask for."""
    compression = Compression(CHOICE)
    framings = []
    for bits in range(9, 16):
        offer = b"permessage-deflate; server_max_window_bits=%d" % bits
        agreement = compression.agree([(b"sec-websocket-extensions", offer)])
        assert agreement is not None
        framings.append(agreement.framing)
    assert len(set(framings)) == 2
    assert len(set(framings[:-1])) == 1


# Sending


def framing(min_size: int = 32, window: int = 15) -> CompressedFraming:
    return CompressedFraming(CompressionSettings(min_size=min_size), window)


def parts(block: bytes) -> list[tuple[bool, int, bytes]]:
    """Of each frame of the server: whether it is compressed, its opcode and what it says."""
    found = []
    while block:
        length, start = block[1], 2
        if length > 125:
            start = 4 if length == 126 else 10
            length = int.from_bytes(block[2:start], "big")
        payload, compressed = block[start : start + length], bool(block[0] & COMPRESSED)
        if compressed:
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        found.append((compressed, block[0] & 0x0F, payload))
        block = block[start + length :]
    return found


def test_what_is_packed_is_compressed_and_what_is_framed_is_not() -> None:
    """`frame` is for messages to one client."""
    packed = framing().pack([Message(JSON), Message(JSON, binary=True)])
    assert parts(packed) == [(True, TEXT, JSON), (True, BINARY, JSON)]
    assert len(packed) < 2 * len(JSON)
    assert framing().frame([Message(JSON)]) == frame([Message(JSON)])
    assert isinstance(framing(), PackingFraming)


@pytest.mark.parametrize(
    ("size", "compressed"), [(31, False), (32, True), (LARGEST_MESSAGE, True), (LARGEST_MESSAGE + 1, False)]
)
def test_small_messages_and_enormous_ones_are_sent_as_they_are(size: int, compressed: bool) -> None:
    """The former gain nothing, the latter would hold up the loop."""
    assert parts(framing().pack([Message(b"a" * size)])) == [(compressed, TEXT, b"a" * size)]


def test_a_message_that_would_grow_is_sent_as_it_is() -> None:
    """Also an empty one, and pings of a protocol; whatever `min_size` is."""
    for data in (bytes(range(256)), b"", b"{}"):
        assert parts(framing(min_size=1).pack([Message(data)])) == [(False, TEXT, data)]


def test_a_higher_level_counts_as_more_writes() -> None:
    """It takes longer, and a fan-out that takes long waits for the next turn of the loop."""
    per_write = [CompressedFraming(CompressionSettings(level=level), 15).bytes_per_write for level in range(1, 7)]
    assert per_write == sorted(per_write, reverse=True)
    assert per_write[-1] < per_write[0] / 4


@pytest.mark.parametrize("window", [9, 15])
@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.just(JSON), st.text(max_size=500).map(str.encode)), st.booleans()), max_size=5))
def test_websockets_reads_what_is_packed(window: int, messages: list[tuple[bytes, bool]]) -> None:
    """Its own side of the extension, with what was agreed on."""
    theirs = PerMessageDeflate(True, True, window, 15)
    packed = framing(min_size=1, window=window).pack([Message(data, binary) for data, binary in messages])
    # `unframe` drops the bit that `parts` has.
    flags = [compressed for compressed, _, _ in parts(packed)]
    for (data, binary), (opcode, payload), compressed in zip(messages, unframe(packed), flags, strict=True):
        assert opcode == (BINARY if binary else TEXT)
        assert theirs.decode(Frame(Opcode(opcode), payload, rsv1=compressed)).data == data


# Receiving


def parse(*pieces: bytes, limit: int = LIMIT) -> Events:
    """All events of a stream with the extension; an error is the last of them."""
    events = Events()
    parser = FrameParser(limit, 8, deflate=True)
    try:
        for piece in pieces:
            while parser.feed(piece, events):
                piece = b""
    except Exception as error:
        events.append(("error", error.code, error.reason))  # type: ignore[attr-defined]  # others fail the test
    return events


def compressed(opcode: int, data: bytes, *cuts: int) -> bytes:
    """A compressed message, in fragments."""
    packed = deflate(data)
    edges = [0, *cuts, len(packed)]
    last = len(edges) - 2
    return b"".join(
        client_frame(
            CONTINUATION if index else opcode,
            packed[edges[index] : edges[index + 1]],
            fin=index == last,
            rsv=0 if index else COMPRESSED,
        )
        for index in range(len(edges) - 1)
    )


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 1_000, LIMIT])
def test_compressed_messages_arrive(opcode: int, size: int) -> None:
    """Whole, octet by octet, and beside ones that are not compressed."""
    stream = compressed(opcode, b"x" * size) + client_frame(TEXT, b"plain") + compressed(opcode, b"y" * size)
    expected = [(opcode, b"x" * size), (TEXT, b"plain"), (opcode, b"y" * size)]
    assert parse(stream) == expected
    assert parse(*one_by_one(stream)) == expected


def test_fragments_of_a_compressed_message_with_control_frames_between() -> None:
    """6.1: only the first has the bit; empty fragments, too."""
    packed = deflate(JSON)
    stream = (
        client_frame(TEXT, b"", fin=False, rsv=COMPRESSED)
        + client_frame(PING, b"p")
        + client_frame(CONTINUATION, packed[:7], fin=False)
        + client_frame(PONG)
        + client_frame(CONTINUATION, packed[7:], fin=False)
        + client_frame(CONTINUATION, b"")
    )
    expected = [(PING, b"p"), (PONG,), (TEXT, JSON)]
    assert parse(stream) == expected
    assert parse(*one_by_one(stream)) == expected


@pytest.mark.parametrize(
    ("stream", "code", "reason"),
    [
        (client_frame(PING, b"a", rsv=COMPRESSED), 1002, "reserved bit"),
        (client_frame(PONG, b"a", rsv=COMPRESSED), 1002, "reserved bit"),
        (client_frame(0x8, b"", rsv=COMPRESSED), 1002, "reserved bit"),
        (client_frame(0x3, b"", rsv=COMPRESSED), 1002, "reserved bit"),
        (client_frame(TEXT, b"a", rsv=0x20), 1002, "reserved bit"),
        (client_frame(TEXT, b"a", rsv=0x60), 1002, "reserved bit"),
        (client_frame(BINARY, b"a", rsv=0x10), 1002, "reserved bit"),
        (client_frame(CONTINUATION, b"a", rsv=COMPRESSED), 1002, "reserved bit"),
        (
            client_frame(TEXT, b"a", fin=False, rsv=COMPRESSED) + client_frame(CONTINUATION, b"a", rsv=COMPRESSED),
            1002,
            "reserved bit",
        ),
        (
            client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"a", rsv=COMPRESSED),
            1002,
            "expected continuation frame",
        ),
        (client_frame(TEXT, b"", rsv=COMPRESSED), 1007, "invalid compressed data"),
        (client_frame(BINARY, b"\xff\xff", rsv=COMPRESSED), 1007, "invalid compressed data"),
        (client_frame(BINARY, deflate(JSON)[:-3], rsv=COMPRESSED), 1007, "invalid compressed data"),
        (compressed(TEXT, b"\xff"), 1007, "invalid UTF-8"),
        (compressed(TEXT, "ü".encode()[:1]), 1007, "invalid UTF-8"),
        (compressed(TEXT, b"a" * 500 + b"\xed\xa0\x80", 3), 1007, "invalid UTF-8"),
        (compressed(BINARY, b"a" * (LIMIT + 1)), 1009, "message too big"),
        (compressed(TEXT, b"a" * (LIMIT + 1), 10, 20), 1009, "message too big"),
        (compressed(BINARY, b"\x00" * (64 << 20)), 1009, "message too big"),
    ],
)
def test_violations(stream: bytes, code: int, reason: str) -> None:
    """However the stream is cut."""
    assert parse(stream) == [("error", code, reason)]
    assert parse(*one_by_one(stream)) == [("error", code, reason)]


def test_the_declared_size_is_bounded_too() -> None:
    """A compressed message larger than noise becomes is refused before it arrives; one that is not, by its limit."""
    noise = client_frame(BINARY, b"x" * (deflated_bound(LIMIT) + 1), rsv=COMPRESSED)
    assert parse(noise[:14]) == [("error", 1009, "message too big")]
    assert parse(client_frame(BINARY, b"x" * (LIMIT + 1))[:14]) == [("error", 1009, "message too big")]


@pytest.mark.parametrize("memory", [1, 8, 9])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED])
@pytest.mark.parametrize("size", [0, 1, 100, LIMIT, LIMIT + 1])
def test_noise_may_be_as_large_as_anything_else(memory: int, strategy: int, size: int) -> None:
    """It grows when it is compressed, as browsers do with every message: the limit is that of what it says."""
    noise = random.Random(size).randbytes(size)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -9, memory, strategy)
    packed = (compressor.compress(noise) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4] or b"\0"
    expected: list[tuple[object, ...]] = [(BINARY, noise)] if size <= LIMIT else [("error", 1009, "message too big")]
    whole = client_frame(BINARY, packed, rsv=COMPRESSED)
    halves = client_frame(BINARY, packed[:50], fin=False, rsv=COMPRESSED) + client_frame(CONTINUATION, packed[50:])
    assert [parse(whole), parse(halves)] == [expected] * 2


def test_without_the_extension_the_bit_is_an_error() -> None:
    """As before."""
    with pytest.raises(Exception, match="reserved bit"):
        FrameParser(LIMIT, 8).feed(compressed(TEXT, b"hello"), Events())


def test_nothing_of_zlib_is_held_between_frames() -> None:
    """An inflater takes 40 KiB."""
    parser = FrameParser(LIMIT, 8, deflate=True)
    for piece in one_by_one(compressed(TEXT, JSON, 5) + compressed(TEXT, JSON, 5)[:20]):
        parser.feed(piece, Events())
        held = [getattr(parser, name) for name in parser.__slots__]
        held += [getattr(each, name) for each in held for name in getattr(each, "__slots__", ())]
        assert not [each for each in held if type(each).__module__ == "zlib"]


def test_a_read_full_of_bombs_is_inflated_in_turns() -> None:
    """Each gives as much as is allowed, of which one turn of the loop takes no more than it must."""
    events = Events()
    parser = FrameParser(LIMIT, 8, deflate=True)
    more = parser.feed(compressed(BINARY, b"x" * LIMIT) * 20, events)
    for count in range(1, 21):
        assert len(events) == count
        assert more == (count < 20)
        assert parser.inflated == LIMIT
        parser.inflated = 0
        more = parser.feed(b"", events)


texts = st.one_of(st.just(JSON), st.text(max_size=300).map(str.encode), st.binary(max_size=300))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(data=texts, binary=st.booleans(), places=st.lists(st.integers(0, 400), max_size=6), level=st.integers(1, 9))
def test_what_websockets_sends_arrives(data: bytes, binary: bool, places: list[int], level: int) -> None:
    """In fragments that it compresses itself, each with its own end of a block."""
    theirs = PerMessageDeflate(True, True, 15, 15, {"level": level})
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    opcode, stream = BINARY if binary else TEXT, b""
    for index, (start, end) in enumerate(pairwise(edges)):
        fin = index == len(edges) - 2
        sent = theirs.encode(Frame(Opcode(CONTINUATION if index else opcode), data[start:end], fin=fin))
        stream += client_frame(int(sent.opcode), bytes(sent.data), fin=fin, rsv=COMPRESSED if sent.rsv1 else 0)
    got = parse(stream)
    try:
        assert binary or data.decode() is not None
    except UnicodeDecodeError:
        assert got == [("error", 1007, "invalid UTF-8")]
    else:
        assert got == [(opcode, data)]
    assert parse(*one_by_one(stream)) == got


@settings(derandomize=True, max_examples=300, deadline=None)
@given(data=st.binary(max_size=300), opcode=st.sampled_from([TEXT, BINARY]))
def test_arbitrary_compressed_data_raises_nothing_but_frame_errors(data: bytes, opcode: int) -> None:
    """And the same one however it is cut."""
    stream = client_frame(opcode, data, rsv=COMPRESSED)
    assert parse(stream, limit=1_000) == parse(*one_by_one(stream), limit=1_000)
