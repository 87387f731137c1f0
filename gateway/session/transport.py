"""The port through which a session reaches its client, and the one through which the client reaches its session."""

from collections.abc import Callable
from typing import Protocol

from gateway.errors import CloseCode

Write = Callable[[bytes], object]


class Transport(Protocol):
    """What carries bytes to one client: a WebSocket, or an HTTP response that does not end.

    The bytes are those of an encoder whose framing fits the transport: complete messages, one or several.

    `write` never blocks and never fails: after the client is lost it does nothing. When the transport cannot take
    more, it calls `Connection.pause_writing` (possibly from within `write`), and `resume_writing` later, never from
    within `write`. What is written in between is kept in memory by the transport: not writing then is the session's
    part.
    """

    write: Write
    """Writes messages. An attribute, so that the delivery loop holds the bound function of the socket itself."""

    def close(self, code: CloseCode, goodbye: bytes) -> None:
        """Write the goodbye (of the same encoder) behind all that was written; then end.

        The peer has a few seconds to answer it where the protocol of the transport has an answer, and to read what is
        left. No message reaches the connection any more; `Connection.closed` is called once the transport is gone.
        """

    def drive(self, connection: "Connection") -> None:
        """Go on with this connection, which `opened` is not called of; the one before hears nothing more.

        Calls `pause_writing` where the transport cannot take more, and `closed` where the client is gone already.
        """

    def release(self, goodbye: bytes) -> None:
        """As `close`, for a connection that goes on over another transport: none of its methods is called any more."""

    def abort(self) -> None:
        """Drop the client and what waits for it at once. `Connection.closed` follows."""

    def authenticated(self) -> None:
        """The client proved who it is: its place among the connections not yet authenticated is free."""

    def pause_reading(self) -> None:
        """Stop reading what the client sends, so that its writes block. Idempotent."""

    def resume_reading(self) -> None:
        """Read again. Idempotent."""


class Connection(Protocol):
    """What a transport drives. No method raises. The order is: `opened`, then any of the others, then `closed` last."""

    def opened(self, transport: Transport) -> None:
        """The client is let in; the transport can be written to."""

    def received(self, data: bytes, *, binary: bool) -> None:
        """One complete message. A text message is valid UTF-8 and within the size limit."""

    def ponged(self) -> None:
        """The client answered a ping of the framing. A transport that drops such pings calls this for each of them."""

    def pause_writing(self) -> None:
        """The socket is congested."""

    def resume_writing(self) -> None:
        """The socket can take more."""

    def closed(self, code: int, reason: str) -> None:
        """The client is gone. `code` is the peer's close code, 1006 without one, ours where we closed."""

    def shed(self) -> None:
        """Others need the memory in which something waits for this client, or of it: close with 3008, "slow"."""

    def shutdown(self) -> None:
        """The server ends: close with a code after which clients reconnect. The server spreads these calls (drain)."""
