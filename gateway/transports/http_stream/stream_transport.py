"""An HTTP response that does not end, on the socket of its request."""

import asyncio
import socket
from contextlib import suppress

from gateway.session.transport import Connection
from gateway.transports.admission import Place
from gateway.transports.socket_transport import MOST_UNWANTED, SocketOptions, SocketTransport

# Milliseconds within which the client's system has to acknowledge written data. A client that only reads cannot answer
# pings: without the timeout one that lost its network would stay for a quarter of an hour (tcp(7): tcp_retries2). It
# also catches a client that does not read at all, once the buffers of both systems are full.
UNACKNOWLEDGED = 30_000


class StreamTransport(SocketTransport):
    """Writes the body; the head is written already. Anything the client still sends is discarded."""

    __slots__ = ("_unwanted",)

    def __init__(
        self, options: SocketOptions, transport: asyncio.Transport, connection: Connection, place: Place | None
    ) -> None:
        """`transport` must be reading. The caller calls `connection.opened`."""
        self._unwanted = 0
        super().__init__(options, transport, connection, place)
        client = transport.get_extra_info("socket")
        # Unix sockets, and systems other than Linux, have no such option.
        with suppress(AttributeError, OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)

    def _await_end(self) -> None:
        """Clients do not answer the end of a response: the socket closes once all is written."""
        self._transport.close()

    def pause_reading(self) -> None:
        """Ignored: nothing read here is used, but only reading shows that the client has left."""

    def resume_reading(self) -> None:
        """Ignored: reading is never paused."""

    def data_received(self, data: bytes) -> None:
        """Discard further requests: the connection ends with this response, so they get no answer."""
        self._unwanted += len(data)
        if self._unwanted > MOST_UNWANTED:
            self.abort()
