"""Messages in DEFLATE (RFC 7692 section 7.2): what is read, what is refused, and at what cost."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.websocket.deflate import (
    LARGEST_WINDOW,
    MOST_STREAMS,
    SMALLEST_WINDOW,
    Deflater,
    InflatedTooBig,
    InflateError,
    inflate,
)

TAIL = b"\x00\x00\xff\xff"
# Examples of 7.2.3.
HELLO = bytes.fromhex("f248cdc9c90700")
STORED = bytes.fromhex("000500faff48656c6c6f00")
FINAL = bytes.fromhex("f348cdc9c9070000")
TWO_BLOCKS = bytes.fromhex("f24805000000ffffcac9c90700")


def deflate(data: bytes, level: int = 6, window: int = 15) -> bytes:
    """As zlib's own users do it."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -window)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def final(data: bytes) -> bytes:
    """In blocks of which the last has BFINAL."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("data", [HELLO, STORED, FINAL, TWO_BLOCKS], ids=["fixed", "stored", "final", "two blocks"])
def test_the_examples_of_the_specification(data: bytes) -> None:
    """7.2.3.1 to 7.2.3.5."""
    assert inflate(data, 100) == b"Hello"


def test_an_empty_message_is_one_zero() -> None:
    """7.2.3.6; and nothing at all is no message."""
    assert inflate(b"\x00", 0) == b""
    with pytest.raises(InflateError):
        inflate(b"", 100)


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_no_more_is_inflated_than_is_allowed(limit: int) -> None:
    """One byte over the limit is too much."""
    assert inflate(HELLO, 5) == b"Hello"
    with pytest.raises(InflatedTooBig):
        inflate(HELLO, limit)


@pytest.mark.parametrize("streams", [1, 2, MOST_STREAMS])
def test_a_bomb_of_many_streams_has_one_limit(streams: int) -> None:
    """And not one for each of them."""
    message = final(b"x" * 1_000) * streams
    assert inflate(message, streams * 1_000) == b"x" * 1_000 * streams
    with pytest.raises(InflatedTooBig):
        inflate(message, streams * 1_000 - 1)


def test_a_bomb_never_fills_the_memory() -> None:
    """64 MiB in 64 KiB: what comes out is never held."""
    sizes = []

    class Counted:
        def __init__(self, inner: object) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def decompress(self, data: bytes, most: int) -> bytes:
            out: bytes = self._inner.decompress(data, most)  # type: ignore[attr-defined]  # of zlib
            sizes.append(len(out))
            return out

    bomb = deflate(b"\x00" * (64 << 20))
    with pytest.MonkeyPatch.context() as patch:
        original = zlib.decompressobj
        patch.setattr(zlib, "decompressobj", lambda *args: Counted(original(*args)))
        with pytest.raises(InflatedTooBig):
            inflate(bomb, 1_000)
    assert sizes == [1_001]


def test_thousands_of_empty_streams_are_refused() -> None:
    """Each costs an inflater, and a copy of all that follows: 160,000 fit into a message."""
    empty = final(b"")
    assert inflate(empty * (MOST_STREAMS - 1) + b"\x00", 0) == b""
    with pytest.raises(InflateError):
        inflate(empty * 160_000, 100)


def test_an_end_of_stream_may_be_in_the_middle_and_at_the_end() -> None:
    """7.2.3.4, also where the sender left out the empty block behind it."""
    assert inflate(final(b"one") + deflate(b"two"), 100) == b"onetwo"
    assert inflate(final(b"one") + final(b"two") + b"\x00", 100) == b"onetwo"
    assert inflate(final(b"one") + final(b"two"), 100) == b"onetwo"


@pytest.mark.parametrize(("level", "ends"), [(0, [1, 1025]), (1, []), (9, [])])
def test_cut_off_data_is_refused(level: int, ends: list[int]) -> None:
    """Wherever it is cut, except where what 7.2.2 has one append ends a block that stores bytes as they are."""
    data = deflate(bytes(range(256)) * 4, level)
    accepted = []
    for size in range(len(data)):
        with suppress(InflateError):
            inflate(data[:size], 10_000)
            accepted.append(size)
    assert accepted == ends


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\x07", b"\x06", HELLO + b"\xff\xff", b"\x00\x01\x00\x00\x00"])
def test_garbage_is_refused(data: bytes) -> None:
    """Block types that do not exist, lengths that contradict themselves."""
    with pytest.raises(InflateError):
        inflate(data, 100)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(data=st.binary(max_size=200), limit=st.integers(0, 300))
def test_arbitrary_bytes_raise_nothing_else(data: bytes, limit: int) -> None:
    """And give no more than the limit."""
    with suppress(InflateError):
        assert len(inflate(data, limit)) <= limit


texts = st.one_of(st.binary(max_size=3_000), st.text(alphabet="ab {}", max_size=3_000).map(str.encode))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(data=texts, level=st.integers(0, 9), window=st.integers(9, 15))
def test_what_others_deflate_is_inflated(data: bytes, level: int, window: int) -> None:
    """With any level and window."""
    assert inflate(deflate(data, level, window), len(data)) == data


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    messages=st.lists(texts, max_size=6),
    level=st.integers(1, 9),
    window=st.sampled_from([SMALLEST_WINDOW, LARGEST_WINDOW]),
)
def test_each_message_can_be_read_by_itself(messages: list[bytes], level: int, window: int) -> None:
    """7.1.1.1: nothing refers to a message before it, in a window as small as was agreed."""
    deflater = Deflater(level, window)
    for message in messages:
        inflater = zlib.decompressobj(-window)
        assert inflater.decompress(deflater.deflate(message) + TAIL) == message
        assert not inflater.eof


def test_a_message_that_failed_is_not_part_of_the_next() -> None:
    """It may be for other subscribers."""

    class Failing:
        def __init__(self, inner: "zlib._Compress") -> None:
            self._inner = inner

        def compress(self, data: bytes) -> bytes:
            return self._inner.compress(data)

        def flush(self, mode: int) -> bytes:
            raise MemoryError

    deflater = Deflater(1, LARGEST_WINDOW)
    deflater._zlib = Failing(deflater._zlib)  # type: ignore[assignment]  # all that it needs
    with pytest.raises(MemoryError):
        deflater.deflate(b"secret")
    assert inflate(deflater.deflate(b"other"), 100) == b"other"
