"""permessage-deflate (RFC 7692): what is agreed on with a client, and frames whose messages are compressed.

Both sides forget each message ("no context takeover"): a message is then compressed once for all subscribers, and an
idle connection holds no zlib object.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple, Protocol

from gateway.protocols.wire_protocol import Message
from gateway.transports.websocket.deflate import LARGEST_WINDOW, SMALLEST_WINDOW, Deflater
from gateway.transports.websocket.frames import COMPRESSED, WebSocketFraming, one_frame

NAME = b"permessage-deflate"
# 7.1.1: a server may ask for either, whether or not it is offered.
ANSWER = NAME + b"; server_no_context_takeover; client_no_context_takeover"
# Larger messages are sent as they are: this size takes 1.3 ms at level 1 and 5 ms at level 6, in which the loop stands
# still.
LARGEST_MESSAGE = 128 * 1024
# What is compressed in the time of one write. Level 1 takes 20 us for 1 KiB and 0.7 ms for 64 KiB, or twice that with
# the smallest window.
BYTES_PER_WRITE = 128

# RFC 6455 section 9.1: a value is a token, quoted or not.
_PARAMETER = re.compile(rb"""([!#$%&'*+\-.^_`|~\w]+)[ \t]*(?:=[ \t]*(?:([\w.-]+)|"([\w.-]+)"))?""", re.ASCII)
# 7.1.2.1: without leading zeros.
_WINDOWS = {b"%d" % bits: bits for bits in range(8, 16)}


class CompressionChoice(Protocol):
    """From the section `compression` of the settings."""

    @property
    def level(self) -> int: ...

    @property
    def min_size(self) -> int: ...


class CompressedFraming(WebSocketFraming):
    """Implements the PackingFraming port: `pack` compresses, `frame` does not.

    Publications are packed. A reply is for one client, and thousands of clients that come back at once get one each.
    """

    def __init__(self, choice: CompressionChoice, window: int) -> None:
        # Level 6 takes four times as long as level 1.
        self.bytes_per_write = BYTES_PER_WRITE // choice.level
        self._deflater = Deflater(choice.level, window)
        self._sizes = range(choice.min_size, LARGEST_MESSAGE + 1)

    def pack(self, messages: Sequence[Message]) -> bytes:
        """One frame per message, compressed where that makes it smaller."""
        if len(messages) == 1:
            return self._one(*messages[0])
        return b"".join(self._one(data, binary) for data, binary in messages)

    def _one(self, data: bytes, binary: bool) -> bytes:
        if len(data) in self._sizes:
            packed = self._deflater.deflate(data)
            if len(packed) < len(data):
                return one_frame(packed, binary, COMPRESSED)
        return one_frame(data, binary)


class Agreement(NamedTuple):
    """An extension that both sides use."""

    # The value of `Sec-WebSocket-Extensions` in the answer.
    answer: bytes
    framing: CompressedFraming


class Compression:
    """What a node offers. One for all its connections, since a framing of it names a delivery group."""

    def __init__(self, choice: CompressionChoice) -> None:
        # Made when the first client asks: each takes 270 KiB or less.
        self._framing = cache(lambda window: CompressedFraming(choice, window))

    def agree(self, headers: Iterable[tuple[bytes, bytes]]) -> Agreement | None:
        """Accept the first offer that can be met, if there is one. Header names are in lower case."""
        for name, value in headers:
            if name == b"sec-websocket-extensions":
                for offer in value.split(b","):
                    limit = _limit(offer)
                    if limit is not None:
                        return self._accept(limit)
        return None

    def _accept(self, limit: int) -> Agreement:
        """7.1.2.1: a server may use a smaller window than is offered: there are two delivery groups at most."""
        if not limit:
            return Agreement(ANSWER, self._framing(LARGEST_WINDOW))
        window = LARGEST_WINDOW if limit == LARGEST_WINDOW else SMALLEST_WINDOW
        return Agreement(ANSWER + b"; server_max_window_bits=%d" % window, self._framing(window))


def _limit(offer: bytes) -> int | None:
    """The most bits of the server's window that this offer allows, 0 for any; None if the offer cannot be met (7.1).

    `client_max_window_bits` needs no answer: any window can be read.
    """
    name, *parts = (part.strip(b" \t") for part in offer.split(b";"))
    if name != NAME:
        return None
    limit = 0
    seen = set()
    for part in parts:
        found = _PARAMETER.fullmatch(part)
        if found is None or found[1] in seen:
            return None
        parameter, value = found[1], found[2] or found[3]
        seen.add(parameter)
        if parameter in (b"server_no_context_takeover", b"client_no_context_takeover"):
            is_valid = value is None
        elif parameter == b"client_max_window_bits":
            is_valid = value is None or value in _WINDOWS
        elif parameter == b"server_max_window_bits":
            limit = _WINDOWS.get(value, 0)
            is_valid = limit >= SMALLEST_WINDOW
        else:
            is_valid = False
        if not is_valid:
            return None
    return limit
