"""Servers with a recording connection behind them, in a thread of their own."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.auth.origins import OriginPolicy
from gateway.config.settings import ApiSettings, DrainSettings, LimitSettings, OriginSettings, ServerSettings
from gateway.extensions import AUTHENTICATED
from gateway.metrics import Metrics
from gateway.protocols.wire_protocol import Message
from gateway.session.transport import Connection
from gateway.transports.admission import Admission, Refusal
from gateway.transports.client_endpoint import Doorkeeping
from gateway.transports.drain import Drain
from gateway.transports.handshake import Handshake, HandshakeRefused
from gateway.transports.http_options import HttpOptions
from gateway.transports.http_stream.stream_endpoint import StreamEndpoint
from gateway.transports.http_stream.stream_framing import BodyFraming, ChunkedFraming
from gateway.transports.lifespan import Lifespan
from gateway.transports.server import GatewayServer, Listener
from gateway.transports.websocket.compression import Compression
from gateway.transports.websocket.websocket_endpoint import WebSocketEndpoint
from tests.fakes import GUARD
from tests.transports.recording import RecordingConnection


class Site:
    """An application with a recording endpoint, ordinary routes, and what the transports count."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.admission = Admission(settings.limits, self.metrics)
        self.drain = Drain(settings.drain.window, GUARD)
        self.connections: list[RecordingConnection] = []
        self.opened = threading.Condition()
        self.handshakes: list[dict[str, Any]] = []
        self.origins = OriginPolicy(settings.origins, settings.auth.cookie)
        self.address = ("", 0)
        self.loop: asyncio.AbstractEventLoop | None = None
        # Those of the server that it would ask to end.
        self.sockets: set[Any] = set()

    @property
    def last(self) -> RecordingConnection:
        return self.connections[-1]

    def app(self) -> Starlette:
        shared = Doorkeeping(self.origins, self.admission, self.settings.trusted_proxies, self.metrics)
        endpoint = WebSocketEndpoint(shared, open_connection=self._open)
        stream = StreamEndpoint(shared, open_connection=self._open_stream, message_size=100_000)
        routes: list[BaseRoute] = [
            WebSocketRoute("/record", endpoint),
            WebSocketRoute("/record/{channel:path}", endpoint),
            Route("/stream/{channel}", stream),
            WebSocketRoute("/echo", _echo),
            Route("/hello", lambda request: PlainTextResponse("hello")),
            Route("/known", _known),
            Route("/bytes/{count:int}", _bytes),
            Route("/size", _size, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    def _open(self, handshake: Handshake) -> tuple[Connection, str | None]:
        self.handshakes.append(
            {
                "path": handshake.path,
                "path_params": dict(handshake.path_params),
                "query": {name: handshake.parameter(name) for name in ("token", "empty", "a")},
                "token cookie": handshake.cookie("token"),
                "subprotocols": list(handshake.subprotocols),
                "address": handshake.address,
                "x-test": handshake.header("X-Test"),
            }
        )
        if status := handshake.parameter("refuse"):
            raise HandshakeRefused(Refusal(int(status), "handshake", ""), "not today")
        return self._record(RecordingConnection()), handshake.subprotocols[0] if handshake.subprotocols else None

    def _open_stream(self, handshake: Handshake, is_framed: bool) -> tuple[Connection, str]:
        if status := handshake.parameter("refuse"):
            raise HandshakeRefused(Refusal(int(status), "handshake", ""), "not today")
        framing = ChunkedFraming if is_framed else BodyFraming
        return self._record(RecordingConnection(framing(lines, b"\n"))), "text/plain"

    def _record(self, connection: RecordingConnection) -> RecordingConnection:
        with self.opened:
            self.connections.append(connection)
            self.opened.notify_all()
        return connection

    def wait_for_connection(self, count: int = 1) -> RecordingConnection:
        """Block until so many have come, and are open; the last of them."""
        with self.opened:
            assert self.opened.wait_for(lambda: len(self.connections) >= count, 10)
        self.connections[count - 1].wait_for("opened")
        return self.connections[count - 1]

    def call(self, function: Callable[[], Any]) -> Any:
        """Run something on the server's loop and wait for it."""

        async def run() -> Any:
            return function()

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """The server's loop does nothing meanwhile: all that is sent comes to it at once."""
        assert self.loop is not None
        stands, goes_on = threading.Event(), threading.Event()

        def block() -> None:
            stands.set()
            goes_on.wait(10)

        self.loop.call_soon_threadsafe(block)
        assert stands.wait(10)
        try:
            yield
        finally:
            goes_on.set()

    def wait_until_empty(self) -> None:
        """Until no connection is left, and none is counted."""
        until = time.monotonic() + 10
        while self.call(lambda: self.admission.total) and time.monotonic() < until:
            pass
        counted = self.admission
        assert (
            self.call(lambda: (counted.total, counted.unauthenticated, counted.clients, len(self.sockets))) == (0,) * 4
        )

    # Clients

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 10)

    @property
    def url(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"


def lines(messages: Sequence[Message]) -> bytes:
    """Messages in a body, a line each."""
    return b"".join(message.data + b"\n" for message in messages)


async def _known(request: Request) -> Response:
    """Says that the connection has proved who it is."""
    request.scope["extensions"][AUTHENTICATED]["authenticated"]()
    return PlainTextResponse("hello")


async def _bytes(request: Request) -> Response:
    return Response(b"x" * request.path_params["count"])


async def _echo(websocket: WebSocket) -> None:
    """An ordinary WebSocket route: echoes, and obeys `close` and `raise`."""
    await websocket.accept(headers=[(b"x-route", b"echo")])
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") == "close":
                await websocket.close(4001, "as you wish")
                return
            if message.get("text") == "raise":
                raise RuntimeError("as you wish")
            if message.get("text") == "return":
                return
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


async def _size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


def settings_of(**limits: Any) -> ServerSettings:
    """Settings for tests: short timeouts, every origin of example.com."""
    return ServerSettings(
        limits=LimitSettings(**limits),
        origins=OriginSettings(allowed=("https://example.com",)),
        api=ApiSettings(max_body=100_000),
        drain=DrainSettings(window=0),
    )


@contextmanager
def fast_site(
    settings: ServerSettings,
    tls: ssl.SSLContext | None = None,
    app: Any = None,
    run: Callable[[Coroutine[Any, Any, None]], None] = uvloop.run,
) -> Iterator[Site]:
    """Our server in a thread, on uvloop or another loop; with another application than the recording one if need be."""
    site = Site(settings)
    starlette = site.app()
    app = app or starlette
    listener = socket.create_server(("127.0.0.1", 0))
    internal = socket.create_server(("127.0.0.1", 0))
    site.address = listener.getsockname()
    started = threading.Event()
    options = HttpOptions(
        settings.limits,
        drain=site.drain,
        metrics=site.metrics,
        admission=site.admission,
        max_body=settings.api.max_body,
        compression=Compression(settings.compression) if settings.compression.enabled else None,
    )
    public = Listener(app, options, [listener], "listen", tls)
    site.sockets = public.state.connections
    operators = HttpOptions(settings.limits, drain=site.drain, metrics=site.metrics)
    server = GatewayServer(
        public,
        Listener(Starlette(), operators, [internal], "internal_listen"),
        Lifespan(starlette),
        settings.drain,
        on_started=started.set,
        on_draining=lambda: None,
    )

    async def main() -> None:
        site.loop = asyncio.get_running_loop()
        await server.serve()

    thread = threading.Thread(target=lambda: run(main()))
    thread.start()
    assert started.wait(10)
    try:
        yield site
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


@contextmanager
def asgi_site(settings: ServerSettings, app: Any = None) -> Iterator[Site]:
    """The same under uvicorn as it comes."""
    site = Site(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    site.address = listener.getsockname()
    config = uvicorn.Config(
        app or site.app(),
        ws="websockets-sansio",
        proxy_headers=False,
        log_config=None,
        log_level="critical",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        site.loop = asyncio.get_running_loop()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    try:
        yield site
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Our server with settings of its own, shared by the tests of a module."""
    with fast_site(settings_of()) as running:
        yield running
