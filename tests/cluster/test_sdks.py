"""Clients of every kind, spread over the nodes, all see what each of them publishes, in one order."""

import json
import threading
from collections.abc import Iterator

import cent
import pytest
from websockets.sync.client import connect

from tests.cli.commands import wait_for
from tests.cluster.sdk import Client, npm_client, npm_stream_client, python_client
from tests.clusters import Cluster, running_cluster

pytestmark = pytest.mark.slow

EACH = 50
CHANNEL = "mixed"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster("--no-auth", nodes=3) as running:
        yield running


def received(client: Client, count: int) -> list[str]:
    return [client.expect("publication", channel=CHANNEL)["data"] for _ in range(count)]


def test_every_client_sees_every_message_in_one_order(cluster: Cluster) -> None:
    """npm centrifuge over WebSocket, server-sent events and an HTTP stream, centrifuge-python, a plain WebSocket and
    cent, spread over the nodes, publishing at once. What is sent to one node is for a session on another.
    """
    first, second, third = cluster.nodes
    with (
        npm_client(first.ws) as npm,
        npm_stream_client(second.url, third.url, "sse") as events,
        npm_stream_client(third.url, first.url, "http_stream") as lines,
        python_client(second.ws) as python,
        connect(f"{third.ws}/ws/{CHANNEL}") as plain,
    ):
        clients = {"npm": npm, "sse": events, "lines": lines, "python": python}
        for client in clients.values():
            client.subscribe(CHANNEL)
        backend = cent.Client(f"{first.url}/api", api_key="none")
        # A plain WebSocket is open before it has joined, and nothing tells its client.
        joined = cent.PresenceStatsRequest(channel=CHANNEL)
        wait_for(lambda: backend.presence_stats(joined).num_clients == len(clients) + 1)

        def publish_by_http() -> None:
            for index in range(EACH):
                backend.publish(cent.PublishRequest(channel=CHANNEL, data=f"cent {index}"))

        publisher = threading.Thread(target=publish_by_http)
        publisher.start()
        for index in range(EACH):
            for name, client in clients.items():
                client.tell(publish=CHANNEL, data=f"{name} {index}")
            plain.send(f"plain {index}")
        senders = (*clients, "plain", "cent")
        by_sdk = [received(client, len(senders) * EACH) for client in clients.values()]
        # A text message arrives as it was sent, a JSON string with its quotes.
        texts = [str(plain.recv(timeout=30)) for _ in range(len(senders) * EACH)]
        by_plain = [json.loads(text) if text.startswith('"') else text for text in texts]
        publisher.join()

    assert all(seen == by_plain for seen in by_sdk)
    for sender in senders:
        own = [int(text.partition(" ")[2]) for text in by_plain if text.startswith(sender)]
        # A client over HTTP sends its requests side by side, over connections of their own.
        assert (sorted(own) if sender in ("sse", "lines") else own) == list(range(EACH))
