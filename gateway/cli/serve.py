"""`gateway serve`"""

import logging
import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import click

from gateway.cli.child import ChildSource, own_origins, start_node
from gateway.cli.node_listeners import SharedListener
from gateway.cli.options import Sources, with_settings
from gateway.cli.processes import Child, Family, Interrupted
from gateway.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from gateway.config.reloading import Reloads
    from gateway.config.settings import ServerSettings

# Seconds before a worker that died is started again: doubled each time it dies soon after, up to the maximum.
RESTART_FIRST, RESTART_MOST = 0.5, 30.0
# Seconds after which a worker counts as healthy.
HEALTHY = 60.0
# Seconds that a worker may take to end, after its drain.
STOP_GRACE = 10.0

_STDIN, _STDOUT = 0, 1

_logger = logging.getLogger("gateway.serve")


@click.command(short_help="Run a node, or several on one port.")
@with_settings(
    "listen",
    "internal_listen",
    "workers",
    "redis.url",
    "demo",
    "no_auth",
    "allow_open_network",
    "hooks.python",
    "app",
    "log.level",
    "log.format",
)
@click.pass_context
def serve(context: click.Context, sources: Sources) -> None:
    """Run a node for production, or with --workers N that many nodes on one port.

    A single node works without Redis; several need a Redis or Valkey between them. With workers, this process serves no
    clients itself: it starts the workers, restarts those that die, and passes signals on. Each worker has an internal
    listener of its own, on the port of --internal-listen and the ones after it.

    SIGTERM or Ctrl-C drains: the node turns unready, then closes its connections over the seconds of drain.window,
    and ends. A second signal ends it at once. Unless the settings have a window, it is 0 with --no-auth, and for Ctrl-C
    in a terminal. SIGHUP reads the settings again, see `gateway reload`.

    Settings come from a file, from GATEWAY_... variables and from flags; see `gateway check`.

    \b
    gateway serve --no-auth
    gateway serve --config gateway.toml --workers 4
    """
    from gateway import log
    from gateway.config.checks import warnings
    from gateway.config.reloading import Source
    from gateway.running import run_node

    sources = sources.found().with_application()
    loaded = sources.read()
    settings = loaded.settings
    log.configure(settings.log, sys.stderr, settings.node_name)
    for warning in (*loaded.warnings, *warnings(settings)):
        _logger.warning("%s", warning)
    hurries = False
    if settings.no_auth:
        settings = loaded.without_drain()
        if settings != loaded.settings:
            _logger.info("SIGTERM and Ctrl-C close all connections at once: drain.window is 0 with no_auth")
    elif _in_terminal() and "drain.window" not in loaded.origins:
        hurries = True
        _logger.info("Ctrl-C closes all connections at once, SIGTERM over drain.window")
    source = ChildSource(sources, loaded.settings, origins=_origins_of_page(settings))
    settings = source.complete(settings)
    if settings.workers == 1:
        reloaded = Source(sources.load, loaded.settings, source.complete)
        context.exit(run_node(settings, source=reloaded, interrupt_hurries=hurries))
    context.exit(run_workers(settings, source, interrupt_hurries=hurries))


def _origins_of_page(settings: "ServerSettings") -> tuple[str, ...]:
    """Where the demo page comes from: it has to connect to the node that served it."""
    from gateway.config.listen_addresses import parse

    if not settings.demo:
        return ()
    endpoints = [parse(address) for address in settings.listen]
    return tuple(origin for each in endpoints if each.port for origin in own_origins(settings, each.host, [each.port]))


def _in_terminal() -> bool:
    """Whether somebody watches and types: they want to restart at once, and have no other nodes to send clients to."""
    return os.isatty(_STDIN) and os.isatty(_STDOUT)


@dataclass(slots=True)
class _Worker:
    """A worker, whose process may be replaced."""

    name: str
    # The settings it is started with.
    reloads: "Reloads"
    delay: float = RESTART_FIRST
    child: Child | None = None
    started: float = 0.0
    due: float = 0.0


def run_workers(settings: "ServerSettings", source: ChildSource, *, interrupt_hurries: bool = False) -> int:
    """Run `settings.workers` nodes until a signal; returns the exit code. `source`: where they read settings again.

    With `interrupt_hurries`, SIGINT closes all connections at once, without `drain.window`. Raises GatewayError when
    they cannot be started.
    """
    from gateway.config.reloading import Reloads

    workers = [_Worker(f"worker {index + 1}", Reloads(each)) for index, each in enumerate(worker_settings(settings))]
    with Family() as family:
        supervisor = _Supervisor(family, _listener(settings), workers, source)
        family.on_hangup = supervisor.reload
        try:
            supervisor.start()
            supervisor.keep()
        except Interrupted as interrupted:
            hurries = interrupt_hurries and interrupted.signals == {signal.SIGINT}
            # A worker drains at SIGTERM only.
            signum = signal.SIGINT if hurries else signal.SIGTERM
            return supervisor.stop(settings.drain.delay + settings.drain.window + STOP_GRACE, signum)
        except GatewayError:
            supervisor.stop(STOP_GRACE)
            raise


