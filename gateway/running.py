"""Runs a node in its own process: the event loop, the server, and the signals."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence

import uvloop

from gateway import log
from gateway.app import Composition
from gateway.config.reloading import Source
from gateway.config.settings import ServerSettings
from gateway.embedding import load_application
from gateway.hangup import Terminal
from gateway.hooks.loading import load_hooks
from gateway.in_process import NodeMethods
from gateway.node.administration import Administration
from gateway.transports.forwarded import Forwarded
from gateway.transports.server import serve


def run_node(
    settings: ServerSettings,
    *,
    sockets: Sequence[socket.socket] | None = None,
    internal_sockets: Sequence[socket.socket] | None = None,
    on_ready: Callable[[], object] | None = None,
    source: Source | None = None,
    killed_from: Sequence[str] = (),
    interrupt_hurries: bool = False,
) -> int:
    """Run one node until a signal ends it; returns the exit code. Raises GatewayError when it cannot start.

    `sockets`: listening sockets to serve clients on, in place of `listen`; `internal_sockets` in place of
    `internal_listen`. `on_ready` is called once the node accepts. `source`: where settings are reloaded from; with
    it, SIGHUP reloads them too. `killed_from`: see `demo_routes`; `interrupt_hurries`: see `transports.server.serve`.
    """
    log.configure(settings.log, sys.stderr, settings.node_name)
    application = load_application(settings.app) if settings.app else None
    hooks = load_hooks(settings.hooks.python)
    if source is not None:
        # A SIGHUP that arrives before the node can reload stays pending until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

    async def main() -> None:
        if application is not None:
            gateway = application.gateway.compose(settings, source)
        else:
            gateway = Composition(settings, source, hooks=hooks, killed_from=killed_from)
            hooks.gateway = NodeMethods(gateway)

        def started() -> None:
            if application is not None:
                application.gateway.check_started()
            if on_ready is not None:
                on_ready()

        asyncio.get_running_loop().set_exception_handler(gateway.on_loop_error)
        if source is not None:
            await_hangups(gateway.administration)
        await serve(
            Forwarded(application.app, settings.trusted_proxies) if application is not None else gateway.public,
            gateway.internal,
            gateway.settings,
            public_sockets=sockets,
            internal_sockets=internal_sockets,
            options=gateway.options,
            internal_options=gateway.internal_options,
            on_started=started,
            on_draining=gateway.start_draining,
            interrupt_hurries=interrupt_hurries,
        )

    uvloop.run(main())
    return 0


def await_hangups(administration: Administration) -> None:
    """Reload on SIGHUP, which was blocked until now. One sent because the terminal was closed ends the node."""
    terminal = Terminal()

    def hung_up() -> None:
        if terminal.is_closed:
            signal.raise_signal(signal.SIGTERM)
        else:
            administration.reload()

    # Under nohup the signal is ignored on purpose.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
