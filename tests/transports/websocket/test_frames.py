"""The frame parser and builder (RFC 6455 section 5)."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.speedups import apply_mask

from gateway.protocols.wire_protocol import Message
from gateway.transports.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_STATUS,
    PING,
    PING_FRAME,
    PONG,
    TEXT,
    FrameError,
    FrameParser,
    close_frame,
    frame,
    pong_frame,
    unframe,
)

LIMIT = 70_000
FRAGMENTS = 8
MASK = b"\x01\x80\xff\x5a"


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A frame as clients send it."""
    length = len(payload)
    if length < 126:
        head = bytes([length | 0x80])
    elif length < 65_536:
        head = bytes([126 | 0x80]) + length.to_bytes(2, "big")
    else:
        head = bytes([127 | 0x80]) + length.to_bytes(8, "big")
    masked: bytes = apply_mask(payload, MASK)
    return bytes([(0x80 if fin else 0) | rsv | opcode]) + head + MASK + masked


class Events(list[tuple[Any, ...]]):
    """A Sink that writes down."""

    @property
    def receiver(self) -> "Events":
        return self

    def received(self, data: bytes, *, binary: bool) -> None:
        assert type(data) is bytes
        self.append((BINARY if binary else TEXT, data))

    def ping_received(self, data: bytes) -> None:
        self.append((PING, data))

    def pong_received(self) -> None:
        self.append((PONG,))

    def close_received(self, code: int, reason: str) -> None:
        self.append((CLOSE, code, reason))


def parse(*pieces: bytes, limit: int = LIMIT) -> Events:
    """All events of a stream; a FrameError is the last of them."""
    events = Events()
    parser = FrameParser(limit, FRAGMENTS)
    try:
        for piece in pieces:
            parser.feed(piece, events)
    except FrameError as error:
        events.append(("error", error.code, error.reason))
    return events


def one_by_one(stream: bytes) -> Iterator[bytes]:
    return (stream[index : index + 1] for index in range(len(stream)))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, LIMIT])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_messages_of_every_length_form_arrive(opcode: int, size: int) -> None:
    """7, 16 and 64 bit lengths, at their borders."""
    assert parse(client_frame(opcode, b"x" * size)) == [(opcode, b"x" * size)]


def test_fragments_make_one_message_with_control_frames_between() -> None:
    """5.4: control frames may stand between fragments and do not disturb them."""
    stream = (
        client_frame(TEXT, b"Hel", fin=False)
        + client_frame(PING, b"p")
        + client_frame(CONTINUATION, b"", fin=False)
        + client_frame(PONG)
        + client_frame(CONTINUATION, b"lo")
        + client_frame(BINARY, b"next")
    )
    expected = [(PING, b"p"), (PONG,), (TEXT, b"Hello"), (BINARY, b"next")]
    assert parse(stream) == expected
    assert parse(*one_by_one(stream)) == expected


@pytest.mark.parametrize(
    ("stream", "code", "reason"),
    [
        (client_frame(TEXT, b"a", rsv=0x40), 1002, "reserved bit"),
        (client_frame(TEXT, b"a", rsv=0x20), 1002, "reserved bit"),
        (client_frame(PING, b"a", rsv=0x10), 1002, "reserved bit"),
        (client_frame(0x3, b"a"), 1002, "reserved opcode"),
        (client_frame(0x7, b"a", fin=False), 1002, "reserved opcode"),
        (client_frame(0xB), 1002, "reserved opcode"),
        (client_frame(0xF), 1002, "reserved opcode"),
        (frame([Message(b"a")]), 1002, "unmasked frame"),
        (b"\x81\x00", 1002, "unmasked frame"),
        (client_frame(PING, fin=False), 1002, "fragmented control frame"),
        (client_frame(CLOSE, fin=False), 1002, "fragmented control frame"),
        (client_frame(PING, b"x" * 126), 1002, "long control frame"),
        (client_frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002, "long control frame"),
        (client_frame(CONTINUATION, b"a"), 1002, "expected text or binary frame"),
        (client_frame(CONTINUATION, b"a", fin=False), 1002, "expected text or binary frame"),
        (client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"), 1002, "expected continuation frame"),
        (client_frame(TEXT, b"a", fin=False) + client_frame(BINARY, b"b"), 1002, "expected continuation frame"),
        # 5.2: the shortest form of a length counts, and the highest of 64 bits is zero
        (b"\x82\xfe\x00\x7d" + MASK + b"x" * 125, 1002, "wrong length"),
        (b"\x82\xff" + (65_535).to_bytes(8, "big") + MASK, 1002, "wrong length"),
        (b"\x82\xff" + (1 << 63).to_bytes(8, "big") + MASK, 1002, "wrong length"),
        (client_frame(TEXT, b"\xff"), 1007, "invalid UTF-8"),
        (client_frame(TEXT, b"\xed\xa0\x80"), 1007, "invalid UTF-8"),
        (client_frame(TEXT, b"abc\xe2\x82"), 1007, "invalid UTF-8"),
        (client_frame(TEXT, b"\xff" * 200), 1007, "invalid UTF-8"),
        (client_frame(TEXT, b"\xe2", fin=False) + client_frame(CONTINUATION, b"\x82"), 1007, "invalid UTF-8"),
        (client_frame(CLOSE, b"\x03"), 1002, "wrong close code"),
        (client_frame(CLOSE, b"\x03\xe8\xff"), 1007, "invalid UTF-8"),
        *[
            (client_frame(CLOSE, code.to_bytes(2, "big")), 1002, "wrong close code")
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
        ],
    ],
)
def test_violations_end_the_stream_with_the_code_of_the_rfc(stream: bytes, code: int, reason: str) -> None:
    """Whether the stream comes at once or byte by byte."""
    assert parse(stream)[-1] == ("error", code, reason)
    assert parse(*one_by_one(stream))[-1] == ("error", code, reason)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 4999])
