"""The composition root, the only module that knows all parts: builds a node, and starts and stops it in order."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from gateway import log
from gateway.api.health import health_routes
from gateway.api.metrics_route import metrics_route
from gateway.api.routes import Api
from gateway.auth.origins import OriginPolicy
from gateway.auth.revocations import Revocations
from gateway.auth.token_verifier import TokenVerifier
from gateway.broker.base import Broker, EventLog, Ledger, Presence, Registry
from gateway.broker.memory.memory_broker import MemoryBroker
from gateway.broker.memory.memory_events import MemoryEvents
from gateway.broker.memory.memory_registry import MemoryRegistry
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.redis_broker import RedisBroker
from gateway.broker.redis.redis_registry import RedisRegistry
from gateway.broker.redis.survey import Survey, survey
from gateway.channels import Channels
from gateway.config.redis_url import Target
from gateway.config.reloading import Source
from gateway.config.settings import LimitSettings, ServerSettings
from gateway.control import NodeId, Reloaded
from gateway.demo.demo_routes import demo_routes
from gateway.demo.root_route import root_route
from gateway.entrances import ENTRANCES
from gateway.entrances.directory import Directory
from gateway.entrances.doors import Doors
from gateway.entrances.entrance import Entrance
from gateway.entrances.lost import internal_routes, nowhere, nowhere_internal
from gateway.entrances.shared_paths import shared_paths
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.hooks.fitting import check_fit
from gateway.hooks.hooks import Hooks
from gateway.hooks.node_hooks import NodeHooks
from gateway.hub.budget import Budget, Holder
from gateway.in_force import SettingsInForce
from gateway.messages import DEFAULT_APP, Channel, PresenceRules
from gateway.metrics import Metrics
from gateway.node.administration import Administration, Profile
from gateway.node.bridge import Bridge
from gateway.node.clients import Clients
from gateway.node.messaging import Messaging
from gateway.node.node import Node
from gateway.node.notifier import Notifier, watched
from gateway.scheduler import Scheduler
from gateway.session.commands import run
from gateway.session.decoding import decode, read
from gateway.session.notes import Notes
from gateway.session.services import SessionServices
from gateway.session.session import Session
from gateway.session.wheel import TimingWheel
from gateway.transports.admission import Admission
from gateway.transports.drain import Drain
from gateway.transports.handshake import Handshake, Scope
from gateway.transports.http_options import HttpOptions
from gateway.transports.loop_scheduler import LoopScheduler
from gateway.transports.websocket.compression import Compression


class Engine(NamedTuple):
    """What carries messages between nodes, and keeps what they share."""

    broker: Broker
    registry: Registry
    presence: Presence
    ledger: Ledger
    event_log: EventLog


class Composition:
    """A node with two applications: `public` for clients, `internal` for operators. Implements the Host port."""

    def __init__(
        self,
        settings: ServerSettings,
        source: Source | None = None,
        entrances: Sequence[Entrance] = ENTRANCES,
        *,
        hooks: Hooks | None = None,
        scheduler: Scheduler | None = None,
        killed_from: Sequence[str] = (),
    ) -> None:
        """Needs a running event loop. `source`: where settings are reloaded from; `killed_from`: see `demo_routes`.

        `scheduler`: None for the time of the loop.

        Raises ConfigError.
        """
        self._in_force = SettingsInForce(settings, source)
        settings = self._in_force.settings
        self.metrics = Metrics()
        self.admission = Admission(settings.limits, self.metrics, trusted_proxies=settings.trusted_proxies)
        guard = Guard(self.metrics.faults)
        self.drain = Drain(settings.drain.window, guard)
        self._origins = OriginPolicy(settings.origins, settings.auth.cookie)
        limits, body = settings.limits, settings.api.max_body
        self.options = HttpOptions(
            limits,
            drain=self.drain,
            metrics=self.metrics,
            admission=self.admission,
            max_body=body,
            compression=Compression(settings.compression) if settings.compression.enabled else None,
            shared_paths=shared_paths(entrances, self._origins),
        )
        self.internal_options = HttpOptions(limits, drain=self.drain, metrics=self.metrics, max_body=body)
        scheduler = scheduler or LoopScheduler()
        revocations = Revocations(scheduler.time)
        self.channels = channels = Channels(settings)
        self._declared = hooks = hooks or Hooks()
        check_fit(hooks, settings, channels)
        uid = NodeId(secrets.token_hex(8))
        self._hooks = NodeHooks(hooks, settings.hooks.http, self.metrics, guard)
        application = self._hooks.application
        broker, registry, presence, ledger, event_log = engine(
            settings, uid, self.metrics, channels, lambda: self.settings, scheduler.time
        )
        self._ledger = ledger
        self._broker = broker
        registry.watches = lambda channel: watched(application, channel.name)
        self._notifier = None
        if application.hears_ends or application.hears_changes:
            self._notifier = Notifier(
                event_log, application, scheduler, self.metrics, guard, lambda: not broker.health().ok
            )
        self.verifier = TokenVerifier(settings.auth, revocations, scheduler.time)
        self.clients = Clients(scheduler.now)
        self.messaging = Messaging(
            broker=broker,
            registry=registry,
            presence=presence,
            channels=channels,
            scheduler=scheduler,
            metrics=self.metrics,
            max_publications=limits.history,
            max_bytes=recovered_bytes(limits),
        )
        self._bridge = None
        if settings.socketio.emitters.enabled and isinstance(broker, RedisBroker):
            self._bridge = Bridge(
                broker.emitters(settings.socketio.emitters),
                self.messaging.publish,
                channels,
                self._hooks.payloads,
                lambda: self.settings,
                scheduler.time,
                self.metrics,
            )
        self.administration = Administration(
            profile(settings, uid),
            self,
            clients=self.clients,
            hub=self.messaging.hub,
            broker=broker,
            registry=registry,
            revocations=revocations,
            scheduler=scheduler,
            guard=guard,
        )
        ledger.on_closed = self.administration.end_reported
        directory = Directory(uid, broker.relay)
        self.node = Node(broker, self.messaging, self.administration, self.metrics, directory.on_relayed)
        self._services = SessionServices[Session](
            app=DEFAULT_APP,
            node_name=self.administration.profile.name,
            clients=self.clients,
            messaging=self.messaging,
            application=application,
            channels=channels,
            verifier=self.verifier,
            limits=limits,
            heartbeat=settings.heartbeat,
            anonymous=settings.auth.anonymous,
            wheel=TimingWheel(scheduler, guard),
            scheduler=scheduler,
            corks=self.messaging.hub.corks,
            metrics=self.metrics,
            guard=guard,
            refusals=log.Refusals(),
            notes=Notes(ledger, application) if application.hears_ends else None,
            read=read,
            decode=decode,
            run=run,
            payloads=self._hooks.payloads,
        )
        self._budget = budget = Budget(limits.waiting, scheduler, self.metrics)
        outboxes = self._services.outboxes
        budget.watch("slow client", lambda: outboxes, lambda: outboxes.held)
        budget.watch("fan-out", self.messaging.hub.behind)
        budget.watch("read", lambda: self.messaging.tracker.holders)
        budget.watch("request", lambda: self._services.inboxes)
        budget.watch("socket", self._keeping)
        self._api = Api(
            self.messaging, self.administration, channels, settings, self.metrics, self._address, self._hooks.payloads
        )
        self._doors = Doors(
            entrances,
            settings,
            services=self._services,
            origins=self._origins,
            admission=self.admission,
            metrics=self.metrics,
            directory=directory,
        )
        self._watch_settings()
        # The methods of the API, for an application that the node is part of.
        self.methods = self._api.methods
        self.public = Starlette(routes=self._public_routes(killed_from), lifespan=self._lifespan)
        self.internal = Starlette(routes=self._internal_routes(entrances))
        for served in (self.public, self.internal):
            # A path with a slash too many is not found. The address in a redirect would be that of the client's Host
            # header, with the scheme of the proxy's request: an API key could follow it in plain text.
            served.router.redirect_slashes = False
        # (A route for all paths would answer 404 instead of 405 where a path has another method.)
        self.public.router.default = nowhere(entrances, api=settings.api.public)
        self.internal.router.default = nowhere_internal()

    def _address(self, scope: Scope) -> str:
        """Of the client that sent a request, as far as trusted proxies vouch for it."""
        return Handshake(scope, self.settings.trusted_proxies).address

    def _keeping(self) -> Iterator[Holder]:
        """Connections that hold bytes, on sockets and over plain ASGI."""
        return chain(self.options.keeping, self._doors.congested())

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count an exception that nothing caught before it reached the event loop."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self._services.guard.failed("loop", context.get("message", ""), error)

    def start_draining(self) -> None:
        """Report not ready from now on; the connections are closed a little later."""
        self.administration.start_draining()

    def drain_clients(self) -> None:
        """Drain clients as SIGTERM does, but keep running: wait for load balancers, then close all in the window."""
        asyncio.get_running_loop().call_later(self.settings.drain.delay, self.close_clients)

    def close_clients(self) -> None:
        """Close all in the window of the drain, and let nobody in."""
        self.start_draining()
        # Clients still connecting are refused, or closed once they have connected.
        self.admission.draining = True
        self.drain.start()
        for each in (*self._doors.unjoined, *self._services.opening, *self.clients):
            self.drain.add(each.shutdown)

    def reload(self) -> Reloaded:
        """Read the settings again. Raises nothing."""
        return self._in_force.reload(self.administration.profile.uid)

    def lose_data(self) -> None:
        """For tests without Redis: lose all histories, as a Redis does that restarts without its data."""
        assert isinstance(self._broker, MemoryBroker)
        self._broker.lose_data()

    @property
    def settings(self) -> ServerSettings:
        """The settings in force."""
        return self._in_force.settings

    @property
    def digests(self) -> Mapping[str, str]:
        """Digests of the settings that all nodes must agree on."""
        return self._in_force.digests

    def _watch_settings(self) -> None:
        """Register what a reload replaces. Sessions ask these parts on every request, so they need no notice."""
        services = self._services
        self._in_force.watch(
            lambda settings: partial(self.channels.adopt, self._channels_for(settings)),
            lambda settings: partial(self.verifier.adopt, self.verifier.like(settings.auth)),
            lambda settings: partial(self._origins.adopt, OriginPolicy(settings.origins, settings.auth.cookie)),
            lambda settings: partial(self.admission.apply, settings.limits),
            lambda settings: partial(self.options.apply, settings.limits),
            lambda settings: partial(self.internal_options.apply, settings.limits),
            lambda settings: partial(self._doors.apply, settings),
            lambda settings: partial(services.apply, settings.limits, anonymous=settings.auth.anonymous),
            lambda settings: partial(self._budget.apply, settings.limits.waiting),
            lambda settings: partial(
                self.messaging.limit_reads, settings.limits.history, recovered_bytes(settings.limits)
            ),
            lambda settings: partial(self._api.apply, settings),
        )

    def _channels_for(self, settings: ServerSettings) -> Channels:
        """Raises ConfigError, also if the hooks do not fit them."""
        channels = Channels(settings)
        check_fit(self._declared, settings, channels)
        return channels

    def _public_routes(self, killed_from: Sequence[str]) -> list[BaseRoute]:
        settings = self.settings
        return [
            *(self._api.routes if settings.api.public else []),
            *self._doors.routes,
            *health_routes(self.node, public=True),
            *(demo_routes(self.administration, killed_from) if settings.demo else [root_route()]),
        ]

    def _internal_routes(self, entrances: Sequence[Entrance]) -> list[BaseRoute]:
        return [
            *health_routes(self.node, public=False),
            metrics_route(self.metrics),
            *self._api.routes,
            *internal_routes(entrances, self.settings.trusted_proxies),
        ]

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self.running():
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the keys first, since connections need them at once, then the node. Stop in reverse order."""
        await self._hooks.start()
        try:
            await self.verifier.start()
            try:
                await self.node.start()
                self._budget.start()
                if self._notifier is not None:
                    self._notifier.start()
                if self._bridge is not None:
                    self._bridge.start()
                yield
                # While the node can still publish what it hears until another one listens.
                if self._bridge is not None:
                    await self._bridge.stop()
                self._budget.stop()
                await self._ledger.settle()
                if self._notifier is not None:
                    await self._notifier.stop()
                await self.node.stop()
            finally:
                await self.verifier.stop()
        finally:
            await self._hooks.stop()


