"""One publisher for a whole program: made when a module is imported, then used after forks and by several loops."""

import json
import os
import subprocess
import sys

import pytest
import redis

from gateway.client import Client
from tests.api.site import Site
from tests.servers import ValkeyServer

# Each starts processes.
pytestmark = pytest.mark.slow

# The children begin while threads of the parent hold all its connections.
FORK = """
import os, threading
from gateway.publisher import Publisher

gateway = Publisher(timeout=60, connections=2)

def publish(who, count):
    for number in range(count):
        gateway.publish("kept:fork", [who, number])

publish("before", 1)
threads = [threading.Thread(target=publish, args=(f"thread {each}", 200)) for each in range(4)]
for thread in threads:
    thread.start()
children = []
for each in range(3):
    child = os.fork()
    if not child:
        try:
            publish(f"child {each}", 50)
            gateway.close()
        except BaseException as error:
            print(error, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
for thread in threads:
    thread.join()
publish("after", 1)
raise SystemExit(any(failed))
"""

ASYNC_FORK = """
import asyncio, os
from gateway.publisher import AsyncPublisher

gateway = AsyncPublisher(timeout=60)

async def publish(who, count):
    for number in range(count):
        await gateway.publish("kept:fork-async", [who, number])

with asyncio.Runner() as runner:
    runner.run(publish("before", 1))
    if child := os.fork():
        runner.run(publish("parent", 50))
        _, status = os.waitpid(child, 0)
        runner.run(publish("after", 1))
        raise SystemExit(os.waitstatus_to_exitcode(status))
    with asyncio.Runner() as another:
        another.run(publish("child", 50))
        another.run(gateway.aclose())
    os._exit(0)
"""

# The second loop finds the connection of the first, which was never told to close it.
LOOPS = """
import asyncio
from gateway.publisher import AsyncPublisher

gateway = AsyncPublisher(timeout=60)
for number in range(2):
    asyncio.run(gateway.publish("kept:loops", ["loop", number]))
"""

FORKED = {"before": 1, "after": 1}
EXPECTED = {
    "kept:fork": (
        FORK,
        FORKED | {f"thread {each}": 200 for each in range(4)} | {f"child {each}": 50 for each in range(3)},
    ),
    "kept:fork-async": (ASYNC_FORK, FORKED | {"parent": 50, "child": 50}),
    "kept:loops": (LOOPS, {"loop": 2}),
}


@pytest.mark.parametrize("channel", EXPECTED)
def test_everything_arrives_once_and_in_the_order_of_each(site: Site, server: ValkeyServer, channel: str) -> None:
    code, counts = EXPECTED[channel]
    env = {**os.environ, "GATEWAY_REDIS__URL": server.url}
    done = subprocess.run([sys.executable, "-c", code], env=env, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with Client(f"http://{site.public}") as api:
        data = [json.loads(bytes(each.data)) for each in api.history(channel, limit=-1).publications]
    by_writer: dict[str, list[int]] = {}
    for who, number in data:
        by_writer.setdefault(who, []).append(number)
    assert by_writer == {who: list(range(count)) for who, count in counts.items()}
    with redis.Redis.from_url(server.url) as admin:
        assert "gateway-publisher" not in [each["name"] for each in admin.client_list()]
