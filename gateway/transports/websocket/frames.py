"""WebSocket frames (RFC 6455 section 5), server side, without I/O: parses client frames, builds ours.

The only extension is permessage-deflate (RFC 7692): where it is not agreed on, every reserved bit is an error.
"""

import codecs
from collections.abc import Iterator, Sequence
from typing import Protocol

from gateway.errors import CloseCode, GatewayError
from gateway.protocols.wire_protocol import Message
from gateway.transports.websocket.deflate import InflatedTooBig, InflateError, deflated_bound, inflate

try:
    from websockets.speedups import apply_mask
except ImportError:
    # The C extension is optional there: it is missing on PyPy, and where nothing could be compiled.
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# Close codes of RFC 6455 section 7.4.1 that the transport itself uses.
NO_STATUS = 1005
PROTOCOL_ERROR = 1002
INVALID_DATA = 1007
POLICY_VIOLATION = 1008
TOO_BIG = 1009

# Frames parsed in one turn of the loop: the smallest costs 2 us, a publish 20 us, so a turn lasts up to 3 ms. One read
# of a socket may hold 40,000 frames.
TURN_FRAMES = 128
# The same for bytes of compressed messages, once inflated: 0.3 ms. One read may hold gigabytes of them.
TURN_INFLATED = 65_536

# RSV1 of the first frame of a message (RFC 7692 section 6).
COMPRESSED = 0x40

_FIN = 0x80
_MASKED = 0x80
_CONTROL = 0x08
_OPCODES = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
_MESSAGES = (_FIN | TEXT, _FIN | BINARY)
# No reserved bit, a known opcode, and no fragmented control frames (5.5).
_FIRST_BYTES = frozenset([_FIN | opcode for opcode in _OPCODES] + [CONTINUATION, TEXT, BINARY])
_ALSO_COMPRESSED = _FIRST_BYTES | {fin | COMPRESSED | opcode for fin in (0, _FIN) for opcode in (TEXT, BINARY)}
# 7.4: codes that a peer may send. 1004-1006 and 1015 are never on the wire, 1016-2999 are not assigned.
_CLOSE_CODES = frozenset([*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)])

_new_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class FrameError(GatewayError):
    """The peer broke the protocol: the connection is closed with `code`. `reason` is one of a small fixed set."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Receiver(Protocol):
    """Receives messages."""

    def received(self, data: bytes, *, binary: bool) -> None:
        """A complete message. Text is valid UTF-8."""


class Sink(Protocol):
    """Receives the frames that a parser finds, in stream order."""

    @property
    def receiver(self) -> Receiver:
        """Gets complete messages. Read again for each message, since any message may change it."""

    def ping_received(self, data: bytes) -> None:
        """A ping with its application data."""

    def pong_received(self) -> None:
        """A pong."""

    def close_received(self, code: int, reason: str) -> None:
        """The peer's close frame, NO_STATUS when it names no code. Nothing comes after it."""


class _Unfinished:
    """An incomplete message. Text is checked as it arrives, so that invalid UTF-8 fails at once (8.1).

    Compressed text is checked when it is complete: only then is it inflated.
    """

    __slots__ = ("binary", "compressed", "data", "decoder", "fragments")

    def __init__(self, first: int) -> None:
        self.binary = first & 0x0F == BINARY
        self.compressed = bool(first & COMPRESSED)
        self.data = bytearray()
        self.decoder = None if self.binary or self.compressed else _new_utf8_decoder()
        self.fragments = 0

    def add(self, data: bytes, *, final: bool) -> None:
        self.data += data
        if self.decoder is not None:
            try:
                self.decoder.decode(data, final)
            except UnicodeDecodeError:
                raise FrameError(INVALID_DATA, "invalid UTF-8") from None

    def inflated(self, limit: int) -> bytes:
        """What the complete, compressed message says, in at most `limit` bytes."""
        try:
            data = inflate(self.data, limit)
        except InflatedTooBig:
            raise FrameError(TOO_BIG, "message too big") from None
        except InflateError:
            raise FrameError(INVALID_DATA, "invalid compressed data") from None
        if not self.binary:
            _check_text(data)
        return data


class _PartialFrame:
    """A frame whose payload has not fully arrived."""

    __slots__ = ("data", "first", "mask", "missing")

    def __init__(self, first: int, mask: bytes, missing: int) -> None:
        self.first = first
        self.mask = mask
        self.missing = missing
        # Used for control frames only; payloads of data frames go to the message.
        self.data = b""

    def unmask(self, data: bytes) -> bytes:
        """The next bytes of the payload."""
        plain: bytes = apply_mask(data, self.mask)
        turn = len(data) % 4
        self.mask = self.mask[turn:] + self.mask[:turn]
        self.missing -= len(data)
        return plain