def profile(settings: ServerSettings, uid: NodeId) -> Profile:
    """Identifies this node; without a name in the settings, by host name and process id."""
    name = settings.node_name or f"{socket.gethostname()}-{os.getpid()}"
    return Profile(uid, name, settings.node_url, ", ".join(settings.internal_listen))


def recovered_bytes(limits: LimitSettings) -> int:
    """Half of the outbox limit: a recovery must not make the client a slow one."""
    return limits.outbox // 2


async def survey_engine(settings: ServerSettings) -> Survey:
    """Ask the server of the engine, if it has one, whether nodes with these settings can work with it."""
    if settings.redis.url is None:
        return Survey(["no Redis to ask: redis.url is not set"], [], [])
    return await survey(settings.redis)


def engine(
    settings: ServerSettings,
    uid: NodeId,
    metrics: Metrics,
    channels: Channels,
    in_force: Callable[[], ServerSettings],
    clock: Callable[[], float] = time.time,
) -> Engine:
    """The engine that the settings ask for. `in_force`: what a reload has made of them.

    `clock` gives Unix seconds, where the engine has no other.
    """
    if settings.redis.url is None:
        memory, events = MemoryBroker(metrics), MemoryEvents(metrics, clock)
        return Engine(memory, MemoryRegistry(events), memory.presence, events, events)

    def rules(channel: Channel) -> PresenceRules:
        try:
            return channels.resolve(channel.app, channel.name).presence or PresenceRules()
        except RequestError:
            # The namespace exists only on other nodes: presence is not announced.
            return PresenceRules()

    assert settings.redis.url is not None
    database = Target.of(settings.redis.url.get_secret_value()).database
    keys = Keys(settings.redis.prefix, settings.redis.partitions, database)
    registry = RedisRegistry(settings.redis, uid, keys, Guard(metrics.faults), in_force)
    broker = RedisBroker(settings.redis, uid, keys, registry, metrics, rules)
    return Engine(broker, registry, broker.presence, broker.ledger, broker.event_log)
