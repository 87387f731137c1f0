"""The public application of a node on our server, and on one that is not ours."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
import uvloop

from gateway.app import Composition
from gateway.config.settings import ServerSettings
from gateway.entrances import ENTRANCES
from gateway.entrances.entrance import Entrance
from gateway.hooks import Hooks
from tests.api.site import running


@contextmanager
def detached(settings: ServerSettings, entrances: Sequence[Entrance] = ENTRANCES) -> Iterator[str]:
    """HOST:PORT of a node on our own server."""
    with running(settings, entrances=entrances) as site:
        yield site.public


@contextmanager
def plain_asgi(
    settings: ServerSettings, entrances: Sequence[Entrance] = ENTRANCES, hooks: Hooks | None = None
) -> Iterator[str]:
    """HOST:PORT of a standard uvicorn with the public application of a node."""
    with on_uvicorn(lambda: Composition(settings, entrances=entrances, hooks=hooks).public) as address:
        yield address


@contextmanager
def on_uvicorn(make: Callable[[], Any]) -> Iterator[str]:
    """HOST:PORT of a standard uvicorn with the application that `make` makes in its loop.

    Connections that come before it serves wait in the backlog.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    servers: list[uvicorn.Server] = []
    started = threading.Event()

    async def main() -> None:
        config = uvicorn.Config(make(), log_config=None, log_level="critical", timeout_graceful_shutdown=1)
        servers.append(uvicorn.Server(config))
        started.set()
        await servers[0].serve(sockets=[listener])

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    assert started.wait(10)
    try:
        yield "{}:{}".format(*listener.getsockname())
    finally:
        servers[0].should_exit = True
        thread.join(15)
        assert not thread.is_alive()