def test_close_frames_name_code_and_reason(code: int) -> None:
    """Codes of the RFC, of libraries and of applications; nothing behind the frame is looked at."""
    stream = client_frame(CLOSE, code.to_bytes(2, "big") + "tschüß".encode()) + b"\xff garbage"
    assert parse(stream) == [(CLOSE, code, "tschüß")]
    assert parse(*one_by_one(stream)) == [(CLOSE, code, "tschüß")]


def test_a_close_frame_may_be_empty() -> None:
    """5.5.1: no code is reported as 1005."""
    assert parse(client_frame(CLOSE)) == [(CLOSE, NO_STATUS, "")]


def test_the_declared_length_is_refused_before_the_payload_comes() -> None:
    """A few bytes of header decide; nothing is waited for or allocated."""
    head = b"\x82\xff" + (1 << 62).to_bytes(8, "big")
    assert parse(head) == [("error", 1009, "message too big")]
    assert parse(client_frame(BINARY, b"x" * 11), limit=10) == [("error", 1009, "message too big")]
    assert parse(client_frame(TEXT, b"x" * 126)[:4], limit=10) == [("error", 1009, "message too big")]


def test_fragments_add_up_to_the_size_limit() -> None:
    """Each fragment is small enough, the message is not."""
    stream = client_frame(BINARY, b"x" * 6, fin=False) + client_frame(CONTINUATION, b"x" * 5)
    assert parse(stream, limit=10) == [("error", 1009, "message too big")]
    assert parse(stream, limit=11) == [(BINARY, b"x" * 11)]


def test_empty_continuations_are_counted() -> None:
    """A message of endless empty fragments ends at the limit of fragments."""
    empty = client_frame(CONTINUATION, b"", fin=False)
    fine = client_frame(TEXT, b"", fin=False) + empty * (FRAGMENTS - 2) + client_frame(CONTINUATION)
    assert parse(fine) == [(TEXT, b"")]
    endless = client_frame(TEXT, b"", fin=False) + empty * 1000
    assert parse(endless) == [("error", 1008, "too many fragments")]
    assert parse(*one_by_one(endless)) == [("error", 1008, "too many fragments")]


def test_bad_text_fails_before_its_message_is_complete() -> None:
    """8.1: at the first wrong byte, in a fragment or in the middle of a frame (Autobahn 6.4)."""
    start = "κόσμε".encode()
    assert parse(client_frame(TEXT, start + b"\xf4\x90", fin=False))[-1][1] == 1007
    stream = client_frame(TEXT, start + b"\xf4\x90\x80\x80edited")
    position = 6 + len(start)
    assert parse(stream[: position + 1]) == []
    assert parse(stream[: position + 2])[-1][1] == 1007
    assert parse(stream[:position], stream[position : position + 2])[-1][1] == 1007


def test_text_may_be_split_inside_a_character() -> None:
    """Between fragments and between reads."""
    text = "€uro 𝄞".encode()
    stream = client_frame(TEXT, text[:2], fin=False) + client_frame(CONTINUATION, text[2:])
    assert parse(stream) == parse(*one_by_one(stream)) == [(TEXT, text)]


