"""One node's server: two listeners on one loop, started and stopped in order."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.requests import ClientDisconnect

from gateway import listeners
from gateway.config.settings import DrainSettings, ServerSettings
from gateway.listeners import BACKLOG
from gateway.transports.acceptor import Acceptor
from gateway.transports.admission import raise_descriptor_limit
from gateway.transports.http_options import HttpOptions
from gateway.transports.http_protocol import GatewayHttpProtocol
from gateway.transports.lifespan import Lifespan
from gateway.transports.tls import tls_context
from gateway.transports.uvicorn_internals import ServerState

logger = logging.getLogger(__name__)

# Seconds for what is left after the drain: unanswered close frames, requests in progress.
GRACE = 1.0
# Seconds between two checks of what is left.
POLL = 0.05
# How often a request that is dropped is cancelled, POLL apart.
CANCELLATIONS = 40
# Net new objects before the garbage collector examines the youngest generation, and passes of one generation before a
# pass of the next. A connection has 9 objects that the collector tracks, and no cycle. With 19,000 connections a pass
# took 0.3 ms for the youngest generation, 8 ms for 200,000 objects in the middle one, 20 ms for all. With these
# thresholds the middle one has 50,000 (2 ms), and a full pass comes once in 5 million objects.
GC_THRESHOLDS = (5_000, 10, 100)


class Listener:
    """The addresses of one application: their sockets, and the connections accepted on them."""

    def __init__(
        self,
        app: Any,
        options: HttpOptions,
        sockets: Sequence[socket.socket],
        setting: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`setting` is named in the error when an address cannot be used. TLS needs options with an admission."""
        self.state = ServerState()
        http_class: Any = partial(GatewayHttpProtocol, options)
        self.config = uvicorn.Config(
            _quiet(app),
            http=http_class,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            server_header=False,
            workers=1,
        )
        self._sockets = sockets
        self._setting = setting
        self._options = options
        self._tls = tls
        self._acceptor: Acceptor | None = None
        self._servers: list[asyncio.AbstractServer] = []
        # Where it listens. Kept here because a socket that fails to listen is closed and has no address any more.
        self.urls = [listeners.shown(each, "https" if tls else "http") for each in sockets]

    async def open(self, app_state: dict[str, Any]) -> None:
        """Accept connections. Raises ConfigError."""
        loop = asyncio.get_running_loop()
        self.config.load()

        def make_protocol() -> Any:
            factory: Any = self.config.http_protocol_class
            return factory(config=self.config, server_state=self.state, app_state=app_state, _loop=loop)

        if self._options.admission is not None:
            self._acceptor = Acceptor(make_protocol, self._options, self._tls)
            self._options.on_overflow = self._accept_crowd
        for listener, url in zip(self._sockets, self.urls, strict=True):
            listener.setblocking(False)
            create = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
            try:
                if self._acceptor is not None and self._tls is not None:
                    self._acceptor.listen(listener, BACKLOG)
                else:
                    self._servers.append(await create(make_protocol, sock=listener, backlog=BACKLOG))
            except OSError as error:
                raise listeners.refused(url, self._setting, error) from error

    def _accept_crowd(self) -> None:
        assert self._acceptor is not None
        # When no descriptor is left, the servers pause by themselves.
        with suppress(OSError):
            for listener in self._sockets:
                self._acceptor.accept_waiting(listener)

    def stop_accepting(self) -> None:
        """Close the listening sockets: the system refuses new connections, open ones stay."""
        for listener in self._sockets:
            listeners.remove_file(listener)
        if self._acceptor is not None:
            self._acceptor.close()
        for server in self._servers:
            server.close()
        for listener in self._sockets:
            listener.close()

    def shut_down(self) -> None:
        """Ask every connection to end."""
        for connection in list(self.state.connections):
            connection.shutdown()

    async def wait_closed(self, seconds: float) -> None:
        """Return when all connections and requests have ended; after `seconds` drop the rest."""
        try:
            async with asyncio.timeout(seconds):
                while self.state.connections or self.state.tasks:  # noqa: ASYNC110 - uvicorn keeps plain sets
                    await asyncio.sleep(POLL)
        except TimeoutError:
            left = (len(self.state.connections), len(self.state.tasks))
            logger.warning("dropping %d connections and %d requests that did not end in time", *left)
            await self._drop()

    async def _drop(self) -> None:
        for connection in list(self.state.connections):
            connection.abort()  # type: ignore[union-attr]  # uvicorn names its own classes
        # Requests learn that their client is gone before they are cancelled.
        await asyncio.sleep(0)
        # More than once: see `end_task`. One that goes on all the same is left to itself.
        for _ in range(CANCELLATIONS):
            tasks = list(self.state.tasks)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=POLL)


