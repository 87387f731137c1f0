"""One client for a whole program: made when a module is imported, used by threads, forks and loops, then closed."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.client import AsyncClient, Client
from tests.api.site import KEY, Site
from tests.client.callers import Caller
from tests.client.way import PATIENCE, Way

# Each starts processes.
pytestmark = pytest.mark.slow

FORK = """
import os
from gateway.client import Client

client = Client(timeout=60)
client.publish("news", "parent")
if child := os.fork():
    _, status = os.waitpid(child, 0)
    client.publish("news", "parent")
    raise SystemExit(os.waitstatus_to_exitcode(status))
client.publish("news", "child")
client.publish("news", "child")
client.close()
"""

ASYNC_FORK = """
import asyncio, os
from gateway.client import AsyncClient

client = AsyncClient(timeout=60)

async def publish(*data):
    for each in data:
        await client.publish("news", each)

with asyncio.Runner() as runner:
    runner.run(publish("parent"))
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        runner.run(publish("parent"))
        raise SystemExit(os.waitstatus_to_exitcode(status))
    with asyncio.Runner() as another:
        another.run(publish("child", "child"))
        another.run(client.aclose())
    os._exit(0)
"""

# The second loop finds the connections of the first, which was never told to close them.
LOOPS = """
import asyncio
from gateway.client import AsyncClient


client = AsyncClient(timeout=60)
for _ in range(2):
    asyncio.run(client.publish("news", 1))
"""


def run(code: str, way: Way) -> None:
    """Run a program that gets the gateway from the environment."""
    env = {**os.environ, "GATEWAY_URL": way.url, "GATEWAY_API_KEY": KEY}
    done = subprocess.run([sys.executable, "-c", code], env=env, timeout=PATIENCE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def ports(way: Way, data: str) -> set[int]:
    """The connections by which something was published."""
    return {request.port for request in way.requests if request.body["data"] == data}


def test_a_forked_process_has_connections_of_its_own(way: Way) -> None:
    """And leaves those of its parent alone."""
    for code in (FORK, ASYNC_FORK):
        way.requests.clear()
        run(code, way)
        parent, child = ports(way, "parent"), ports(way, "child")
        assert (len(way.requests), len(parent), len(child)) == (4, 1, 1)
        assert parent != child


def test_each_loop_has_connections_of_its_own(way: Way) -> None:
    run(LOOPS, way)
    assert len({request.port for request in way.requests}) == 2


def test_an_asynchronous_client_serves_loops_in_several_threads(site: Site) -> None:
    client = AsyncClient(f"http://{site.public}", KEY, timeout=60)
    both = threading.Barrier(2)

    async def publish() -> int:
        async with client:
            await client.info()
            both.wait()
            return (await client.publish("kept:loops", 1)).offset

    with ThreadPoolExecutor(2) as threads:
        offsets = [threads.submit(asyncio.run, publish()) for _ in range(2)]
        assert {each.result() for each in offsets} == {1, 2}


def test_one_client_serves_all_threads(site: Site) -> None:
    """They begin together, and share its connections."""
    client = Client(f"http://{site.public}", KEY, timeout=60)
    all_there = threading.Barrier(8)

    def publish() -> list[int]:
        all_there.wait()
        return [client.publish("kept:threads", 1).offset for _ in range(20)]

    with client, ThreadPoolExecutor(8) as threads:
        offsets = [threads.submit(publish) for _ in range(8)]
        assert sorted(offset for each in offsets for offset in each.result()) == [*range(1, 161)]


def test_one_asynchronous_client_serves_all_tasks(site: Site) -> None:
    client = AsyncClient(f"http://{site.public}", KEY, timeout=60)

    async def publish() -> list[int]:
        async with client:
            results = await asyncio.gather(*(client.publish("kept:tasks", 1) for _ in range(300)))
            return [each.offset for each in results]

    assert sorted(asyncio.run(publish())) == [*range(1, 301)]


def test_connections_are_kept_until_they_are_closed(way: Way, kind: str) -> None:
    """To close twice does no harm, and a later call makes new ones."""
    with Caller(kind, way.url, KEY, timeout=60) as gateway:
        gateway.info()
        gateway.info()
        assert len({request.port for request in way.requests}) == 1
        gateway.close()
        assert way.closed.acquire(timeout=PATIENCE)
        gateway.close()
        gateway.info()
        assert len({request.port for request in way.requests}) == 2
    assert way.closed.acquire(timeout=PATIENCE)


def test_a_client_that_was_never_used_is_closed(kind: str) -> None:
    with Caller(kind, "http://127.0.0.1:1", KEY):
        pass