class FrameParser:
    """Parses a client's stream in pieces of any size. Holds nothing between frames.

    `paused` stops it after the current message; the rest of the stream waits for the next `feed`.
    """

    __slots__ = (
        "_finished",
        "_first_bytes",
        "_fragments",
        "_frame",
        "_limit",
        "_message",
        "_rest",
        "inflated",
        "paused",
    )

    def __init__(self, limit: int, fragments: int, early: bytes = b"", *, deflate: bool = False) -> None:
        """`limit`: most bytes of a message, also once inflated. `fragments`: most frames of one, including empty ones.

        `early` is the start of the stream, parsed with the first `feed`. `deflate`: permessage-deflate is agreed on.
        """
        self._first_bytes = _ALSO_COMPRESSED if deflate else _FIRST_BYTES
        # Bytes that came out of compressed messages. For the caller, who may set it to 0.
        self.inflated = 0
        self._limit = limit
        self._fragments = fragments
        self._rest = early
        self._frame: _PartialFrame | None = None
        self._message: _Unfinished | None = None
        self._finished = False
        self.paused = False

    @property
    def kept(self) -> int:
        """Bytes held: of an incomplete message, and unparsed ones."""
        return len(self._rest) + (len(self._message.data) if self._message is not None else 0)

    def feed(self, data: bytes, sink: Sink) -> bool:
        """Parse, and call `sink` for everything complete. Raises FrameError, after which the parser is unusable.

        Returns True after TURN_FRAMES, or once `inflated` is TURN_INFLATED: the rest waits for a `feed` in another
        turn. `sink` is passed each time, since holding a reference would make a cycle in every connection.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position, end, frames = 0, len(data), TURN_FRAMES
        while position < end and frames and not self.paused and not self._finished:
            frames -= 1
            if self._frame is not None:
                position = self._go_on(self._frame, data, position, sink)
            else:
                start = self._quick(data, position, sink) or self._begin(data, position, sink)
                if start == position:
                    break
                position = start
            if self.inflated >= TURN_INFLATED:
                frames = 0
        if position < end and not self._finished:
            self._rest = data[position:]
            return not frames
        return False

    def _quick(self, data: bytes, position: int, sink: Sink) -> int:
        """Read a short unfragmented message, as nearly all frames are; 0 if it is anything else."""
        payload = position + 6
        if payload > len(data):
            return 0
        first, length = data[position], data[position + 1] - _MASKED
        end = payload + length
        if first not in _MESSAGES or not 0 <= length <= 125 or end > len(data):
            return 0
        if length > self._limit or self._message is not None:
            return 0
        text: bytes = apply_mask(data[payload:end], data[payload - 4 : payload])
        if first == _MESSAGES[0] and not text.isascii():
            _check_text(text)
        sink.receiver.received(text, binary=first == _MESSAGES[1])
        return end

    def _begin(self, data: bytes, position: int, sink: Sink) -> int:
        """Read a frame that begins at `position`; returns the position after it, or `position` if more is needed."""
        available = len(data) - position
        if available < 2:
            # An invalid first byte fails at once, whether or not more follows.
            self._check(data[position], _MASKED)
            return position
        first, second = data[position], data[position + 1]
        self._check(first, second)
        length = second & 0x7F
        payload = position + 6
        if length > 125:
            width = 2 if length == 126 else 8
            payload += width
            if available < 2 + width:
                return position
            length = _extended_length(data[position + 2 : position + 2 + width])
        self._check_size(first, length)
        if len(data) < payload:
            return position
        mask = data[payload - 4 : payload]
        end = payload + length
        if end > len(data):
            self._frame = _PartialFrame(first, mask, length)
            self._count(first)
            return payload
        self._complete(first, apply_mask(data[payload:end], mask), sink)
        return end

    def _go_on(self, frame: _PartialFrame, data: bytes, position: int, sink: Sink) -> int:
        """Continue a partial frame; returns the position after the bytes used."""
        piece = frame.unmask(data[position : position + frame.missing])
        position += len(piece)
        done = frame.missing == 0
        if done:
            self._frame = None
        if frame.first & _CONTROL:
            frame.data += piece
            if done:
                self._control(frame.first & 0x0F, frame.data, sink)
        else:
            self._extend(piece, final=done and bool(frame.first & _FIN), sink=sink)
        return position

    def _check(self, first: int, second: int) -> None:
        """Check the first byte before the second: the error is then the same however the stream is split."""
        if first not in self._first_bytes:
            raise FrameError(PROTOCOL_ERROR, _describe(first))
        if not first & _CONTROL and (first & 0x0F == CONTINUATION) != (self._message is not None):
            expected = "continuation" if self._message is not None else "text or binary"
            raise FrameError(PROTOCOL_ERROR, f"expected {expected} frame")
        if not second & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "unmasked frame")
        if first & _CONTROL and second & 0x7F > 125:
            raise FrameError(PROTOCOL_ERROR, "long control frame")

    def _check_size(self, first: int, length: int) -> None:
        """Check the declared length, so that a message that is too big is refused before it arrives."""
        if not first & _CONTROL:
            unfinished = self._message
            size = length if unfinished is None else length + len(unfinished.data)
            is_compressed = bool(first & COMPRESSED) if unfinished is None else unfinished.compressed
            if size > (deflated_bound(self._limit) if is_compressed else self._limit):
                raise FrameError(TOO_BIG, "message too big")

    def _count(self, first: int) -> None:
        """A data frame begins that is not a complete message: count the fragment."""
        if first & _CONTROL:
            return
        if self._message is None:
            self._message = _Unfinished(first)
        self._message.fragments += 1
        if self._message.fragments > self._fragments:
            raise FrameError(POLICY_VIOLATION, "too many fragments")

    def _complete(self, first: int, data: bytes, sink: Sink) -> None:
        """Handle a frame that arrived in one piece."""
        if first == _FIN | TEXT:
            if not data.isascii():
                _check_text(data)
            sink.receiver.received(data, binary=False)
        elif first == _FIN | BINARY:
            sink.receiver.received(data, binary=True)
        elif first & _CONTROL:
            self._control(first & 0x0F, data, sink)
        else:
            self._count(first)
            self._extend(data, final=bool(first & _FIN), sink=sink)

    def _extend(self, data: bytes, *, final: bool, sink: Sink) -> None:
        message = self._message
        assert message is not None
        message.add(data, final=final)
        if final:
            self._message = None
            if message.compressed:
                whole = message.inflated(self._limit)
                self.inflated += len(whole)
            else:
                whole = bytes(message.data)
            sink.receiver.received(whole, binary=message.binary)

    def _control(self, opcode: int, data: bytes, sink: Sink) -> None:
        if opcode == PING:
            sink.ping_received(data)
        elif opcode == PONG:
            sink.pong_received()
        else:
            code, reason = _parse_close(data)
            self._finished = True
            sink.close_received(code, reason)


def _describe(first: int) -> str:
    if first & 0x70:
        return "reserved bit"
    return "reserved opcode" if first & 0x0F not in _OPCODES else "fragmented control frame"


def _extended_length(data: bytes) -> int:
    """5.2: the shortest form is required, and the highest of 64 bits must be zero."""
    length = int.from_bytes(data, "big")
    if length < (126 if len(data) == 2 else 1 << 16) or length >> 63:
        raise FrameError(PROTOCOL_ERROR, "wrong length")
    return length


def _check_text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_DATA, "invalid UTF-8") from None


def _parse_close(data: bytes) -> tuple[int, str]:
    """The code and reason of a close frame (5.5.1)."""
    if not data:
        return NO_STATUS, ""
    code = int.from_bytes(data[:2], "big")
    if len(data) < 2 or code not in _CLOSE_CODES:
        raise FrameError(PROTOCOL_ERROR, "wrong close code")
    _check_text(data[2:])
    return code, data[2:].decode()


def frame(messages: Sequence[Message]) -> bytes:
    """One frame per message, concatenated."""
    if len(messages) == 1:
        return one_frame(*messages[0])
    parts: list[bytes] = []
    for data, binary in messages:
        parts += (_head(BINARY if binary else TEXT, len(data)), data)
    return b"".join(parts)


def one_frame(data: bytes, binary: bool, bits: int = 0) -> bytes:
    """A message in a frame with these reserved bits."""
    return _head(bits | (BINARY if binary else TEXT), len(data)) + data


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame, empty for NO_STATUS. A reason over 123 bytes is cut between characters (5.5)."""
    if code == NO_STATUS:
        return _head(CLOSE, 0)
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return _head(CLOSE, 2 + len(text)) + code.to_bytes(2, "big") + text


def pong_frame(data: bytes) -> bytes:
    """The answer to a ping with this application data (5.5.3)."""
    return _head(PONG, len(data)) + data


def _head(opcode: int, length: int) -> bytes:
    if length < 126:
        return bytes((_FIN | opcode, length))
    if length < 1 << 16:
        return bytes((_FIN | opcode, 126)) + length.to_bytes(2, "big")
    return bytes((_FIN | opcode, 127)) + length.to_bytes(8, "big")


PING_FRAME = _head(PING, 0)


class WebSocketFraming:
    """Implements the Framing port: one frame per message, and a close frame that carries the code."""

    ping = PING_FRAME
    answers_pings = True
    tells_codes = True
    frame = staticmethod(frame)

    @staticmethod
    def close(code: CloseCode) -> bytes:
        """The close frame."""
        return close_frame(*code)


def unframe(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """The opcode and payload of every server frame in `frames`, all of them complete. The inverse of `frame`."""
    position = 0
    while position < len(frames):
        opcode, length = frames[position] & 0x0F, frames[position + 1]
        position += 2
        if length > 125:
            width = 2 if length == 126 else 8
            length = int.from_bytes(frames[position : position + width], "big")
            position += width
        yield opcode, frames[position : position + length]
        position += length