def worker_settings(settings: "ServerSettings") -> list["ServerSettings"]:
    """The settings of each worker. Raises ConfigError when they do not fit side by side."""
    return [_of_worker(settings, index) for index in range(settings.workers)]


def _of_worker(settings: "ServerSettings", index: int) -> "ServerSettings":
    internal = tuple(_internal_address(address, index, settings.workers) for address in settings.internal_listen)
    update: dict[str, object] = {"workers": 1, "internal_listen": internal}
    if settings.node_name:
        update["node_name"] = f"{settings.node_name}-{index + 1}"
    return settings.model_copy(update=update)


def _internal_address(first: str, index: int, workers: int) -> str:
    """The address of a worker: the first one's port plus its index; port 0 stays 0."""
    from gateway.config.hosts import HIGHEST_PORT
    from gateway.config.listen_addresses import joined, parse

    host, port, path = parse(first)
    if path:
        raise ConfigError(
            f"internal_listen = {first!r}: with several workers expected HOST:PORT, the port of the first one"
        )
    if port + workers - 1 > HIGHEST_PORT:
        raise ConfigError(f"internal_listen = {first!r}: {workers} workers need as many ports from there")
    return joined(host, port + index) if port else first


def _listener(settings: "ServerSettings") -> SharedListener:
    from gateway.config.listen_addresses import parse

    for address in settings.listen:
        if parse(address).path:
            raise ConfigError(f"listen = {address!r}: several workers share a port, expected HOST:PORT")
    return SharedListener(settings.listen)


class _Supervisor:
    """Keeps workers running."""

    def __init__(self, family: Family, listener: SharedListener, workers: list[_Worker], source: ChildSource) -> None:
        self._family = family
        self._listener = listener
        self._workers = workers
        self._source = source

    def start(self) -> None:
        """Start all. A worker that dies before it served would do so again, so that ends the start."""
        for worker in self._workers:
            self._start(worker)
        while not all(worker.child is not None and worker.child.ready for worker in self._workers):
            for child in self._family.wait():
                if child.code is not None:
                    raise GatewayError(f"{child} {child.ending()} before it served; the workers were not started")
        _logger.info("%d workers serve", len(self._workers))

    def keep(self) -> NoReturn:
        """Restart workers that die, until Interrupted."""
        while True:
            dead = [worker for worker in self._workers if worker.child is None]
            pause = min((worker.due for worker in dead), default=None)
            news = self._family.wait(None if pause is None else max(pause - time.monotonic(), 0))
            for worker in self._workers:
                if worker.child in news:
                    self._look_at(worker)
            for worker in dead:
                if worker.due <= time.monotonic():
                    self._restart(worker)

    def reload(self) -> None:
        """Make all read their settings again; a worker that is starting does so as soon as it can."""
        _logger.info("the workers read their settings again")
        for worker in self._workers:
            if worker.child is not None:
                worker.child.hang_up()

    def stop(self, seconds: float, signum: signal.Signals = signal.SIGTERM) -> int:
        self._listener.close()
        children = [worker.child for worker in self._workers if worker.child is not None]
        left = self._family.stop(children, seconds, signum)
        for child in left:
            _logger.error("%s did not end in time and is killed", child)
        return 1 if left else 0

    def _start(self, worker: _Worker) -> None:
        with ExitStack() as until_inherited:
            listening = [until_inherited.enter_context(each) for each in self._listener.sockets()]
            worker.child = start_node(self._family, worker.name, worker.reloads.settings, self._source, listening)
        _logger.info("%s started", worker.child)
        worker.started = time.monotonic()

    def _look_at(self, worker: _Worker) -> None:
        child = worker.child
        if child is None or child.code is None:
            return
        if time.monotonic() - worker.started > HEALTHY:
            worker.delay = RESTART_FIRST
        _logger.error("%s %s, starting it again in %s s", child, child.ending(), worker.delay)
        worker.child = None
        self._schedule(worker)

    def _restart(self, worker: _Worker) -> None:
        try:
            # As in a reload: it must not come back with keys that the others have dropped.
            worker.reloads.take(worker.reloads.merged(self._source.complete(self._source.sources.load())))
        except ConfigError as error:
            _logger.error("the settings cannot be used, %s starts with the previous ones: %s", worker.name, error)
        try:
            self._start(worker)
        except GatewayError as error:
            _logger.error("%s cannot be started, trying again in %s s: %s", worker.name, worker.delay, error)
            self._schedule(worker)

    def _schedule(self, worker: _Worker) -> None:
        worker.due = time.monotonic() + worker.delay
        worker.delay = min(worker.delay * 2, RESTART_MOST)
