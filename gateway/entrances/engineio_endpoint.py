"""The HTTP endpoint of Engine.IO v4: the handshake of a client that polls, its polls, and what it sends."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.entrances.directory import TIME_LIMIT, Directory
from gateway.entrances.engineio_polling import PollingClient, Status, Verb
from gateway.entrances.engineio_socket import EngineSocket
from gateway.errors import RequestError
from gateway.extensions import AUTHENTICATED, CONNECTIONS
from gateway.protocols.socketio import engineio_errors
from gateway.protocols.socketio.engineio_errors import EngineError, error_body
from gateway.protocols.socketio.engineio_packets import CLOSE, NOOP, SEPARATOR, as_answer, first_part
from gateway.transports.admission import Place
from gateway.transports.client_endpoint import Doorkeeping, Endpoint
from gateway.transports.cors import Header, preflight, shared_with
from gateway.transports.handshake import Handshake, HandshakeRefused, Scope, peer_of
from gateway.transports.http_stream.request_body import TooLarge, body_of
from gateway.transports.long_polling.polling_transport import PollingTransport, Server

# Makes the connection of a new client that polls.
OpenPolling = Callable[[Handshake], EngineSocket]

VERSION = "4"
OLD = "clients of Socket.IO 2 send EIO=3; versions 3 and 4 are served"
_TEXT: Header = (b"content-type", b"text/plain; charset=UTF-8")
_HTML: Header = (b"content-type", b"text/html")
_JSON: Header = (b"content-type", b"application/json")
_UNCACHED: Header = (b"cache-control", b"no-store")


def violation(handshake: Handshake, transport: str) -> EngineError | None:
    """What is wrong with a request that arrived over this transport, in the order of the reference."""
    asked = handshake.parameter("transport")
    if asked not in ("polling", "websocket"):
        return engineio_errors.UNKNOWN_TRANSPORT
    if asked != transport:
        return engineio_errors.BAD_REQUEST
    if not handshake.parameter("sid") and handshake.parameter("EIO") != VERSION:
        return engineio_errors.UNSUPPORTED_VERSION
    return None


class EngineEndpoint(Endpoint):
    """For a Starlette `Route`. Answers with the errors of the protocol."""

    def __init__(
        self,
        shared: Doorkeeping,
        directory: Directory,
        *,
        open_connection: OpenPolling,
        poll_limit: float,
        has_peers: bool,
        message_size: int = 65_536,
    ) -> None:
        """`poll_limit`: seconds for which a request for another node's client may wait; a poll is answered before that
        with a ping.

        `has_peers`: requests of one client may arrive at other nodes.
        `message_size`: bytes of a body at most.
        """
        super().__init__(shared)
        self._directory = directory
        self._open_connection = open_connection
        self._poll_limit = poll_limit
        self._has_peers = has_peers
        self.message_size = message_size
        self.polling_congested: set[PollingTransport] = set()

    async def _take(self, scope: Scope, receive: Any, send: Any) -> bytes | None:
        handshake = Handshake(scope, self._trusted_proxies)
        if scope["method"] == "OPTIONS":
            headers = preflight(self._origins, handshake.origin, "GET, POST", "authorization, content-type")
            await self._answer(scope, send, 204, headers, b"")
            return None
        error = violation(handshake, "polling")
        if (
            error is None
            and scope["method"] != "GET"
            and not (scope["method"] == "POST" and handshake.parameter("sid"))
        ):
            error = engineio_errors.BAD_HANDSHAKE_METHOD
        if error is engineio_errors.UNSUPPORTED_VERSION:
            # The operator should hear of clients that are too old: they only see that nothing works.
            self._admission.refused("version of Engine.IO", address=handshake.address, detail=OLD)
        if error is not None:
            await self._fail(scope, send, error)
            return None
        if scope["method"] == "GET":
            # What follows is only read to learn that the client has left.
            return b""
        try:
            return await body_of(receive, self.message_size)
        except TooLarge:
            await self._refuse(scope, send, engineio_errors.TOO_LARGE, [], b"")
            return None

    async def _let_in(self, handshake: Handshake, scope: Scope, receive: Any, send: Any, place: Place) -> bool:
        self._check_origin(handshake)
        secret = handshake.parameter("sid") or self._open(handshake)
        if scope["method"] == "POST":
            await self._send(scope, send, secret, handshake.body)
        else:
            await self._poll(scope, receive, send, secret)
        return False

    def _open(self, handshake: Handshake) -> str:
        """Open a session. Returns its secret; raises HandshakeRefused.

        It has a place of its own, since no connection of its requests lives as long.
        """
        own = self._admission.enter(peer_of(handshake.scope))
        refusal = own.check(handshake.address)
        if refusal is not None:
            own.leave()
            raise HandshakeRefused(refusal, refusal.message)
        own.opened()
        socket = self._open_connection(handshake)
        offered = handshake.scope.get("extensions", {}).get(CONNECTIONS)
        transport = PollingTransport(
            socket,
            own,
            self.polling_congested,
            part=first_part,
            nothing=NOOP + SEPARATOR,
            end=CLOSE + SEPARATOR,
            server=Server(**offered) if offered is not None else None,
        )
        own.drop = transport.abort
        socket.opened(transport)
        self._directory.opened(PollingClient(socket, transport, may_move=self._has_peers))
        return socket.secret

    async def _send(self, scope: Scope, send: Any, secret: str, body: bytes) -> None:
        # A session that takes no more, say because the application is asked, keeps the answer as long as it likes.
        answer = await self._ask(secret, Verb.SEND + body, self._poll_limit)
        if isinstance(answer, EngineError):
            await self._fail(scope, send, answer)
            return
        self._note(scope, answer)
        await self._answer(scope, send, 200, [_HTML], b"ok")

    async def _poll(self, scope: Scope, receive: Any, send: Any, secret: str) -> None:
        polling = asyncio.create_task(self._ask(secret, Verb.POLL, self._poll_limit))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((polling, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not polling.done():
                # What would answer this poll next is lost.
                await self._ask(secret, Verb.LEAVE, TIME_LIMIT)
                return
            answer = polling.result()
        finally:
            polling.cancel()
            leaving.cancel()
        if isinstance(answer, EngineError):
            await self._fail(scope, send, answer)
            return
        self._note(scope, answer)
        await self._answer(scope, send, 200, [_TEXT, _UNCACHED], as_answer(answer[1:]))

    async def _ask(self, secret: str, request: bytes, seconds: float) -> bytes | EngineError:
        try:
            answer = await self._directory.ask(secret, request, seconds)
        except RequestError:
            # The client starts afresh, at any node.
            return engineio_errors.UNKNOWN_SESSION
        if answer is None:
            return engineio_errors.UNKNOWN_SESSION
        return engineio_errors.BAD_REQUEST if answer[:1] == Status.BAD else answer

    def _note(self, scope: Scope, answer: bytes) -> None:
        """Who knows the secret of a session that has authenticated has done so."""
        if answer[:1] == Status.GOOD and (found := scope.get("extensions", {}).get(AUTHENTICATED)) is not None:
            found["authenticated"]()

    async def _fail(self, scope: Scope, send: Any, error: EngineError) -> None:
        await self._refuse(scope, send, error.status, [_JSON], error_body(error))

    async def _refuse(self, scope: Scope, send: Any, status: int, headers: list[Header], body: bytes) -> None:
        await self._answer(scope, send, status, headers, body)

    async def _answer(self, scope: Scope, send: Any, status: int, headers: list[Header], body: bytes) -> None:
        if scope["method"] != "OPTIONS":
            # Pages learn from the status what is wrong.
            shared = shared_with(self._origins, Handshake(scope, self._trusted_proxies).origin)
            headers = [*headers, *shared, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _left(receive: Any) -> None:
    """Returns when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
