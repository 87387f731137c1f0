"""The end of a node on a server that is not ours: the drain, and what signals do."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway import Gateway
from gateway.transports.lifespan import Lifespan
from tests.api.clients import PATIENCE
from tests.embedding.processes import Command

OPEN = {"channels": {"allow_subscribe": ["anonymous"]}, "auth": {"anonymous": True}}


class Server:
    """Has handlers for signals as servers do, and one client, over plain ASGI."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.events: asyncio.Queue[str] = asyncio.Queue()
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def handle_exit(self, signum: int, frame: FrameType | None) -> None:
        self.events.put_nowait(signal.Signals(signum).name)

    async def serve(self) -> None:
        scope = {"type": "websocket", "path": "/ws/news", "headers": [], "query_string": b"", "subprotocols": []}
        self._incoming.put_nowait({"type": "websocket.connect"})
        await self.gateway(scope, self._incoming.get, self._send)

    async def _send(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            self._incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        if message["type"] in ("websocket.accept", "websocket.close"):
            self.events.put_nowait(f"{message['type'].partition('.')[2]} {message.get('code', '')}".strip())

    async def next(self) -> str:
        return await asyncio.wait_for(self.events.get(), PATIENCE)


@asynccontextmanager
async def serving(**drain: float) -> AsyncIterator[Server]:
    """With its client connected."""
    gateway = Gateway({**OPEN, **({"drain": drain} if drain else {})})
    server = Server(gateway)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, server.handle_exit)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        async with gateway.lifespan(app):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    lifespan = Lifespan(app)
    await lifespan.startup()
    client = asyncio.create_task(server.serve())
    try:
        assert await server.next() == "accept"
        yield server
    finally:
        await lifespan.shutdown()
        client.cancel()
        await asyncio.wait((client,))


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_without_a_window_the_server_learns_when_the_clients_know(signum: signal.Signals) -> None:
    """Otherwise the server, on a busy machine, would close some of them first, with a code of its own."""

    async def test() -> None:
        async with serving() as server:
            signal.raise_signal(signum)
            assert [await server.next() for _ in range(2)] == ["close 3001", signum.name]
            assert server.gateway.composition.node.draining

    asyncio.run(test())


def test_sigterm_drains_before_the_server_ends() -> None:
    """Not ready first; the clients stay until the delay is over."""

    async def test() -> None:
        async with serving(delay=0.5, window=0.2) as server:
            signal.raise_signal(signal.SIGTERM)
            node = server.gateway.composition.node
            while not node.draining:
                assert server.events.empty()
                await asyncio.sleep(0)
            assert [await server.next() for _ in range(2)] == ["close 3001", "SIGTERM"]

    asyncio.run(test())


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_a_second_signal_does_not_wait(first: signal.Signals) -> None:
    async def test() -> None:
        async with serving(delay=60, window=60) as server:
            signal.raise_signal(first)
            assert server.events.empty()
            if first == signal.SIGTERM:
                signal.raise_signal(signal.SIGINT)
                assert server.events.get_nowait() == "SIGINT"
                assert await server.next() == "close 3001"
            else:
                assert [await server.next() for _ in range(2)] == ["close 3001", "SIGINT"]

    asyncio.run(test())


def test_handlers_are_given_back() -> None:
    """Unless somebody else has taken the signal meanwhile; they may call what they found."""

    async def test() -> None:
        async with serving(window=60) as server:
            found = signal.getsignal(signal.SIGTERM)
            assert callable(found)
            signal.signal(signal.SIGTERM, lambda signum, frame: found(signum, frame))
            taken = signal.getsignal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) == server.handle_exit
        assert signal.getsignal(signal.SIGTERM) is taken
        server.events = asyncio.Queue()
        signal.raise_signal(signal.SIGTERM)
        assert server.events.get_nowait() == "SIGTERM"
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        async with Gateway(OPEN).lifespan(None):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    asyncio.run(test())


def address_of(command: Command) -> str:
    """HOST:PORT of uvicorn."""
    return command.line("Uvicorn running on").partition("http://")[2].split()[0]


def connected_to(url: str) -> Any:
    """A client, as soon as the server listens: the line that says it has started comes before."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return connect(url, proxy=None)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def close_code(client: Any) -> int | None:
    """That the server closed the connection with."""
    try:
        while True:
            client.recv(PATIENCE)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


@pytest.mark.slow
def test_ctrl_c_ends_a_server_with_open_sockets(tmp_path: Path) -> None:
    """Its first lines say that this is the plain path, and which is faster."""
    with Command(tmp_path, "uvicorn", "app:app", "--port", "0") as command, ExitStack() as connected:
        assert "over plain ASGI; `gateway serve --app" in command.line("the gateway runs on")
        address = address_of(command)
        paths = ("realtime/connection/websocket", "realtime/ws/news", "echo")
        urls = [f"ws://{address}/{path}" for path in paths for _ in range(15)]
        clients = [connected.enter_context(connect(url, proxy=None)) for url in urls]
        clients[0].send('{"id": 1, "connect": {}}')
        clients[0].recv(PATIENCE)
        command.process.send_signal(signal.SIGINT)
        assert [close_code(client) for client in clients] == [3001] * 30 + [1012] * 15
        assert command.process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_sigterm_drains_on_uvicorn(tmp_path: Path) -> None:
    """Balancers learn first, and the application serves until the last client is gone."""
    drain = {"GATEWAY_DRAIN__DELAY": "2", "GATEWAY_DRAIN__WINDOW": "1"}
    with Command(tmp_path, "uvicorn", "app:app", "--port", "0", **drain) as command:
        address = address_of(command)
        with (
            connect(f"ws://{address}/realtime/ws/news", proxy=None) as client,
            httpx.Client(base_url=f"http://{address}", trust_env=False) as http,
        ):
            command.process.send_signal(signal.SIGTERM)
            while http.get("/realtime/health/ready").status_code == 200:
                pass
            client.ping().wait(PATIENCE)
            assert close_code(client) == 3001
        assert command.process.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.slow
def test_a_reload_does_not_wait_for_clients(tmp_path: Path) -> None:
    """The process with the new code serves the next one."""
    with Command(tmp_path, "uvicorn", "app:app", "--port", "0", "--reload") as command:
        address = address_of(command)
        for _ in range(2):
            command.line("Application startup complete")
            with connected_to(f"ws://{address}/realtime/ws/news") as client:
                touched = tmp_path / "app.py"
                os.utime(touched, (touched.stat().st_mtime + 5,) * 2)
                assert close_code(client) == 3001
        # A signal that comes while it restarts would not end it.
        command.line("Application startup complete")
