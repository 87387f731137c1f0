"""A node inside of an application."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from gateway import Gateway
from gateway.embedding import NotStartedError
from gateway.errors import ConfigError, RequestError
from gateway.transports.lifespan import Lifespan
from tests.api.clients import PATIENCE
from tests.embedding.processes import Command
from tests.embedding.servers import on_own_server, on_uvicorn

OPEN = {"channels": {"allow_subscribe": ["anonymous"], "allow_publish": ["anonymous"]}, "auth": {"anonymous": True}}


def application(gateway: Gateway) -> Starlette:
    """With a route that publishes, and a WebSocket of its own."""

    async def say(request: Request) -> JSONResponse:
        try:
            result = await gateway.publish(request.query_params["channel"], {"text": "hi"})
        except RequestError as error:
            return JSONResponse({"code": error.error.code}, 400)
        return JSONResponse({"offset": result.offset})

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text * 2)

    routes = [Route("/say", say), WebSocketRoute("/echo", echo), Mount("/realtime", gateway)]
    return Starlette(routes=routes, lifespan=gateway.lifespan)


@pytest.fixture(scope="module", params=[on_own_server, on_uvicorn])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    gateway = Gateway(OPEN)
    with request.param(application(gateway), gateway) as found:
        yield found


def test_the_application_publishes_to_its_clients(address: str) -> None:
    """In its own loop; an error is an exception with the code of the API."""
    with connect(f"ws://{address}/realtime/ws/news", proxy=None, compression=None) as client:
        client.send('"hello"')
        assert client.recv(PATIENCE) == '"hello"'
        with httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
            assert http.get("/say", params={"channel": "news"}).json() == {"offset": 0}
            assert client.recv(PATIENCE) == '{"text":"hi"}'
            assert http.get("/say", params={"channel": "nowhere:a"}).json() == {"code": 102}


def test_its_own_routes_and_websockets_go_on_working(address: str) -> None:
    """And the paths of the gateway are below the mount only."""
    with connect(f"ws://{address}/echo", proxy=None) as client:
        for text in ("a", "é" * 40_000):
            client.send(text)
            assert client.recv(PATIENCE) == text * 2
    with httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
        assert http.get("/realtime/health/ready").status_code == 200
        assert http.get("/health/ready").status_code == 404


@asynccontextmanager
async def started(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, whose lifespan runs meanwhile."""
    lifespan = Lifespan(app)
    await lifespan.startup()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            yield client
    finally:
        await lifespan.shutdown()


def test_without_its_lifespan_the_first_use_says_what_to_write() -> None:
    async def test() -> None:
        gateway = Gateway(OPEN)
        async with started(Starlette(routes=[Mount("/realtime", gateway)])) as client:
            with pytest.raises(NotStartedError, match=r"lifespan=gateway\.lifespan"):
                await client.get("/realtime/health/ready")
            with pytest.raises(NotStartedError):
                await gateway.publish("news", 1)

    asyncio.run(test())


def test_a_lifespan_of_its_own_may_start_it(caplog: pytest.LogCaptureFixture) -> None:
    """The gateway may be started again after it ended. The log says which path it takes, and which is faster."""
    caplog.set_level(logging.INFO)
    gateway = Gateway(OPEN)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with gateway.lifespan(app):
            yield

    async def test() -> None:
        app = Starlette(routes=[Mount("/realtime", gateway)], lifespan=lifespan)
        for _ in range(2):
            async with started(app) as client:
                assert (await client.get("/realtime/health/ready")).status_code == 200
            with pytest.raises(NotStartedError):
                _ = gateway.composition

    asyncio.run(test())
    assert "`gateway serve --app MODULE:NAME`" in caplog.text


def test_wrong_settings_are_named_at_the_start() -> None:
    async def test() -> None:
        async with started(Starlette(lifespan=Gateway({"channels": {"deliver": "latest"}}).lifespan)):
            pass

    with pytest.raises(ConfigError, match=r"channels\.deliver.*Gateway"):
        asyncio.run(test())


@pytest.mark.parametrize(
    "arguments",
    [
        "uvicorn app:app --port 0 --workers 2",
        "uvicorn app:app --port 0",
        "gunicorn app:app -k uvicorn_worker.UvicornWorker -w 2 -b 127.0.0.1:0",
        "hypercorn app:app -b 127.0.0.1:0 --workers 2",
    ],
)
@pytest.mark.slow
def test_several_workers_without_redis_do_not_start(tmp_path: Path, arguments: str) -> None:
    """Clients of one would not hear those of another; the error names the setting."""
    environ = {} if "2" in arguments else {"WEB_CONCURRENCY": "2"}
    with Command(tmp_path, *arguments.split(), **environ) as command:
        assert "GATEWAY_REDIS__URL" in command.line("redis.url is not set, and another worker")


@pytest.mark.slow
def test_one_worker_of_a_reloading_server_starts(tmp_path: Path) -> None:
    with Command(tmp_path, "uvicorn", "app:app", "--port", "0", "--reload") as command:
        command.line("Application startup complete")


def test_the_command_runs_the_application(tmp_path: Path) -> None:
    """On the gateway's own server, with what the code of the application sets."""
    arguments = ("gateway", "serve", "--app", "app:app", "--listen", "127.0.0.1:0", "--internal-listen", "")
    with Command(tmp_path, *arguments) as command:
        command.line("the application runs on the gateway's own server")
        line = command.line("serving")
        address = line.partition("http://")[2].split('"')[0].split()[0]
        with connect(f"ws://{address}/realtime/ws/news", proxy=None, compression=None) as client:
            began = time.monotonic()
            command.process.send_signal(signal.SIGTERM)
            with pytest.raises(Exception, match="3001"):
                client.recv(PATIENCE)
            assert time.monotonic() - began < PATIENCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--app", "app:bare"), "lifespan=gateway.lifespan"),
        (("--app", "json:loads"), "makes no Gateway()"),
        (("--app", "app:nothing"), "app has no 'nothing'"),
        (("--app", "app:app", "--hooks", "app:hooks"), "and app are both set"),
    ],
)
def test_what_the_command_cannot_run_is_named(tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    with Command(
        tmp_path, "gateway", "serve", *arguments, "--listen", "127.0.0.1:0", "--internal-listen", ""
    ) as command:
        assert text in command.line("Error")
        assert command.process.wait(20) != 0
