"""Clients of every kind, spread over the nodes, all see what each of them publishes, in one order."""

import json
import threading
from collections.abc import Iterator
from typing import Any

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


def received(client: Client, count: int) -> list[Any]:
    return [client.expect("publication", channel=CHANNEL)["data"] for _ in range(count)]


def test_every_client_sees_every_message_in_one_order(cluster: Cluster) -> None:
    """Those of the native protocol in each encoding and over each transport, a plain WebSocket and cent, spread over
    the nodes, publishing at once. What is sent over HTTP goes to another node than the one with the session.
    """
    first, second, third = cluster.nodes
    with (
        npm_client(first.ws) as npm,
        npm_stream_client(second.url, third.url, "sse") as events,
        npm_stream_client(third.url, first.url, "http_stream") as lines,
        npm_stream_client(first.url, second.url, "http_stream", "", "protobuf") as lines_protobuf,
        python_client(second.ws) as python,
        npm_client(third.ws, "", "protobuf") as npm_protobuf,
        python_client(first.ws, "", "protobuf") as python_protobuf,
        connect(f"{third.ws}/ws/{CHANNEL}") as plain,
    ):
        sdks = {
            "npm": npm,
            "sse": events,
            "lines": lines,
            "http protobuf": lines_protobuf,
            "python": python,
            "npm protobuf": npm_protobuf,
            "python protobuf": python_protobuf,
        }
        for client in sdks.values():
            client.subscribe(CHANNEL)
        backend = cent.Client(f"{first.url}/api", api_key="none")
        # A plain WebSocket is open before it has joined, and nothing tells its client.
        joined = cent.PresenceStatsRequest(channel=CHANNEL)
        wait_for(lambda: backend.presence_stats(joined).num_clients == len(sdks) + 1)

        def publish_by_http() -> None:
            for index in range(EACH):
                backend.publish(cent.PublishRequest(channel=CHANNEL, data=f"cent: {index}"))

        publisher = threading.Thread(target=publish_by_http)
        publisher.start()
        for index in range(EACH):
            for name, client in sdks.items():
                client.tell(publish=CHANNEL, data=f"{name}: {index}")
            plain.send(f"plain: {index}")
        senders = (*sdks, "plain", "cent")
        texts = [str(plain.recv(timeout=30)) for _ in range(len(senders) * EACH)]
        # A text message arrives as it was sent, and in Protobuf too; JSON with its quotes, which SDKs read.
        by_plain = [json.loads(text) if text.startswith('"') else text for text in texts]
        by_sdk = {name: received(client, len(senders) * EACH) for name, client in sdks.items()}
        publisher.join()

    in_protobuf = [{"hex": text.encode().hex()} if text.startswith("plain") else text for text in by_plain]
    assert by_sdk == {name: in_protobuf if "protobuf" in name else by_plain for name in sdks}
    for sender in senders:
        own = [int(text.partition(": ")[2]) for text in by_plain if text.startswith(f"{sender}:")]
        # A client over HTTP sends its requests side by side, over connections of their own.
        assert (sorted(own) if sender in ("sse", "lines", "http protobuf") else own) == list(range(EACH))
