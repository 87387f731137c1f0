"""Address and scheme of a client behind proxies, for an application that reads them from its requests."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Send

from gateway.transports.client_addresses import Network, is_trusted
from gateway.transports.handshake import Handshake, Scope, peer_of

# By the last value of X-Forwarded-Proto, which the nearest proxy has set: the schemes of a request and of a WebSocket.
_SCHEMES = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"), "wss": ("https", "wss")}


class Forwarded:
    """An application whose requests have the client that trusted proxies report, as with --proxy-headers of uvicorn."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or a connection."""
        if scope["type"] != "lifespan" and is_trusted(peer_of(scope), self._trusted):
            scope = self._seen(scope)
        await self._app(scope, receive, send)

    def _seen(self, scope: Scope) -> Scope:
        handshake = Handshake(scope, self._trusted)
        seen = dict(scope)
        if address := handshake.address:
            port = scope["client"][1] if address == peer_of(scope) else 0
            seen["client"] = (address, port)
        schemes = _SCHEMES.get(handshake.header("x-forwarded-proto").rpartition(",")[2].strip().lower())
        if schemes is not None:
            seen["scheme"] = schemes[scope["type"] == "websocket"]
        return seen
