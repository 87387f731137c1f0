"""What a client sends when it connects, over any transport."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from gateway.errors import GatewayError
from gateway.transports.admission import Refusal
from gateway.transports.client_addresses import Network, client_address

Scope = dict[str, Any]


class HandshakeRefused(GatewayError):
    """The connection is refused: the handshake is answered with the status of the refusal, and the message."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class Handshake:
    """The request that a client opened its connection with. Do not keep it: it holds the whole request."""

    __slots__ = ("_scope", "_trusted_proxies", "body", "path", "path_params", "subprotocols")

    def __init__(self, scope: Scope, trusted_proxies: Sequence[Network], body: bytes = b"") -> None:
        self._scope = scope
        # Of the HTTP request, within limits.frame_size.
        self.body = body
        self._trusted_proxies = trusted_proxies
        self.path: str = scope["path"]
        # Parts of the path, by their names in the route.
        self.path_params: Mapping[str, str] = scope.get("path_params", {})
        # Offered by the client, in its order of preference.
        self.subprotocols: Sequence[str] = scope.get("subprotocols", ())

    @property
    def scope(self) -> Scope:
        """The ASGI scope."""
        return self._scope

    def without_cookies(self) -> "Handshake":
        """The same request, as if it had brought no cookies."""
        headers = [(key, value) for key, value in self._scope["headers"] if key != b"cookie"]
        return Handshake({**self._scope, "headers": headers}, self._trusted_proxies, self.body)

    def header(self, name: str) -> str:
        """The value of a header; joined by commas if it was sent more than once, empty if it was not sent."""
        wanted = name.lower().encode("latin-1")
        values = [value for key, value in self._scope["headers"] if key == wanted]
        return b",".join(values).decode("latin-1")

    @property
    def origin(self) -> str | None:
        """The Origin header; None without one. Two of them, joined, match no origin."""
        sent = any(key == b"origin" for key, _ in self._scope["headers"])
        return self.header("origin") if sent else None

    @property
    def is_of_own_page(self) -> bool:
        """Whether a browser vouches that a page of this same origin asks (W3C Fetch Metadata section 2.4).

        It then may leave the Origin header out, unless it opens a WebSocket.
        """
        return self.origin is None and self.header("sec-fetch-site") == "same-origin"

    def parameter(self, name: str) -> str:
        """The last value of a name in the query string; empty if there is none.

        Other parameters are not parsed: a query may hold thousands. A name written with escapes does not match.
        """
        query: str = self._scope["query_string"].decode("latin-1")
        _, found, rest = f"&{query}".rpartition(f"&{name}=")
        return unquote_plus(rest.partition("&")[0]) if found else ""

    def has_parameters_beside(self, name: str) -> bool:
        """Whether the query string has any parameter with another name."""
        query: str = self._scope["query_string"].decode("latin-1")
        return any(part and part.partition("=")[0] != name for part in query.split("&"))

    def cookie(self, name: str) -> str:
        """The value of the first cookie of a name, as sent but without its quotes; empty if there is none.

        Backslash escapes are left as they are: tokens have none, and the standard library takes quadratic time for
        them on Python versions with CVE-2024-7592.
        """
        # RFC 6265 section 5.4 allows one Cookie header, HTTP/2 proxies may send several.
        header = ";".join(value.decode("latin-1") for key, value in self._scope["headers"] if key == b"cookie")
        # 4.2.1: one space after each semicolon, none around `=`. Header values may hold thousands of cookies.
        _, _, rest = f";{header.replace('; ', ';')}".partition(f";{name}=")
        return rest.partition(";")[0].strip().strip('"')

    @property
    def address(self) -> str:
        """The client's address as far as trusted proxies vouch for it; empty on a Unix socket."""
        return client_address(self._peer, self.header, self._trusted_proxies)

    @property
    def _peer(self) -> str:
        return peer_of(self._scope)


def peer_of(scope: Scope) -> str:
    """The other end of the socket, empty for a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""
