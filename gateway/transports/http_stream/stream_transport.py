"""An HTTP response that does not end, on the socket of its request."""

import asyncio
import socket
from contextlib import suppress

from gateway.session.transport import Connection
from gateway.transports.admission import Place
from gateway.transports.socket_transport import MOST_UNWANTED, SocketOptions, SocketTransport

# Milliseconds in which the client's system has to take what was written. A client that only reads answers no pings:
# without this one that lost its network would stay for a quarter of an hour (tcp(7): tcp_retries2). It counts for a
# client that does not read at all, too, once the buffers of both systems are full.
UNACKNOWLEDGED = 30_000


class StreamTransport(SocketTransport):
    """Writes the body; the head is written already. What the client still sends goes nowhere."""

    __slots__ = ("_unwanted",)

    def __init__(
        self, options: SocketOptions, transport: asyncio.Transport, connection: Connection, place: Place | None
    ) -> None:
        """`transport` reads. `connection.opened` is for the caller to call."""
        self._unwanted = 0
        super().__init__(options, transport, connection, place)
        client = transport.get_extra_info("socket")
        # A Unix socket has no such option, nor have systems other than Linux.
        with suppress(AttributeError, OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)

    def _await_end(self) -> None:
        """The end of a response has no answer: the socket closes once all is written."""
        self._transport.close()

    def pause_reading(self) -> None:
        """Nothing is read that somebody waits for, but only reading tells that the client has left."""

    def resume_reading(self) -> None:
        """It was never paused."""

    def data_received(self, data: bytes) -> None:
        """Another request, which this connection has no answer for: it ends with the response."""
        self._unwanted += len(data)
        if self._unwanted > MOST_UNWANTED:
            self.abort()
