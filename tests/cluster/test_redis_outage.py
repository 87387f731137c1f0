"""Redis dies under load and comes back; the nodes stay."""

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from gateway.errors import INSUFFICIENT_STATE
from tests.clusters import Cluster, ClusterNode, running_cluster
from tests.servers import ValkeyServer, valkey_server

pytestmark = pytest.mark.slow

# The promise: unready within 10 s of the outage, everything works within 10 s of its end.
PROMISED_SECONDS = 10.0


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


@pytest.fixture
def cluster(valkey: ValkeyServer) -> Iterator[Cluster]:
    with running_cluster("--no-auth", "--redis-url", valkey.url, nodes=3) as running:
        yield running


def ask(node: ClusterNode, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    address = urlsplit(node.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        headers = {"X-Centrifugo-Error-Mode": "transport"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def await_ready(node: ClusterNode, status: int) -> dict[str, Any]:
    """Poll readiness until it is `status`, for as long as promised."""
    deadline = time.monotonic() + PROMISED_SECONDS
    while True:
        got, answer = ask(node, "GET", "/health/ready")
        if got == status:
            return answer
        assert time.monotonic() < deadline, f"{node.name} still answers {got} {answer}"
        time.sleep(0.05)


class Load:
    """Publishes over HTTP in turn on all nodes until it is closed; remembers what was acknowledged."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        self.acknowledged: list[str] = []
        self.failed: list[dict[str, Any]] = []
        self._nodes = nodes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            node = self._nodes[number % len(self._nodes)]
            data = f"load {number}"
            status, answer = ask(node, "POST", "/api/publish", {"channel": "load", "data": data})
            if status == 200:
                self.acknowledged.append(data)
            else:
                self.failed.append(answer)
            number += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class Reader:
    """A plain client that reads until its connection ends."""

    def __init__(self, node: ClusterNode) -> None:
        self.messages: list[str] = []
        self.close_code: int | None = None
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(connect(f"{node.ws}/ws/load"))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(ConnectionClosedError):
            for text in self._connection:
                self.messages.append(json.loads(text))
        self.close_code = self._connection.close_code

    def close(self) -> None:
        self._stack.close()
        self._thread.join()


def test_nodes_survive_an_outage_of_redis(valkey: ValkeyServer, cluster: Cluster) -> None:
    """Not ready while it lasts, publishes fail with a clear error, and afterwards all works without a restart."""
    with ExitStack() as stack:
        before = [stack.enter_context(closing(Reader(node))) for node in cluster.nodes]
        load = stack.enter_context(closing(Load(cluster.nodes)))
        wait_for(lambda: len(load.acknowledged) > 50)
        valkey.kill()
        for node in cluster.nodes:
            assert "Redis" in await_ready(node, 503)["reason"]
            assert ask(node, "GET", "/health/live")[0] == 200
        failed = len(load.failed)
        wait_for(lambda: len(load.failed) > failed + 10)
        valkey.start()
        for node in cluster.nodes:
            await_ready(node, 200)
        # The plain protocol tells of the gap by closing, with a code after which clients connect again.
        wait_for(lambda: [reader.close_code for reader in before] == [INSUFFICIENT_STATE.code] * len(before))
        after = [stack.enter_context(closing(Reader(node))) for node in cluster.nodes]
        wait_for(lambda: all(len(reader.messages) > 50 for reader in after))

    for error in load.failed:
        assert error["code"] == 100
        assert "Redis" in error["message"]
    # From its subscription on, which an open WebSocket does not say yet, everybody got everything, in order.
    for reader in before:
        first = load.acknowledged.index(reader.messages[0])
        assert reader.messages == load.acknowledged[first : first + len(reader.messages)]
    for node in cluster.nodes:
        os.kill(node.pid, 0)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
