"""TLS connections from TCP on: a handshake that does not come counts and ends like a request that does not come."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from gateway.config.settings import TlsSettings
from gateway.errors import ConfigError
from gateway.transports.admission import Place
from gateway.transports.http_protocol import GatewayHttpProtocol, HttpOptions

# Connections accepted in one turn of the loop at most.
BATCH = 64
# Seconds without accepting when the system has no descriptor left.
EXHAUSTED_DELAY = 1.0


class TlsAcceptor:
    """Accepts connections of one listener and encrypts them.

    asyncio's own servers tell a protocol only of handshakes that succeeded: whoever connects and stays silent would
    hold a descriptor that nobody counts.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        make_protocol: Callable[[], GatewayHttpProtocol],
        options: HttpOptions,
    ) -> None:
        """The options need an admission; a handshake may take as long as a request's head."""
        assert options.admission is not None
        self._context = context
        self._make_protocol = make_protocol
        self._admission = options.admission
        self._options = options
        self._listeners: list[socket.socket] = []
        self._handshakes: set[asyncio.Task[None]] = set()

    def listen(self, listener: socket.socket, backlog: int) -> None:
        """Accept from this socket. Raises OSError."""
        listener.listen(backlog)
        self._listeners.append(listener)
        self._watch(listener)

    def close(self) -> None:
        """Accept no more. Handshakes under way are dropped."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener.fileno())
        self._listeners.clear()
        for task in list(self._handshakes):
            task.cancel()

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(BATCH):
            try:
                client, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError:
                # No descriptor is left: the socket stays readable, and asking again at once would be all we do.
                loop.remove_reader(listener.fileno())
                loop.call_later(EXHAUSTED_DELAY, self._watch, listener)
                return
            place = self._admission.enter(peer[0] if isinstance(peer, tuple) else "")
            if (overflow := self._admission.overflow(place)) is not None:
                self._admission.refused(overflow.reason, overflow.setting)
                place.leave()
                client.close()
                continue
            client.setblocking(False)
            task = loop.create_task(self._secure(client, place))
            place.drop = task.cancel
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _secure(self, client: socket.socket, place: Place) -> None:
        protocol = self._make_protocol()
        protocol.place = place
        secured = False
        timeout = self._options.limits.header_timeout
        try:
            # SSLError is an OSError, and so are a reset and the timeout.
            with suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: protocol, client, ssl=self._context, ssl_handshake_timeout=timeout
                )
                secured = True
        finally:
            if not secured:
                self._options.metrics.protocol_errors.add("tls")
                place.leave()


def tls_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """The certificate to serve with, None for none. Raises ConfigError."""
    if settings.certificate is None:
        if settings.key is not None:
            raise ConfigError("tls.key is set and tls.certificate is not")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    for name, path in (("tls.certificate", settings.certificate), ("tls.key", settings.key)):
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(f"{name}: {path} cannot be read")
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise ConfigError(
            f"tls.certificate {settings.certificate} and tls.key {settings.key or '(unset)'} "
            f"are no certificate with its key: {error.reason or error}"
        ) from error
    return context


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal."""
    raise ConfigError("tls.key is encrypted; a key without a passphrase is needed")
