"""The composition root: the only module that knows all parts. Makes a node of them, starts and stops it in order."""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from re import compile as compile_pattern
from typing import Any

import uvloop
from starlette.applications import Starlette
from starlette.routing import BaseRoute, WebSocketRoute

from gateway import log
from gateway.api.health import health_routes
from gateway.api.metrics import metrics_route
from gateway.api.routes import Api
from gateway.auth.origins import OriginPolicy
from gateway.auth.revocations import Revocations
from gateway.auth.tokens import TokenVerifier, is_subscription_token
from gateway.broker.base import Broker, Presence, Registry
from gateway.broker.memory.memory_broker import MemoryBroker
from gateway.broker.memory.memory_registry import MemoryRegistry
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.redis_broker import RedisBroker
from gateway.broker.redis.redis_registry import RedisRegistry
from gateway.channels import Channels
from gateway.config.checks import warnings
from gateway.config.redis_url import Target
from gateway.config.reloading import Reloading, Source, digests
from gateway.config.settings import LimitSettings, ServerSettings
from gateway.control import NodeId, Reloaded
from gateway.demo.routes import demo_routes
from gateway.errors import GatewayError, RequestError
from gateway.guard import Guard
from gateway.hangup import Terminal
from gateway.hub.budget import Budget, Holder
from gateway.hub.encoder import DeltaEncoder, Encoder
from gateway.messages import DEFAULT_APP, Channel, Connect, Position, PresenceRules, Subscribe
from gateway.metrics import Metrics
from gateway.node.node import Node
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.plain import PlainProtocol
from gateway.session.commands import handle
from gateway.session.services import SessionServices
from gateway.session.session import Session
from gateway.session.wheel import TimingWheel
from gateway.transports.admission import Admission
from gateway.transports.drain import Drain
from gateway.transports.http_protocol import HttpOptions
from gateway.transports.scheduler import LoopScheduler
from gateway.transports.server import serve
from gateway.transports.websocket.endpoint import Handshake, WebSocketEndpoint
from gateway.transports.websocket.frames import PING_FRAME, frame

logger = logging.getLogger(__name__)

CENTRIFUGE_SUBPROTOCOL = "centrifuge-json"
OFFSET = compile_pattern("[0-9]{1,18}")


