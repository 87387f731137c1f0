"""The ASGI application behind a WebSocket route: lets a client in, and gives its socket to a session."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from gateway.auth.origins import OriginPolicy
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.session.transport import Connection
from gateway.transports.addresses import Network, client_address
from gateway.transports.admission import Admission, Place, Refusal
from gateway.transports.responses import error_body, refusal_headers
from gateway.transports.websocket.asgi import AsgiTransport
from gateway.transports.websocket.upgrade import DETACH

Scope = dict[str, Any]


class HandshakeRefused(GatewayError):
    """The connection is not let in: the handshake is answered with `status` and `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Handshake:
    """What a client said when it asked for its connection. Not to be kept: it holds the whole request."""

    __slots__ = ("_scope", "_trusted_proxies", "path", "path_params", "subprotocols")

    def __init__(self, scope: Scope, trusted_proxies: Sequence[Network]) -> None:
        self._scope = scope
        self._trusted_proxies = trusted_proxies
        self.path: str = scope["path"]
        # Parts of the path by the names that the route gave them.
        self.path_params: Mapping[str, str] = scope.get("path_params", {})
        # Offered by the client, in its order of preference.
        self.subprotocols: Sequence[str] = scope.get("subprotocols", ())

    def header(self, name: str) -> str:
        """The value of a header, joined by commas where it was sent more than once, empty where it was not."""
        wanted = name.lower().encode("latin-1")
        values = [value for key, value in self._scope["headers"] if key == wanted]
        return b",".join(values).decode("latin-1")

    @property
    def origin(self) -> str | None:
        """The Origin header; None without one. Sent twice it is no origin at all."""
        sent = any(key == b"origin" for key, _ in self._scope["headers"])
        return self.header("origin") if sent else None

    def parameter(self, name: str) -> str:
        """The last value of a name in the query string, empty where there is none.

        The rest is not looked at: a query may hold thousands of parameters. A name with escapes is another one.
        """
        query: str = self._scope["query_string"].decode("latin-1")
        _, found, rest = f"&{query}".rpartition(f"&{name}=")
        return unquote_plus(rest.partition("&")[0]) if found else ""

    def cookie(self, name: str) -> str:
        """The value of the first cookie of a name, as it was sent without its quotes; empty where there is none.

        Backslashes are not resolved: tokens have none, and the standard library takes quadratic time for them on
        Pythons with CVE-2024-7592.
        """
        # RFC 6265 section 5.4 allows one Cookie header, HTTP/2 proxies may send several.
        header = ";".join(value.decode("latin-1") for key, value in self._scope["headers"] if key == b"cookie")
        # 4.2.1: one space behind each semicolon, none around `=`. Header values may hold thousands of cookies.
        _, _, rest = f";{header.replace('; ', ';')}".partition(f";{name}=")
        return rest.partition(";")[0].strip().strip('"')

    @property
    def address(self) -> str:
        """The client's address, as far as trusted proxies vouch for it; empty on a Unix socket."""
        return client_address(self._peer, self.header, self._trusted_proxies)

    @property
    def _peer(self) -> str:
        return peer_of(self._scope)


def peer_of(scope: Scope) -> str:
    """The other end of the socket, empty for a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""


Open = Callable[[Handshake], tuple[Connection, str | None]]


class WebSocketEndpoint:
    """An ASGI application for a Starlette `WebSocketRoute`.

    Checks the origin and the limits, asks `open_connection` for the session and the subprotocol to accept, and hands
    the socket over: for good under our HTTP class, else for as long as plain `receive()` and `send()` carry it.
    """

    def __init__(
        self,
        *,
        origins: OriginPolicy,
        admission: Admission,
        open_connection: Open,
        trusted_proxies: Sequence[Network],
        metrics: Metrics,
        message_size: int = 65_536,
    ) -> None:
        """`open_connection` may raise HandshakeRefused. `message_size` bounds messages in bytes on plain ASGI."""
        self._origins = origins
        self._admission = admission
        self._open_connection = open_connection
        self._trusted_proxies = trusted_proxies
        self._metrics = metrics
        self.message_size = message_size
        # Of plain ASGI, those whose clients do not read.
        self.congested: set[AsgiTransport] = set()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One handshake, and on plain ASGI the whole life of its connection."""
        detachment = scope.get("extensions", {}).get(DETACH) or {}
        place: Place | None = detachment.get("place")
        if place is not None:
            await self._serve(scope, receive, send, place)
            return
        # Nobody counted this connection when it arrived.
        place = self._admission.enter(peer_of(scope))
        detached = False
        try:
            detached = await self._serve(scope, receive, send, place)
        finally:
            if not detached:
                place.leave()

    async def _serve(self, scope: Scope, receive: Any, send: Any, place: Place) -> bool:
        """True when the connection lives on by itself."""
        if (await receive())["type"] != "websocket.connect":
            return False
        handshake = Handshake(scope, self._trusted_proxies)
        try:
            self._admit(handshake, place)
            connection, subprotocol = self._open_connection(handshake)
        except _NotAdmitted as error:
            self._admission.refused(error.refusal.reason, error.refusal.setting, place.waits_at)
            await _refuse(scope, send, error.refusal.status, str(error), refusal_headers(error.refusal))
        except HandshakeRefused as error:
            self._admission.refused("handshake")
            await _refuse(scope, send, error.status, error.message, [])
        else:
            del handshake
            return await self._connect(scope, receive, send, place, connection, subprotocol)
        return False

    def _admit(self, handshake: Handshake, place: Place) -> None:
        """The first thing against letting the client in."""
        reason = self._origins.check(handshake.origin)
        if reason is not None:
            raise _NotAdmitted(Refusal(403, "origin", reason), reason)
        refusal = place.check(handshake.address)
        if refusal is not None:
            raise _NotAdmitted(refusal, refusal.message)

    async def _connect(
        self, scope: Scope, receive: Any, send: Any, place: Place, connection: Connection, subprotocol: str | None
    ) -> bool:
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        place.opened()
        detachment = scope.get("extensions", {}).get(DETACH)
        if detachment is not None:
            detachment["detach"](connection, place)
            return True
        errors = self._metrics.protocol_errors
        transport = AsgiTransport(connection, send, place, self.message_size, errors, self.congested)
        place.drop = transport.abort
        await transport.run(receive)
        return False


class _NotAdmitted(GatewayError):
    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


async def _refuse(scope: Scope, send: Any, status: int, message: str, headers: list[tuple[bytes, bytes]]) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        # The server answers 403, the only refusal that ASGI knows by itself.
        await send({"type": "websocket.close"})
        return
    headers = [*headers, (b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error_body(status, message)})
