"""Accepts connections, many in one turn of the loop, and closes those beyond the limit before they cost anything."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from gateway.transports.admission import Place
from gateway.transports.http_options import HttpOptions
from gateway.transports.http_protocol import GatewayHttpProtocol

# Most connections accepted in one turn of the loop.
BATCH = 64
# Seconds to stop accepting for when no file descriptor is left.
EXHAUSTED_DELAY = 1.0


class Acceptor:
    """Accepts connections on the client listeners: all of them with TLS; without TLS only during an overflow.

    uvloop's own servers accept one connection a turn and set it up completely before it can be refused, so honest
    clients would queue behind thousands that are refused. They also tell a protocol only about TLS handshakes that
    succeeded: a client that connects and stays silent would hold a descriptor that nobody counts. Otherwise they are
    cheaper.
    """

    def __init__(
        self,
        make_protocol: Callable[[], GatewayHttpProtocol],
        options: HttpOptions,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """The options need an admission. A TLS handshake may take as long as a request head."""
        assert options.admission is not None
        self._make_protocol = make_protocol
        self._admission = options.admission
        self._options = options
        self._tls = tls
        self._listeners: list[socket.socket] = []
        self._connecting: set[asyncio.Task[None]] = set()
        # Connections that are refused, after a delay.
        self._held: dict[socket.socket, Place] = {}

    def listen(self, listener: socket.socket, backlog: int) -> None:
        """Accept every connection to this socket. Raises OSError."""
        listener.listen(backlog)
        self._listeners.append(listener)
        self._watch(listener)

    def close(self) -> None:
        """Stop accepting. Handshakes in progress are dropped."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener.fileno())
        self._listeners.clear()
        for task in list(self._connecting):
            task.cancel()
        for client in list(self._held):
            self._end(client)

    def _end(self, client: socket.socket) -> None:
        if (place := self._held.pop(client, None)) is not None:
            place.leave()
            client.close()

    def accept_waiting(self, listener: socket.socket) -> None:
        """Accept the connections waiting at this socket, up to BATCH. Raises OSError when no descriptor is left."""
        loop = asyncio.get_running_loop()
        for _ in range(BATCH):
            try:
                client, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            place = self._admission.enter(peer[0] if isinstance(peer, tuple) else "")
            if (overflow := self._admission.overflow(place)) is not None:
                self._admission.refused(overflow.reason, overflow.setting, place.waits_at)
                self._held[client] = place
                if seconds := place.hold():
                    loop.call_later(seconds, self._end, client)
                else:
                    self._end(client)
                continue
            client.setblocking(False)
            task = loop.create_task(self._connect(client, place))
            place.drop = task.cancel
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            self.accept_waiting(listener)
        except OSError:
            # The socket stays readable: retrying at once would be a busy loop.
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener.fileno())
            loop.call_later(EXHAUSTED_DELAY, self._watch, listener)

    async def _connect(self, client: socket.socket, place: Place) -> None:
        protocol = self._make_protocol()
        protocol.place = place
        timeout = self._options.limits.header_timeout if self._tls is not None else None
        connected = False
        try:
            # SSLError is an OSError, and so are a reset and the timeout.
            with suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: protocol, client, ssl=self._tls, ssl_handshake_timeout=timeout
                )
                connected = True
        finally:
            if not connected:
                client.close()
                if self._tls is not None:
                    self._options.metrics.protocol_errors.add("tls")
                place.leave()
