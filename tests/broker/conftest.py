"""Engines to run the contract on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.broker.redis import reaper, redis_registry
from tests.broker.members import Engine, MemoryEngine, RedisEngine, fake_server
from tests.servers import ValkeyServer, valkey_server


@pytest.fixture(autouse=True)
def _quick_occupancy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for it often."""
    monkeypatch.setattr(redis_registry, "FLUSH_INTERVAL", 0.05)
    monkeypatch.setattr(reaper, "INTERVAL", 0.05)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A real server, for tests that do it no harm."""
    with valkey_server() as server:
        yield server


@pytest.fixture(scope="session")
def documented_user(valkey: ValkeyServer) -> str:
    """The URL of that server for a user who may do what docs/operations.md says that a node needs, and no more."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    (permissions,) = re.findall(r"`(~gw:\* .*?)`", text)
    with redis.Redis.from_url(valkey.url) as client:
        # The prefixes of RedisEngine.
        rules = permissions.replace("gw:*", "test*").split()
        client.execute_command("ACL", "SETUSER", "documented", "on", ">geheim", *rules)
    return f"redis://documented:geheim@127.0.0.1:{valkey.port}/0"


@pytest.fixture(scope="session")
def fake() -> Iterator[str]:
    with fake_server() as url:
        yield url


@pytest.fixture(params=["memory", pytest.param("fakeredis", marks=pytest.mark.slow), "valkey"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn. The stand-in for a server is many times slower than the server."""
    match request.param:
        case "memory":
            return MemoryEngine()
        case "fakeredis":
            return RedisEngine(request.getfixturevalue("fake"), durable=True)
        case _:
            return RedisEngine(request.getfixturevalue("documented_user"))
