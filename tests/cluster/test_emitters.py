"""Services with the unmodified libraries reach the subscribers of every node, also when nodes end."""

import base64
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import socketio
from websockets.sync.client import ClientConnection, connect

from tests.cli.commands import wait_for
from tests.cluster.sdk import Client, npm_emitter
from tests.clusters import Cluster, ClusterNode, running_cluster

pytestmark = pytest.mark.slow

PATIENCE = 30.0
ENABLED = {"GATEWAY_SOCKETIO__EMITTERS__ENABLED": "true", "GATEWAY_SOCKETIO__EVERYONE": "all"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster("--no-auth", nodes=2, env=ENABLED) as running:
        wait_for(lambda: sum(listens(node) for node in running.nodes) == 1)
        yield running


def listens(node: ClusterNode) -> bool:
    return metric(node, "gateway_emitters_heard") == 1.0


def metric(node: ClusterNode, name: str, label: str = "") -> float:
    """0 if it cannot be read: the node has ended."""
    try:
        with urllib.request.urlopen(f"{node.internal_url}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + label))


def emit(client: Client, name: str, **asked: object) -> None:
    client.tell(name=name, **asked)
    client.expect("emitted", name=name)


@contextmanager
def subscribers(cluster: Cluster, channel: str) -> Iterator[list[ClientConnection]]:
    """A plain WebSocket on each node."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(connect(f"{node.ws}/ws/{channel}", compression=None, proxy=None))
            for node in cluster.nodes
        ]


def received(sockets: list[ClientConnection]) -> list[str | bytes]:
    """The same on all nodes."""
    first, *others = [socket.recv(timeout=PATIENCE) for socket in sockets]
    assert others == [first] * len(others)
    return [first]


def test_the_npm_emitter(cluster: Cluster) -> None:
    """Rooms, everybody, buffers, dates and flags; what cannot be delivered as asked reaches nobody."""
    with (
        npm_emitter(cluster.ready["redis_url"]) as service,
        subscribers(cluster, "news") as news,
        subscribers(cluster, "all") as everybody,
    ):
        emit(service, "news", to="news", arguments=[{"a": [1, "grün", None]}], volatile=True)
        assert received(news) == ['{"a":[1,"grün",null]}']
        emit(service, "news", to=["news", "all"], buffer=base64.b64encode(b"\x00\xff").decode())
        assert received(news) == received(everybody) == [b"\x00\xff"]
        emit(service, "news", to="news", date=1_767_323_045_006)
        assert received(news) == ['{"at":"2026-01-02T03:04:05.006Z"}']
        emit(service, "news", arguments=["to all"])
        assert received(everybody) == ['"to all"']
        for refused in (
            {"arguments": [1, 2]},
            {"arguments": [1], "buffer": "AP8="},
            {"arguments": [1], "except": ["room"]},
            {"arguments": [1], "nsp": "/chat"},
        ):
            emit(service, "news", to="news", **refused)
        emit(service, "news", to="news", arguments=["last"], join="news")
        assert received(news) == ['"last"']
    dropped = {
        reason: sum(metric(node, "gateway_emitted_dropped_total", f'{{reason="{reason}"}}') for node in cluster.nodes)
        for reason in ("arguments", "except", "namespace")
    }
    # Redis itself keeps other namespaces away.
    assert dropped == {"arguments": 2, "except": 1, "namespace": 0}


def test_the_write_only_manager_of_python_socketio(cluster: Cluster) -> None:
    manager = socketio.RedisManager(cluster.ready["redis_url"], write_only=True)
    with subscribers(cluster, "news") as news, subscribers(cluster, "all") as everybody:
        manager.emit("news", {"a": [1, "grün", None]}, room="news")
        (text,) = received(news)
        assert json.loads(text) == {"a": [1, "grün", None]}
        manager.emit("news", [1, 2], to=["news", "all"])
        assert received(news) == received(everybody) == ["[1, 2]"]
        manager.emit("news", b"\x00\xff", room="news")
        assert received(news) == [b"\x00\xff"]
        manager.emit("news", "to all")
        assert received(everybody) == ['"to all"']
        manager.emit("news", (1, 2), room="news")
        manager.emit("news", {"a": b"\x00"}, room="news")
        manager.emit("news", 1, room="news", skip_sid="room")
        manager.emit("news", 1, room="news", namespace="/chat")
        manager.enter_room("somebody", "/", "news")
        manager.emit("news", None, room="news")
        assert received(news) == ["null"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_node_that_listens_ends(cluster: Cluster, how: signal.Signals) -> None:
    """Another one listens: without a gap if it could be asked to, and else the gap is told."""
    manager = socketio.RedisManager(cluster.ready["redis_url"], write_only=True)
    ending, staying = sorted(cluster.nodes, key=listens, reverse=True)
    sent = 0
    with connect(f"{staying.ws}/ws/news", compression=None, proxy=None) as socket:
        os.kill(ending.pid, how)
        while not listens(staying):
            manager.emit("news", sent, room="news")
            sent += 1
        manager.emit("news", "last", room="news")
        seen = []
        while (text := socket.recv(timeout=PATIENCE)) != '"last"':
            seen.append(int(text))
    assert sorted(set(seen)) == seen
    if how is signal.SIGTERM:
        assert seen == list(range(sent))
    else:
        wait_for(lambda: metric(staying, "gateway_emitters_unheard_seconds_total") >= 1)
