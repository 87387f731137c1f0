"""The commands of the native protocol in Protobuf, as the unmodified SDKs write and read them."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from gateway.tokens import connection_token
from tests.cluster.sdk import Client, npm_client, python_client
from tests.clusters import Cluster, running_cluster

pytestmark = pytest.mark.slow

SECRET = "the secret of the tests, longer than 32 bytes"
SETTINGS = {
    "GATEWAY_AUTH__HMAC_SECRET": SECRET,
    "GATEWAY_NAMESPACES__room__DELIVERY": "recoverable",
    "GATEWAY_NAMESPACES__room__PRESENCE": "true",
    "GATEWAY_NAMESPACES__room__ALLOW_SUBSCRIBE": "client",
    "GATEWAY_NAMESPACES__room__ALLOW_PUBLISH": "client",
    "GATEWAY_NAMESPACES__room__ALLOW_PRESENCE": "subscriber",
}
Open = Callable[..., AbstractContextManager[Client]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(nodes=1, env=SETTINGS) as running:
        yield running


@pytest.fixture(params=[npm_client, python_client])
def open_client(request: pytest.FixtureRequest) -> Open:
    opens: Open = request.param
    return opens


def test_an_sdk_reads_what_it_asks_for(cluster: Cluster, open_client: Open) -> None:
    """Its publications come back, and so do the members, the history and errors."""
    channel = f"room:{open_client.__name__}"
    (node,) = cluster.nodes
    token = connection_token(SECRET, "ann", info={"name": "Ann"})
    with open_client(node.ws, token, "protobuf") as client:
        client.subscribe(channel)
        values = [{"n": 1, "text": "é" * 200}, 7, None, "x"]
        for value in values:
            client.tell(publish=channel, data=value)
        for value in values:
            client.expect("publication", channel=channel, data=value)
        client.tell(presence=channel)
        found = client.expect("presence")
        assert (found["clients"], found["count"]) == ([{"user": "ann", "info": {"name": "Ann"}}], 1)
        client.tell(history=channel)
        page = client.expect("history")
        assert (page["data"], page["offset"]) == (values, 4)
        client.tell(rpc="nothing", data={"a": 1})
        client.expect("error", code=108, message="not available")
        client.tell(publish="nowhere:x", data=1)
        client.expect("error", code=102, message="unknown channel")


def test_an_sdk_refreshes_its_token(cluster: Cluster, open_client: Open) -> None:
    """More than once, and without losing its connection."""
    channel = f"room:refreshed-{open_client.__name__}"
    (node,) = cluster.nodes

    def short_token() -> str:
        return connection_token(SECRET, "ann", expires_in=3, now=time.time())

    with open_client(node.ws, short_token(), "protobuf", "refresh") as client:
        client.subscribe(channel)
        start = len(client.seen)
        for _ in range(2):
            client.expect("token")
            client.tell(token=short_token())
        client.expect("token")
        client.tell(publish=channel, data=1)
        client.expect("publication", data=1)
        assert not {"connecting", "disconnected", "error"} & {each["event"] for each in client.seen[start:]}
