"""Messages in DEFLATE (RFC 7692 section 7.2), each by itself: nothing of one is needed to read another."""

import zlib

# The end of a flushed block, which is left out on the wire (7.2.1).
_TAIL = b"\x00\x00\xff\xff"
# An empty last block behind it: zlib reaches it only if the message ended between two blocks, so was not cut off.
_END = _TAIL + b"\x03\x00"
# Streams in one message: a block with BFINAL ends one (7.2.3.4). Each costs an inflater, and a copy of what follows.
MOST_STREAMS = 8
# Of raw DEFLATE: 32 KiB. An inflater of this size reads what was written with a smaller one.
LARGEST_WINDOW = 15
# 512 bytes. zlib writes no raw DEFLATE with 256.
SMALLEST_WINDOW = 9
# zlib's default, 8, makes the smallest window three times as slow: its table of hashes is moved with the window.
_MEMORY = {LARGEST_WINDOW: 8, SMALLEST_WINDOW: 4}


class InflateError(ValueError):
    """Not DEFLATE, or cut off."""


class InflatedTooBig(InflateError):
    """More bytes than are allowed come out of it."""


def inflate(data: bytes | bytearray, limit: int) -> bytes:
    """The payload of a message of at most `limit` bytes. Never more than one byte more is made of it.

    The inflater is gone when this returns: 40 KiB per idle connection otherwise.
    """
    message = b""
    rest: bytes | bytearray = data + _END
    for _ in range(MOST_STREAMS):
        inflater = zlib.decompressobj(-LARGEST_WINDOW)
        try:
            message += inflater.decompress(rest, limit + 1 - len(message))
        except zlib.error:
            raise InflateError from None
        if len(message) > limit:
            raise InflatedTooBig
        if not inflater.eof:
            break
        rest = inflater.unused_data
        # A last block may have nothing behind it, not even the empty one that 7.2.1 asks for.
        if rest in (b"", _END):
            return message
    raise InflateError


def deflated_bound(size: int) -> int:
    """The most bytes that a message of `size` bytes takes: noise grows.

    With the smallest of zlib's buffers (memLevel 1, which browsers and servers choose to save memory) a block holds 123
    bytes, and each has five more.
    """
    return size + size // 16 + 64


class Deflater:
    """Compresses for all connections with this window: a new one for each message would take twice the time."""

    __slots__ = ("_level", "_window", "_zlib")

    def __init__(self, level: int, window: int) -> None:
        """`level` 1 to 9; `window` one of the two above."""
        self._level = level
        self._window = window
        self._zlib = self._new()

    def deflate(self, data: bytes) -> bytes:
        """The payload of a compressed message."""
        try:
            # A full flush also forgets what was seen, so that the next message refers to nothing in this one.
            packed = self._zlib.compress(data) + self._zlib.flush(zlib.Z_FULL_FLUSH)
        except BaseException:
            # The next message must not begin with the rest of this one.
            self._zlib = self._new()
            raise
        return packed[: -len(_TAIL)]

    def _new(self) -> "zlib._Compress":
        return zlib.compressobj(self._level, zlib.DEFLATED, -self._window, _MEMORY[self._window])