def test_a_paused_parser_keeps_the_rest() -> None:
    """Nothing is delivered after the message during which it was paused, and nothing is lost."""

    class Pausing(Events):
        def received(self, data: bytes, *, binary: bool) -> None:
            super().received(data, binary=binary)
            parser.paused = True

    events = Pausing()
    parser = FrameParser(LIMIT, FRAGMENTS)
    parser.feed(client_frame(TEXT, b"1") + client_frame(TEXT, b"2") + client_frame(TEXT, b"3")[:3], events)
    assert events == [(TEXT, b"1")]
    parser.feed(client_frame(TEXT, b"3")[3:], events)
    assert events == [(TEXT, b"1")]
    parser.paused = False
    parser.feed(b"", events)
    assert events == [(TEXT, b"1"), (TEXT, b"2")]
    parser.paused = False
    parser.feed(b"", events)
    assert events == [(TEXT, b"1"), (TEXT, b"2"), (TEXT, b"3")]


def test_nothing_is_held_between_messages() -> None:
    """What an idle connection costs is the parser alone."""
    parser = FrameParser(LIMIT, FRAGMENTS)
    for piece in one_by_one(client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, b"b" * 200)):
        parser.feed(piece, Events())
    held = [getattr(parser, name) for name in parser.__slots__]
    assert [each for each in held if isinstance(each, bytes | bytearray) and each] == []
    assert held.count(None) == 2


frames_of_clients = st.one_of(
    st.tuples(st.just(BINARY), st.binary(max_size=300)),
    st.tuples(st.just(TEXT), st.text(max_size=100).map(str.encode)),
    st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Valid streams: messages in up to five fragments, control frames between them, a close frame or none."""
    stream = b""
    for opcode, payload in draw(st.lists(frames_of_clients, max_size=6)):
        cuts = draw(st.lists(st.integers(0, len(payload)), max_size=4)) if opcode in (TEXT, BINARY) else []
        edges = [0, *sorted(cuts), len(payload)]
        for number, (start, end) in enumerate(pairwise(edges)):
            last = number == len(edges) - 2
            stream += client_frame(opcode if number == 0 else CONTINUATION, payload[start:end], fin=last)
            if not last and draw(st.booleans()):
                stream += client_frame(PING, b"between")
    if draw(st.booleans()):
        stream += client_frame(CLOSE, b"\x03\xe8bye")
    return stream


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(stream=streams(), places=st.lists(st.integers(0, 10_000), max_size=10))
def test_any_split_of_a_valid_stream_gives_the_same_events(stream: bytes, places: list[int]) -> None:
    """TCP cuts the stream where it likes."""
    whole = parse(stream)
    assert not whole or whole[-1][0] != "error"
    assert parse(*cut(stream, places)) == whole
    assert parse(*one_by_one(stream)) == whole


@settings(derandomize=True, max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), places=st.lists(st.integers(0, 400), max_size=4), head=st.booleans())
def test_arbitrary_bytes_raise_nothing_but_frame_errors(data: bytes, places: list[int], head: bool) -> None:
    """And the same one however the bytes are cut, behind a plausible header too."""
    stream = client_frame(TEXT, b"fine") + bytes([0x81, 0x80 | 90]) * head + data
    pieces = parse(*cut(stream, places))
    assert pieces == parse(*one_by_one(stream))
    assert all(isinstance(event, tuple) for event in pieces)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=70_000), st.booleans()), max_size=4))
def test_frames_of_the_server_can_be_taken_apart_again(messages: list[tuple[bytes, bool]]) -> None:
    """`unframe` is the opposite of `frame`."""
    built = frame([Message(data, binary) for data, binary in messages])
    assert list(unframe(built)) == [(BINARY if binary else TEXT, data) for data, binary in messages]


def test_control_frames_of_the_server() -> None:
    """Pings, pongs and close frames as the RFC writes them."""
    assert PING_FRAME == b"\x89\x00"
    assert pong_frame(b"abc") == b"\x8a\x03abc"
    assert close_frame(1000) == b"\x88\x02\x03\xe8"
    assert close_frame(NO_STATUS) == b"\x88\x00"
    assert close_frame(3500, "invalid token") == b"\x88\x0f\x0d\xacinvalid token"


def test_a_long_reason_is_cut_between_characters() -> None:
    """5.5: a control frame holds 125 bytes at most, and a reason is valid UTF-8."""
    ((opcode, payload),) = unframe(close_frame(3000, "ü" * 100))
    assert opcode == CLOSE
    assert len(payload) == 2 + 122
    assert payload[2:].decode() == "ü" * 61


def test_frames_are_parsed_without_the_compiled_mask() -> None:
    """The C extension of `websockets` is optional; the same code in Python takes its place."""
    code = """
import sys
sys.modules["websockets.speedups"] = None
from gateway.transports.websocket.frames import FrameParser, apply_mask
assert apply_mask.__module__ == "websockets.utils", apply_mask.__module__
assert apply_mask(bytearray(b"abcdefg"), bytearray(b"1234")) == bytes(a ^ b for a, b in zip(b"abcdefg", b"12341234"))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
