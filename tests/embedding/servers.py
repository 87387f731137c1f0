"""Applications with a gateway in them, on two servers."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvloop

from gateway.config.settings import ServerSettings
from gateway.config.sources import read
from gateway.embedding import Gateway
from gateway.transports.server import serve
from tests.entrances import ways


@contextmanager
def on_uvicorn(app: Any, gateway: Gateway) -> Iterator[str]:
    """HOST:PORT of a standard uvicorn."""
    with ways.on_uvicorn(lambda: app) as address:
        yield address


@contextmanager
def on_own_server(app: Any, gateway: Gateway) -> Iterator[str]:
    """HOST:PORT of the gateway's own server, as `gateway serve --app` runs it."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    ends: list[Callable[[], object]] = []

    async def main() -> None:
        composition = gateway.compose(_settings(gateway), None)
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        ends.append(lambda: loop.call_soon_threadsafe(task.cancel))
        await serve(
            app,
            composition.internal,
            composition.settings,
            options=composition.options,
            internal_options=composition.internal_options,
            public_sockets=[listener],
            internal_sockets=[],
            on_started=ready.set,
        )

    with _running(main, ready, lambda: ends[0]()):
        yield "{}:{}".format(*listener.getsockname())


def _settings(gateway: Gateway) -> ServerSettings:
    return read(None, {}, {}, {**gateway.given, "drain": {"window": 0}}).settings


@contextmanager
def _running(main: Callable[[], Any], ready: threading.Event, end: Callable[[], object]) -> Iterator[None]:
    def run() -> None:
        with suppress(asyncio.CancelledError):
            uvloop.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        end()
        thread.join(15)
        assert not thread.is_alive()
