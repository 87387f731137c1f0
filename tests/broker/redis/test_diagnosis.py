"""What `gateway check --connect` and a node that starts say of servers they cannot work with, each a real one."""

import asyncio
import errno
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from pydantic import SecretStr
from redis import exceptions

from gateway.broker.redis.diagnosis import CLOSED, NOT_REDIS, WITH_TLS, WITHOUT_TLS, diagnose
from gateway.broker.redis.survey import survey
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable
from tests.broker.members import redis_member
from tests.broker.redis.proxy import proxied
from tests.servers import ValkeyServer, free_port, valkey_server

# What a node says in its own words.
OF_A_NODE = (
    *("DB index is out of range", "no answer within 0.2 s"),
    *("Redis did not answer within 0.2 s", "Redis closed the connection"),
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return file


def certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def asked(url: str, **settings: Any) -> str:
    """The one error, without the name of the server before it."""
    (error,) = (await survey(RedisSettings(url=SecretStr(url), **settings))).errors
    assert "\n" not in error
    assert "hush" not in error
    name, told = error.removeprefix("redis.url: ").split(": ", 1)
    assert name in url
    with pytest.raises(BrokerUnavailable) as caught:
        async with redis_member(RedisSettings(url=SecretStr(url), **settings), "a"):
            pass
    at_start = caught.value.detail.removeprefix(f"Redis at {name}: ")
    assert at_start in (told, *(at_start for text in OF_A_NODE if text in at_start))
    return told


def ask(url: str, **settings: Any) -> str:
    return asyncio.run(asked(url, **settings))


@contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of an HTTP server."""

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(HTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            try:
                if tls is not None:
                    request = tls.wrap_socket(request, server_side=True)
                super().finish_request(request, client_address)
            except OSError:
                # Of a client that speaks another language.
                pass
            finally:
                request.close()

    with Server(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_password_is_missing_or_wrong() -> None:
    """The first names the variable that keeps it out of files and command lines."""
    with valkey_server(password="right") as server:
        told = ask(f"redis://127.0.0.1:{server.port}")
        assert told.startswith("the server wants a password: redis://[USER]:PASSWORD@HOST")
        assert "GATEWAY_REDIS__URL" in told
        assert ask(f"redis://:hush@127.0.0.1:{server.port}").startswith(
            "the server refuses this password for the user 'default'"
        )
        assert "for the user 'ann'" in ask(f"redis://ann:hush@127.0.0.1:{server.port}")


def test_nothing_is_there(tmp_path: Path) -> None:
    """No server at the port or the path, no such host."""
    assert ask(f"redis://127.0.0.1:{free_port()}").startswith("nothing listens there (connection refused): start Redis")
    assert ask(f"rediss://127.0.0.1:{free_port()}").startswith("nothing listens there (connection refused)")
    assert ask(f"unix://{tmp_path}/none.sock").startswith("there is no such socket: start Redis")
    assert ask("redis://none.invalid:6379", connect_timeout=30).startswith("the host is not known (")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_another_server_is_there(scheme: str) -> None:
    """One for HTTP, for example."""
    with web_server() as port:
        assert ask(f"{scheme}://127.0.0.1:{port}") == NOT_REDIS


NONSENSE = [
    pytest.param(b"*1000000000\r\n", id="a list of a billion"),
    pytest.param(b"$999999999999\r\n", id="a terabyte"),
    pytest.param(b"*x\r\n", id="no number"),
    pytest.param(b"*1\r\n" * 100_000, id="lists in lists"),
    pytest.param(b":" * 200_000, id="a line without an end"),
    pytest.param(b"220 smtp ESMTP\r\n", id="a greeting"),
]


@pytest.mark.slow
@pytest.mark.parametrize("greeting", NONSENSE)
def test_what_another_server_says_costs_neither_memory_nor_time(greeting: bytes) -> None:
    """It may look like the beginning of an answer that fills the memory, or that never ends."""

    served = set()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        writer.write(greeting)
        with suppress(OSError):
            await reader.read()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            assert await asked(f"redis://127.0.0.1:{port}", publish_timeout=0.2) == NOT_REDIS
            await asyncio.wait([task for task in served if task is not None], timeout=10)

    asyncio.run(scenario())


def test_another_server_is_there_with_tls(authority: trustme.CA, ca_file: Path) -> None:
    """The first answer leads to the second."""
    with web_server(certified(authority)) as port:
        assert ask(f"redis://localhost:{port}") == WITH_TLS
        assert ask(f"rediss://localhost:{port}", tls_ca_file=ca_file) == NOT_REDIS


@pytest.mark.parametrize("password", ["", "right"])
def test_tls_is_asked_of_a_server_without(password: str) -> None:
    """It waits for the end of a line, and never answers; without TLS it does, if only for a password."""
    with valkey_server(password=password) as server:
        assert ask(f"rediss://127.0.0.1:{server.port}", connect_timeout=0.5) == WITHOUT_TLS


def test_a_server_with_tls_is_asked_without_it(authority: trustme.CA, ca_file: Path) -> None:
    """Or trusts nobody here. What Redis itself answers is told too."""

    async def scenario(valkey: ValkeyServer) -> None:
        async with proxied(valkey.port, certified(authority)) as proxy:
            for login in ("", ":hush@"):
                assert await asked(f"redis://{login}localhost:{proxy.port}") == WITH_TLS
            url = f"rediss://localhost:{proxy.port}"
            assert (await asked(url)).startswith("its certificate is refused (unable to get local issuer certificate)")
            told = await asked(f"{url}/999", tls_ca_file=ca_file)
            assert told.startswith("the server has no database 999: name another one in the URL")

    with valkey_server() as valkey:
        asyncio.run(scenario(valkey))


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_silent_server_is_called_nothing(scheme: str) -> None:
    """It may be any."""
    with valkey_server() as valkey:
        valkey.freeze()
        told = ask(f"{scheme}://127.0.0.1:{valkey.port}", connect_timeout=0.2, publish_timeout=0.2)
        assert told.startswith("no answer within 0.2 s (redis.")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_server_that_hangs_up_is_said(scheme: str) -> None:
    """A balancer without a server behind it, for example; whether it has read what was asked or not."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async def read_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.close()

    async def scenario(serve: Any) -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            assert await asked(f"{scheme}://127.0.0.1:{port}") == CLOSED

    for serve in (hang_up, read_and_hang_up):
        asyncio.run(scenario(serve))


def test_a_server_without_room_is_said() -> None:
    """It refuses the client before that says who it is."""
    with valkey_server("--maxclients", "1") as server, redis.Redis.from_url(server.url) as first:
        first.ping()
        assert ask(server.url).startswith("the server has as many clients as it may have: raise its `maxclients`")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "this user may not open it"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no network leads there"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "the host cannot be reached"),
        (exceptions.TimeoutError("Timeout connecting to server"), "no answer within 2 s (redis.connect_timeout)"),
        (exceptions.ResponseError("DENIED Redis is running in protected mode"), "the server is in protected mode"),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "the server still reads its data"),
        (exceptions.ResponseError("SELECT is not allowed in cluster mode"), "the server is in cluster mode and has no"),
    ],
)
def test_each_reason_comes_with_what_to_change(error: Exception, told: str) -> None:
    """Those that no server here gives."""
    settings = RedisSettings(connect_timeout=2)
    reason = asyncio.run(diagnose(error, Target.of("unix:///run/redis.sock?db=5"), settings))
    assert reason.startswith(told)
    assert ": " in reason
