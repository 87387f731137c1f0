"""A whole node with the memory engine on real sockets, in a thread of its own."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import Composition
from gateway.config.reloading import Source
from gateway.config.settings import ServerSettings
from gateway.entrances import ENTRANCES
from gateway.entrances.entrance import Entrance
from gateway.hooks import Hooks
from gateway.transports.lifespan import Lifespan
from gateway.transports.server import GatewayServer, Listener

SECRET = "the secret of the tests, longer than 32 bytes"
KEY = "the API key of the tests, 32 bytes or more"
OPEN = {"allow_subscribe": ["client", "anonymous"], "allow_publish": ["client", "anonymous"]}


def settings_of(**sections: Any) -> ServerSettings:
    """Settings for tests: a secret, a key, anonymous clients, open channels; `sections` replace those of this name."""
    given: dict[str, Any] = {
        "auth": {"hmac_secret": SECRET, "anonymous": True},
        "api": {"keys": [KEY]},
        "channels": {**OPEN, "user_limited": True},
        "namespaces": {"chat": OPEN, "closed": {}},
        "drain": {"window": 0},
        "heartbeat": {"expired_grace": 0},
    }
    return ServerSettings.model_validate({**given, **sections})


class Site:
    """A running node."""

    def __init__(self, public: socket.socket, internal: socket.socket) -> None:
        self.public = "{}:{}".format(*public.getsockname())
        self.internal = "{}:{}".format(*internal.getsockname())
        self.gateway: Composition
        self.server: GatewayServer
        self.loop: asyncio.AbstractEventLoop

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the node's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a function on the node's loop and wait for it."""

        async def called() -> Any:
            return function()

        return self.run(called())

    def metric(self, name: str, **labels: str) -> float:
        """What a scrape says of one sample, 0 for one that is not there."""
        text = self.call(self.gateway.metrics.render).decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    def errors(self, code: str) -> float:
        """API requests and commands that failed so."""
        return self.metric("gateway_api_errors_total", code=code)


@contextmanager
def running(
    settings: ServerSettings,
    source: Source | None = None,
    entrances: Sequence[Entrance] = ENTRANCES,
    hooks: Hooks | None = None,
) -> Iterator[Site]:
    """The node; returns once both listeners accept."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    site = Site(*sockets)
    ready = threading.Event()

    async def main() -> None:
        gateway = site.gateway = Composition(settings, source, entrances, hooks=hooks)
        site.loop = asyncio.get_running_loop()
        site.server = GatewayServer(
            Listener(gateway.public, gateway.options, sockets[:1], "listen"),
            Listener(gateway.internal, gateway.internal_options, sockets[1:], "internal_listen"),
            Lifespan(gateway.public),
            settings.drain,
            on_started=ready.set,
            on_draining=gateway.start_draining,
        )
        await site.server.serve()

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield site
    finally:
        site.server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()
