"""The port through which a session reaches its socket, and the one through which the socket reaches its session."""

from collections.abc import Callable
from typing import Protocol

from gateway.errors import CloseCode

Write = Callable[[bytes], object]


class Transport(Protocol):
    """One open WebSocket, as the session sees it. Frames are complete RFC 6455 frames, unmasked, one or several.

    `write` never blocks and never fails: after the socket is lost it does nothing. When the socket cannot take
    more, the transport calls `Connection.pause_writing` (possibly from within `write`), and `resume_writing`
    later, never from within `write`. What is written in between is kept in memory by the transport: not writing
    then is the session's part.
    """

    write: Write
    """Writes frames. An attribute, so that the delivery loop holds the bound function of the socket itself."""

    def close(self, code: CloseCode) -> None:
        """Write the close frame behind all that was written, wait a few seconds for the peer's, close the socket.

        No message reaches the connection any more; `Connection.closed` is called once the socket is gone.
        """

    def abort(self) -> None:
        """Drop the socket and what waits in it at once. `Connection.closed` follows."""

    def authenticated(self) -> None:
        """The client proved who it is: its place among the connections not yet authenticated is free."""

    def pause_reading(self) -> None:
        """Stop reading from the socket, so that the client's writes block. Idempotent."""

    def resume_reading(self) -> None:
        """Read again. Idempotent."""


class Connection(Protocol):
    """What a transport drives. No method raises. The order is: `opened`, then any of the others, then `closed` last."""

    def opened(self, transport: Transport) -> None:
        """The handshake is done; the transport can be written to."""

    def received(self, data: bytes, *, binary: bool) -> None:
        """One complete message. A text message is valid UTF-8 and within the size limit."""

    def ponged(self) -> None:
        """A pong control frame arrived. A transport whose server pings by itself calls this for each ping it drops."""

    def pause_writing(self) -> None:
        """The socket is congested."""

    def resume_writing(self) -> None:
        """The socket can take more."""

    def closed(self, code: int, reason: str) -> None:
        """The socket is gone. `code` is the peer's close code, 1006 without one, ours where we closed."""

    def shed(self) -> None:
        """Others need the memory in which something waits for this client, or of it: close with 3008, "slow"."""

    def shutdown(self) -> None:
        """The server ends: close with a code after which clients reconnect. The server spreads these calls (drain)."""
