"""Clients of every kind, spread over the nodes, all see what each of them publishes, in one order."""

import json
import threading
from collections.abc import Iterator

import cent
import pytest
from websockets.sync.client import connect

from tests.cli.commands import wait_for
from tests.cluster.sdk import Client, npm_client, python_client
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
    """npm centrifuge, centrifuge-python, a plain WebSocket and cent, each on another node, publishing at once."""
    first, second, third = cluster.nodes
    with (
        npm_client(first.ws) as npm,
        python_client(second.ws) as python,
        connect(f"{third.ws}/ws/{CHANNEL}") as plain,
    ):
        npm.subscribe(CHANNEL)
        python.subscribe(CHANNEL)
        backend = cent.Client(f"{first.url}/api", api_key="none")
        # A plain WebSocket is open before it has joined, and nothing tells its client.
        joined = cent.PresenceStatsRequest(channel=CHANNEL)
        wait_for(lambda: backend.presence_stats(joined).num_clients == 3)

        def publish_by_http() -> None:
            for index in range(EACH):
                backend.publish(cent.PublishRequest(channel=CHANNEL, data=f"cent {index}"))

        publisher = threading.Thread(target=publish_by_http)
        publisher.start()
        for index in range(EACH):
            npm.tell(publish=CHANNEL, data=f"npm {index}")
            python.tell(publish=CHANNEL, data=f"python {index}")
            plain.send(f"plain {index}")
        by_npm = received(npm, 4 * EACH)
        by_python = received(python, 4 * EACH)
        # A text message arrives as it was sent, a JSON string with its quotes.
        texts = [str(plain.recv(timeout=30)) for _ in range(4 * EACH)]
        by_plain = [json.loads(text) if text.startswith('"') else text for text in texts]
        publisher.join()

    assert by_npm == by_python == by_plain
    for sender in ("npm", "python", "plain", "cent"):
        own = [text for text in by_plain if text.startswith(sender)]
        assert own == [f"{sender} {index}" for index in range(EACH)]
