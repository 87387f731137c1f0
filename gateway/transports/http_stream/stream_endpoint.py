"""The ASGI application behind the route of an HTTP response that does not end."""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.extensions import DETACH
from gateway.session.transport import Connection
from gateway.transports.admission import Place
from gateway.transports.client_endpoint import Doorkeeping, Endpoint
from gateway.transports.cors import preflight, shared_with
from gateway.transports.handshake import Handshake, Scope
from gateway.transports.http_stream.asgi_stream import AsgiStream
from gateway.transports.http_stream.request_body import TooLarge, body_of
from gateway.transports.responses import error_body

_JSON = (b"content-type", b"application/json")
_HEADERS = (
    (b"cache-control", b"no-store"),
    # Keeps nginx and similar proxies from buffering the body.
    (b"x-accel-buffering", b"no"),
)

# Opens the connection; returns it with the content type of the body. The flag says whether its encoder has to frame the
# body as chunks.
OpenStream = Callable[[Handshake, bool], tuple[Connection, str]]


class StreamEndpoint(Endpoint):
    """For a Starlette `Route`."""

    def __init__(
        self,
        shared: Doorkeeping,
        *,
        open_connection: OpenStream,
        methods: Sequence[str] = ("GET",),
        message_size: int = 65_536,
    ) -> None:
        """`open_connection` may raise HandshakeRefused. `message_size` limits the bytes of a request's body."""
        super().__init__(shared)
        self._open_connection = open_connection
        self._methods = methods
        self.message_size = message_size

    async def _take(self, scope: Scope, receive: Any, send: Any) -> bytes | None:
        if scope["method"] == "OPTIONS":
            await self._answer_preflight(scope, send)
            return None
        if scope["method"] not in self._methods:
            headers = [(b"allow", ", ".join((*self._methods, "OPTIONS")).encode()), _JSON]
            message = f"only {' and '.join(self._methods)}"
            await self._refuse(scope, send, 405, headers, error_body(405, message))
            return None
        try:
            return await body_of(receive, self.message_size)
        except TooLarge as error:
            await self._refuse(scope, send, 413, [_JSON], error_body(413, f"{error} (limits.frame_size)"))
            return None

    async def _let_in(self, handshake: Handshake, scope: Scope, receive: Any, send: Any, place: Place) -> bool:
        self._admit(handshake, place)
        detachment = scope.get("extensions", {}).get(DETACH)
        is_framed = detachment is not None and scope["http_version"] == "1.1"
        connection, content_type = self._open_connection(handshake, is_framed)
        place.opened()
        headers = [(b"content-type", content_type.encode()), *_HEADERS, *shared_with(self._origins, handshake.origin)]
        if detachment is not None:
            detachment["detach"](headers, connection, place)
            return True
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # Servers send the head with the first piece of the body.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        transport = AsgiStream(connection, send, place, self.congested)
        place.drop = transport.abort
        await transport.run(receive)
        return False

    async def _refuse(
        self, scope: Scope, send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        # Pages learn from the status what is wrong.
        shared = shared_with(self._origins, Handshake(scope, self._trusted_proxies).origin)
        headers = [*headers, *shared, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer_preflight(self, scope: Scope, send: Any) -> None:
        origin = Handshake(scope, self._trusted_proxies).origin
        allowed = "authorization, content-type" if "POST" in self._methods else "authorization, last-event-id"
        headers = preflight(self._origins, origin, ", ".join(self._methods), allowed)
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
