"""The SDKs lose their connection while somebody publishes, come back on another node, and have missed nothing."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import cent
import pytest

from tests.cluster.sdk import PATIENCE, Client, npm_client, npm_stream_client, python_client
from tests.cluster.way import Way
from tests.clusters import Cluster, ClusterNode, running_cluster

pytestmark = pytest.mark.slow

CHANNEL = "numbers"
COUNT = 300
SECONDS_BETWEEN = 0.01
# The connection ends when the client has this number, and comes back when that many were published without it.
SEEN = 100
MISSED = 50


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster("--no-auth", nodes=3) as running:
        yield running


class Publisher:
    """Publishes the numbers from 0 on over HTTP, at a steady rate."""

    def __init__(self, node: ClusterNode) -> None:
        self._backend = cent.Client(f"{node.url}/api", api_key="none")
        self._published = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for number in range(COUNT):
            if self._stop.wait(SECONDS_BETWEEN):
                return
            self._backend.publish(cent.PublishRequest(channel=CHANNEL, data=number))
            with self._changed:
                self._published = number + 1
                self._changed.notify_all()

    def wait_for_more(self, count: int) -> None:
        """Until `count` more than now were acknowledged; there must be that many."""
        with self._changed:
            wanted = self._published + count
            assert self._changed.wait_for(lambda: self._published >= wanted, PATIENCE)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def clients_of(way: Way, other: ClusterNode) -> Iterator[list[Client]]:
    """One of each SDK in each encoding and over each transport, subscribed. What is sent over HTTP goes to the other
    node.
    """
    url, http = f"ws://{way.address}", f"http://{way.address}"
    with ExitStack() as stack:
        clients = [
            stack.enter_context(open_client(url, "", encoding))
            for open_client in (npm_client, python_client)
            for encoding in ("json", "protobuf")
        ]
        clients += [
            stack.enter_context(npm_stream_client(http, other.url, transport)) for transport in ("http_stream", "sse")
        ]
        for client in clients:
            client.subscribe(CHANNEL)
        yield clients


def move(cluster: Cluster, break_connections: Callable[[Way, ClusterNode], None]) -> None:
    """Break the connections of clients of the first node in the midst of messages, and lead them to the second."""
    first, second, third = cluster.nodes
    with ExitStack() as stack:
        way = stack.enter_context(closing(Way(first)))
        clients = stack.enter_context(clients_of(way, third))
        publisher = stack.enter_context(closing(Publisher(third)))
        for client in clients:
            client.expect("publication", data=SEEN)
        way.close_to_new()
        break_connections(way, first)
        for client in clients:
            client.expect("connecting")
        publisher.wait_for_more(MISSED)
        way.open_to(second)
        for client in clients:
            client.expect("publication", data=COUNT - 1)
    for client in clients:
        check(client)


def check(client: Client) -> None:
    """All messages, exactly once, in order; and the SDK knows that it has missed none."""
    numbers = [message["data"] for message in client.seen if message["event"] == "publication"]
    assert numbers == list(range(COUNT))
    first, second = (message for message in client.seen if message["event"] == "subscribed")
    assert not first["recovering"]
    assert second["recovering"]
    assert second["recovered"]


def test_a_cut_connection_is_recovered_on_another_node(cluster: Cluster) -> None:
    """As when a balancer or a mobile network drops it; the node knows no more than that the socket is gone."""
    move(cluster, lambda way, _: way.cut())


def test_a_killed_node_is_replaced_by_another(cluster: Cluster) -> None:
    """SIGKILL: it closes nothing and says nothing to anybody."""
    move(cluster, lambda _, node: os.kill(node.pid, signal.SIGKILL))


def test_a_snapshot_and_the_stream_have_no_hole_between_them(cluster: Cluster) -> None:
    """What came after the position was read arrives; a position that is lost is asked for again."""
    first, second, third = cluster.nodes
    backend = cent.Client(f"{third.url}/api", api_key="none")
    with ExitStack() as stack:
        way = stack.enter_context(closing(Way(first)))
        url = f"ws://{way.address}"
        clients = [stack.enter_context(npm_client(url)), stack.enter_context(python_client(url))]
        for client in clients:
            client.tell(subscribe=CHANNEL, state=True)
            give_position(client, backend, "between")
            client.expect("publication", data="between")
        way.close_to_new()
        way.cut()
        backend.publish(cent.PublishRequest(channel=CHANNEL, data="missed"))
        backend.history_remove(cent.HistoryRemoveRequest(channel=CHANNEL))
        way.open_to(second)
        for client in clients:
            give_position(client, backend, "afterwards")
            client.expect("publication", data="afterwards")
            assert {"event": "publication", "channel": CHANNEL, "data": "missed"} not in client.seen


def give_position(client: Client, backend: cent.Client, data: str) -> None:
    """Answer the client's question with where the stream stood before something was published."""
    client.expect("state")
    position = backend.history(cent.HistoryRequest(channel=CHANNEL))
    backend.publish(cent.PublishRequest(channel=CHANNEL, data=data))
    client.tell(position={"offset": position.offset, "epoch": position.epoch})
