"""Messages in the body of an HTTP response."""

from collections.abc import Callable, Sequence

from gateway.errors import CloseCode
from gateway.protocols.wire_protocol import Message

# Delimits messages so that the client can tell them apart: as lines, or as server-sent events.
Delimit = Callable[[Sequence[Message]], bytes]


class BodyFraming:
    """Implements the Framing port for a body that ends with its connection, or that the server frames."""

    tells_codes = False

    def __init__(self, delimit: Delimit, keep_alive: bytes, *, answers_pings: bool = False) -> None:
        """`keep_alive` is a text that clients skip. `answers_pings`: they have other requests to answer with."""
        self._delimit = delimit
        self.ping = keep_alive
        self.answers_pings = answers_pings

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The messages with their delimiters."""
        return self._delimit(messages) if messages else b""

    def close(self, code: CloseCode) -> bytes:
        """Nothing: the body ends with the connection."""
        return b""


class ChunkedFraming(BodyFraming):
    """The same for a chunked body (RFC 9112 section 7.1): one chunk for all messages framed together."""

    def __init__(self, delimit: Delimit, keep_alive: bytes, *, answers_pings: bool = False) -> None:
        """Raises ValueError without a `keep_alive`: an empty chunk ends the body."""
        if not keep_alive:
            raise ValueError("keep_alive must not be empty")
        super().__init__(delimit, _chunk(keep_alive), answers_pings=answers_pings)

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The messages as a chunk."""
        body = super().frame(messages)
        return _chunk(body) if body else b""

    def close(self, code: CloseCode) -> bytes:
        """The last chunk: without it the body would look truncated to the client."""
        return b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