def _quiet(app: Any) -> Any:
    """The application, without the errors of requests whose client has left or that are dropped at shutdown."""

    async def quiet(scope: Any, receive: Any, send: Any) -> None:
        with suppress(ClientDisconnect, asyncio.CancelledError):
            await app(scope, receive, send)

    return quiet


class GatewayServer(uvicorn.Server):
    """uvicorn's handling of signals and dates, with our own startup and shutdown.

    The first signal starts the shutdown: the node reports not ready, waits for load balancers to notice, stops
    accepting, drains, and stops the application. The internal listener answers until then. A second signal ends the
    process at once.
    """

    def __init__(
        self,
        public: Listener,
        internal: Listener,
        lifespan: Lifespan,
        drain: DrainSettings,
        *,
        on_started: Callable[[], object],
        on_draining: Callable[[], object],
        on_hurry: Callable[[], object] | None = None,
    ) -> None:
        """`on_started` is called once both listeners accept, `on_draining` when the shutdown begins.

        `on_hurry`: SIGINT ends the server without the window of the drain, and calls this in its signal handler.
        """
        super().__init__(public.config)
        self.server_state = public.state
        self._public = public
        self._internal = internal
        self._lifespan = lifespan
        self._drain = drain
        self._on_hurry = on_hurry
        self._on_started = on_started
        self._on_draining = on_draining

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        opened = [self._internal, self._public]
        try:
            await self._lifespan.startup()
            try:
                for listener in opened:
                    await listener.open(self._lifespan.state)
                self._announce()
                await self.main_loop()
                await self._end_clients()
            finally:
                await self._lifespan.shutdown()
        finally:
            for listener in opened:
                listener.stop_accepting()
                listener.shut_down()
            for listener in opened:
                await listener.wait_closed(GRACE)

    def _announce(self) -> None:
        self.started = True
        urls = {"public": " ".join(self._public.urls), "internal": " ".join(self._internal.urls)}
        logger.info("serving", extra=urls)
        self._on_started()

    async def on_tick(self, counter: int) -> bool:
        """Every 100 ms: update the Date header of responses; returns whether to end."""
        ends = await super().on_tick(counter)
        self._internal.state.default_headers = self._public.state.default_headers
        return ends

    async def _end_clients(self) -> None:
        """Everything from the first signal until the application is stopped."""
        self._on_draining()
        extra = {"connections": len(self._public.state.connections), "window": self._drain.window}
        logger.info("shutting down", extra=extra)
        await asyncio.sleep(self._drain.delay)
        self._public.stop_accepting()
        self._public.shut_down()
        await self._public.wait_closed(self._drain.window + GRACE)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts an orderly shutdown, the second has its default effect."""
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        elif sig == signal.SIGINT and self._on_hurry is not None:
            self._drain = self._drain.model_copy(update={"window": 0.0})
            self._on_hurry()
        self.should_exit = True


async def serve(
    public: Any,
    internal: Any | None,
    settings: ServerSettings,
    *,
    options: HttpOptions,
    internal_options: HttpOptions,
    public_sockets: Sequence[socket.socket] | None = None,
    internal_sockets: Sequence[socket.socket] | None = None,
    on_started: Callable[[], object] = lambda: None,
    on_draining: Callable[[], object] = lambda: None,
    interrupt_hurries: bool = False,
) -> None:
    """Run both applications until a signal ends them. Raises ConfigError, and what the lifespan of `public` raises.

    Sockets given here are served instead of the addresses in the settings, and closed at the end. With
    `interrupt_hurries`, SIGINT closes all connections at once, without `drain.window`.
    """
    raise_descriptor_limit()
    tls = tls_context(settings.tls)
    with ExitStack() as unless_bound:
        if public_sockets is None:
            public_sockets = listeners.bind(settings.listen, "listen")
            for each in public_sockets:
                unless_bound.callback(listeners.discard, each)
        if internal_sockets is None:
            wanted = settings.internal_listen if internal is not None else ()
            internal_sockets = listeners.bind(wanted, "internal_listen")
        unless_bound.pop_all()
    clients = Listener(public, options, public_sockets, "listen", tls)
    operators = Listener(internal, internal_options, internal_sockets, "internal_listen")

    def started() -> None:
        _spare_collector()
        on_started()

    server = GatewayServer(
        clients,
        operators,
        Lifespan(public),
        settings.drain,
        on_started=started,
        on_draining=on_draining,
        on_hurry=options.drain.hurry if interrupt_hurries else None,
    )
    await server.serve()


def _spare_collector() -> None:
    """Tune the garbage collector: what exists now stays until the end, and most later objects live long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
