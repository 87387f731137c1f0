"""Messages in the body of an HTTP response."""

from collections.abc import Callable, Sequence

from gateway.errors import CloseCode
from gateway.protocols.wire_protocol import Message

# Messages to bytes in which the client can tell where one ends and the next begins: lines, or server-sent events.
Delimit = Callable[[Sequence[Message]], bytes]


class BodyFraming:
    """Implements the Framing port for a body that ends with its connection, or that a server frames by itself."""

    answers_pings = False
    tells_codes = False

    def __init__(self, delimit: Delimit, keep_alive: bytes) -> None:
        """`keep_alive` is what clients skip."""
        self._delimit = delimit
        self.ping = keep_alive

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The messages with their delimiters."""
        return self._delimit(messages) if messages else b""

    def close(self, code: CloseCode) -> bytes:
        """Nothing: the end of the connection is the end."""
        return b""


class ChunkedFraming(BodyFraming):
    """The same for a body in chunks (RFC 9112 section 7.1): one for all that is framed together."""

    def __init__(self, delimit: Delimit, keep_alive: bytes) -> None:
        """Raises ValueError without a `keep_alive`: an empty chunk ends the body."""
        if not keep_alive:
            raise ValueError("keep_alive must not be empty")
        super().__init__(delimit, _chunk(keep_alive))

    def frame(self, messages: Sequence[Message]) -> bytes:
        """The messages as a chunk."""
        body = super().frame(messages)
        return _chunk(body) if body else b""

    def close(self, code: CloseCode) -> bytes:
        """The last chunk: without it the client would take the body for cut off."""
        return b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