class Gateway:
    """One node with its two applications: `public` for clients, `internal` for operators."""

    def __init__(self, settings: ServerSettings, source: Source | None = None) -> None:
        """Needs a running event loop. `source`: where the settings are read again. Raises ConfigError."""
        self._reloading = Reloading(settings, source)
        settings = opened(settings)
        self.settings = settings
        self.metrics = Metrics()
        self.admission = Admission(settings.limits, self.metrics, trusted_proxies=settings.trusted_proxies)
        guard = Guard(self.metrics.faults)
        self.drain = Drain(settings.drain.window, guard)
        limits, body = settings.limits, settings.api.max_body
        self.options = HttpOptions(
            limits, drain=self.drain, metrics=self.metrics, admission=self.admission, max_body=body
        )
        self.internal_options = HttpOptions(limits, drain=self.drain, metrics=self.metrics, max_body=body)
        scheduler = LoopScheduler()
        revocations = Revocations(scheduler.time)
        self._channels = channels = Channels(settings)
        self._origins = OriginPolicy(settings.origins, settings.auth.cookie)
        uid = NodeId(secrets.token_hex(8))
        broker, registry, presence = engine(settings, uid, self.metrics, channels)
        self.verifier = TokenVerifier(settings.auth, revocations, scheduler.time)
        self.node = Node(
            uid,
            settings.node_name or f"{socket.gethostname()}-{os.getpid()}",
            broker=broker,
            registry=registry,
            presence=presence,
            channels=channels,
            revocations=revocations,
            scheduler=scheduler,
            metrics=self.metrics,
            max_publications=limits.history,
            max_bytes=recovered_bytes(limits),
        )
        self.node.settings = digests(settings)
        self.node.on_reload = self._reload
        self.node.on_drain = self._drain_clients
        self.node.url = settings.node_url
        self.node.internal_address = ", ".join(settings.internal_listen)
        self._services = SessionServices(
            app=DEFAULT_APP,
            node=self.node,
            channels=channels,
            verifier=self.verifier,
            limits=limits,
            heartbeat=settings.heartbeat,
            anonymous=settings.auth.anonymous,
            wheel=TimingWheel(scheduler, guard),
            scheduler=scheduler,
            metrics=self.metrics,
            guard=guard,
            refusals=log.Refusals(),
            handle=handle,
        )
        self._budget = budget = Budget(limits.waiting, scheduler, self.metrics)
        outboxes = self._services.outboxes
        budget.watch("slow client", lambda: outboxes, lambda: outboxes.held)
        budget.watch("fan-out", self.node.hub.behind)
        budget.watch("read", lambda: self.node.streams.holders)
        budget.watch("request", lambda: self._services.inboxes)
        budget.watch("socket", self._keeping)
        # One encoder each: its identity names the delivery group of all its connections.
        self._centrifuge = Encoder(CentrifugeProtocol(), frame, PING_FRAME)
        self._centrifuge.delta = DeltaEncoder(CentrifugeProtocol(), frame, PING_FRAME)
        self._plain = Encoder(PlainProtocol(), frame, PING_FRAME)
        self._api = Api(self.node, channels, settings, self.metrics)
        self._endpoints = [self._endpoint(self._open_centrifuge), self._endpoint(self._open_plain)]
        self.public = Starlette(routes=self._public_routes(), lifespan=self._lifespan)
        self.internal = Starlette(routes=self._internal_routes())

    def _keeping(self) -> Iterator[Holder]:
        """Sockets that keep bytes, and those of plain ASGI."""
        return chain(self.options.keeping, *(endpoint.congested for endpoint in self._endpoints))

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What reaches the event loop itself has passed everybody who should have caught it: count it too."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self._services.guard.failed("loop", context.get("message", ""), error)

    def start_draining(self) -> None:
        """Not ready from now on; the connections are closed a little later."""
        self.node.draining = True

    def _drain_clients(self) -> None:
        """What SIGTERM does to clients, without the end: balancers notice, then all are closed within the window."""

        def close() -> None:
            # Whoever is on its way is refused, or closed as soon as it is there.
            self.admission.draining = True
            self.drain.start()
            for session in (*self._services.opening, *self.node.clients):
                self.drain.add(session.shutdown)

        asyncio.get_running_loop().call_later(self.settings.drain.delay, close)

    def _reload(self) -> Reloaded:
        """Read the settings again; takes 20 ms, most of it to check them. Closes nothing, and raises nothing."""
        try:
            change = self._reloading.read()
            settings = opened(change.settings)
            self._apply(settings)
        except GatewayError as error:
            logger.error("the settings cannot be used, those before stay in force: %s", error)
            return Reloaded(self.node.uid, str(error))
        except Exception:
            logger.exception("the settings could not be read again, those before stay in force")
            return Reloaded(self.node.uid, "internal error; the log of the node has it")
        self._reloading.take(change)
        known = warnings(self.settings)
        for warning in warnings(settings):
            if warning not in known:
                logger.warning("%s", warning)
        self.settings = settings
        self.node.settings = digests(settings)
        logger.info("read the settings again", extra={"changed": ", ".join(change.changed) or "nothing"})
        if change.needs_restart:
            logger.warning(
                "settings have changed that need a restart", extra={"settings": ", ".join(change.needs_restart)}
            )
        return Reloaded(self.node.uid, changed=change.changed, needs_restart=change.needs_restart)

    def _apply(self, settings: ServerSettings) -> None:
        """Let these hold, in one step: before it all is made that can fail. Raises ConfigError."""
        channels = Channels(settings)
        verifier = self.verifier.like(settings.auth)
        origins = OriginPolicy(settings.origins, settings.auth.cookie)
        self._channels.adopt(channels)
        self.verifier.adopt(verifier)
        self._origins.adopt(origins)
        limits = settings.limits
        self.admission.apply(limits)
        for options in (self.options, self.internal_options):
            options.apply(limits)
        for endpoint in self._endpoints:
            endpoint.message_size = limits.frame_size
        self._services.limits = limits
        self._budget.limit = limits.waiting
        self._services.anonymous = settings.auth.anonymous
        self.node.streams.max_publications = limits.history
        self.node.streams.max_bytes = recovered_bytes(limits)
        self._api.apply(settings)

    def _public_routes(self) -> list[BaseRoute]:
        settings = self.settings
        centrifuge, plain = self._endpoints
        # The first that matches serves: those that are asked for most stand first.
        return [
            *(self._api.routes if settings.api.public else []),
            WebSocketRoute("/connection/websocket", centrifuge),
            WebSocketRoute("/ws/{channel:path}", plain),
            *health_routes(self.node, public=True),
            *(demo_routes(self.node) if settings.demo else []),
        ]

    def _internal_routes(self) -> list[BaseRoute]:
        return [*health_routes(self.node, public=False), metrics_route(self.metrics), *self._api.routes]

    def _endpoint(self, open_connection: Callable[[Handshake], tuple[Session, str | None]]) -> WebSocketEndpoint:
        settings = self.settings
        return WebSocketEndpoint(
            origins=self._origins,
            admission=self.admission,
            open_connection=open_connection,
            trusted_proxies=settings.trusted_proxies,
            metrics=self.metrics,
            message_size=settings.limits.frame_size,
        )

    def _open_centrifuge(self, handshake: Handshake) -> tuple[Session, str | None]:
        offered = CENTRIFUGE_SUBPROTOCOL in handshake.subprotocols
        return Session(self._services, self._centrifuge), CENTRIFUGE_SUBPROTOCOL if offered else None

    def _open_plain(self, handshake: Handshake) -> tuple[Session, str | None]:
        channel = handshake.path_params["channel"]
        if handshake.path.endswith("\n"):
            # Patterns of routes end before it (`$`); the name is no other channel's, but not a valid one.
            channel += "\n"
        token, subprotocol = find_token(handshake, self.settings.auth.cookie)
        by_grant = is_subscription_token(token)
        since = position(handshake.parameter("since"))
        initial = (
            Connect(1, token, by_grant=by_grant, positions={channel: since} if since else {}),
            Subscribe(2, channel, token if by_grant else "", since=since),
        )
        return Session(self._services, self._plain, home=channel, initial=initial), subprotocol

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Keys first, since connections need them at once; then the cluster. Left in the opposite order."""
        await self.verifier.start()
        try:
            await self.node.start()
            self._budget.start()
            yield
            self._budget.stop()
            await self.node.stop()
        finally:
            await self.verifier.stop()


def opened(settings: ServerSettings) -> ServerSettings:
    """`no_auth` and `demo` spelled out: anonymous clients, and an API without a key (but never for browsers)."""
    if not (settings.no_auth or settings.demo):
        return settings
    return settings.model_copy(
        update={
            "auth": settings.auth.model_copy(update={"anonymous": True}),
            "api": settings.api.model_copy(update={"insecure": settings.api.insecure or not settings.api.keys}),
        }
    )


def recovered_bytes(limits: LimitSettings) -> int:
    """Half of what a client may have waiting: a recovery must not make it a slow one."""
    return limits.outbox // 2


def engine(
    settings: ServerSettings, uid: NodeId, metrics: Metrics, channels: Channels
) -> tuple[Broker, Registry, Presence]:
    """The engine that the settings ask for."""
    if settings.redis.url is None:
        memory = MemoryBroker(metrics)
        return memory, MemoryRegistry(), memory.presence

    def rules(channel: Channel) -> PresenceRules:
        try:
            return channels.resolve(channel.app, channel.name).presence or PresenceRules()
        except RequestError:
            # Of a namespace that other nodes have: nobody is told.
            return PresenceRules()

    assert settings.redis.url is not None
    database = Target.of(settings.redis.url.get_secret_value()).database
    keys = Keys(settings.redis.prefix, settings.redis.partitions, database)
    registry = RedisRegistry(settings.redis, uid, keys, Guard(metrics.faults))
    broker = RedisBroker(settings.redis, uid, keys, registry, metrics, rules)
    return broker, registry, broker.presence


def find_token(handshake: Handshake, cookie: str) -> tuple[str, str | None]:
    """The token of a plain connection and the subprotocol to accept: where there is room for one, in this order.

    `Sec-WebSocket-Protocol: token, TOKEN` (browsers can set no other header), `Authorization: Bearer TOKEN`,
    the cookie of the settings, `?token=TOKEN`.
    """
    offered = handshake.subprotocols
    if len(offered) == 2 and offered[0] == "token":
        return offered[1], "token"
    scheme, _, credentials = handshake.header("authorization").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip(), None
    if cookie and (token := handshake.cookie(cookie)):
        return token, None
    return handshake.parameter("token"), None


def position(text: str) -> Position | None:
    """The `EPOCH:OFFSET` from which a plain connection goes on; None when it names none.

    What is no position is one of an epoch that never was, so that the client is told that it is gone.
    """
    if not text:
        return None
    epoch, _, offset = text.rpartition(":")
    return Position(int(offset), epoch) if OFFSET.fullmatch(offset) else Position(0, text)


def run_node(
    settings: ServerSettings,
    *,
    sockets: Sequence[socket.socket] | None = None,
    internal_sockets: Sequence[socket.socket] | None = None,
    on_ready: Callable[[], object] | None = None,
    source: Source | None = None,
) -> int:
    """Run one node until a signal ends it; the exit code. Raises GatewayError when it cannot start.

    `sockets`: listening sockets to serve clients on, in place of `listen`; `internal_sockets` in place of
    `internal_listen`. `on_ready` is called once the node accepts. `source`: where the settings are read again, then
    also on SIGHUP.
    """
    log.configure(settings.log, sys.stderr, settings.node_name)
    if source is not None:
        # One that comes before the node can read them waits until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

    async def main() -> None:
        gateway = Gateway(settings, source)
        asyncio.get_running_loop().set_exception_handler(gateway.on_loop_error)
        if source is not None:
            await_hangups(gateway.node)
        await serve(
            gateway.public,
            gateway.internal,
            gateway.settings,
            public_sockets=sockets,
            internal_sockets=internal_sockets,
            options=gateway.options,
            internal_options=gateway.internal_options,
            on_started=on_ready or (lambda: None),
            on_draining=gateway.start_draining,
        )

    uvloop.run(main())
    return 0


def await_hangups(node: Node) -> None:
    """Reload on SIGHUP, which was blocked until now; it ends the node when it says that its terminal was closed."""
    terminal = Terminal()

    def hung_up() -> None:
        if terminal.is_closed:
            signal.raise_signal(signal.SIGTERM)
        else:
            node.reload()

    # nohup ignores it on purpose.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
