"""The ports between a session and its client's transport, one in each direction."""

from collections.abc import Callable
from typing import Protocol

from gateway.errors import CloseCode

Write = Callable[[bytes], object]


class Transport(Protocol):
    """Carries bytes to one client: a WebSocket, or an HTTP response that does not end.

    The bytes come from an encoder whose framing fits the transport: one or more complete messages.

    `write` never blocks and never fails: after the client is lost it does nothing. When the transport cannot take
    more, it calls `Connection.pause_writing` (possibly from within `write`), and `resume_writing` later, never from
    within `write`. The transport keeps what is written in between in memory: it is up to the session not to
    write then.
    """

    write: Write
    """Writes messages. An attribute, so that the delivery loop holds the bound function of the socket itself."""

    def close(self, code: CloseCode, goodbye: bytes) -> None:
        """Write the goodbye (from the same encoder) after all that was written; then end.

        The peer has a few seconds to read what is left, and to answer if the transport's protocol has an answer. The
        connection gets no more messages; `Connection.closed` is called once the transport is gone.
        """

    def drive(self, connection: "Connection") -> None:
        """Drive this connection from now on, without calling `opened`; the previous one gets no more calls.

        Calls `pause_writing` if the transport cannot take more, and `closed` if the client is already gone.
        """

    def release(self, goodbye: bytes) -> None:
        """As `close`, for a connection that moves to another transport: its methods are not called any more."""

    def abort(self) -> None:
        """Drop the client and what waits for it at once. `Connection.closed` follows."""

    def authenticated(self) -> None:
        """The client has authenticated: free its place among the unauthenticated connections."""

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
        """Others need the memory of what waits for this client or from it: close with 3008, "slow"."""

    def shutdown(self) -> None:
        """The server ends: close with a code that makes clients reconnect. The server spreads these calls (drain)."""
