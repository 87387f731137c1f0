"""Differences and latest values, as the unmodified SDKs read them."""

from collections.abc import Iterator

import cent
import pytest

from tests.cluster.sdk import npm_client, python_client
from tests.clusters import Cluster, running_cluster

pytestmark = pytest.mark.slow

SETTINGS = {
    "GATEWAY_NAMESPACES__doc__DELIVERY": "recoverable",
    "GATEWAY_NAMESPACES__doc__DELTA": "true",
    "GATEWAY_NAMESPACES__doc__ALLOW_SUBSCRIBE": "anonymous",
    "GATEWAY_NAMESPACES__dash__DELIVERY": "latest",
    "GATEWAY_NAMESPACES__dash__ALLOW_SUBSCRIBE": "anonymous",
    "GATEWAY_NAMESPACES__dash__LATEST_INTERVAL": "0",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster("--no-auth", nodes=2, env=SETTINGS) as running:
        yield running


def version(number: int) -> dict[str, object]:
    return {
        "title": "über \N{EARTH GLOBE EUROPE-AFRICA}",
        "lines": [f"line {each}" for each in range(100)],
        "v": number,
    }


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_both_sdks_put_publications_together_from_differences(cluster: Cluster, encoding: str) -> None:
    """On two nodes; who comes later, and who comes back, begins with a whole one."""
    channel = f"doc:{encoding}"
    here, there = cluster.nodes
    backend = cent.Client(f"{there.url}/api", api_key="none")
    with npm_client(here.ws, "", encoding) as npm, python_client(there.ws, "", encoding) as python:
        npm.subscribe(channel, delta="fossil")
        for number in range(20):
            if number == 10:
                python.subscribe(channel, delta="fossil")
            backend.publish(cent.PublishRequest(channel=channel, data=version(number)))
        for number in range(20):
            assert npm.expect("publication")["data"] == version(number)
        for number in range(10, 20):
            assert python.expect("publication")["data"] == version(number)
        npm.tell(deltas=channel)
        assert npm.expect("deltas")["count"] == 19


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_both_sdks_show_the_newest_value_of_each_key_first(cluster: Cluster, encoding: str) -> None:
    """Whichever node it was published on."""
    channel = f"dash:{encoding}"
    here, there = cluster.nodes
    backend = cent.Client(f"{there.url}/api", api_key="none")
    for number in range(3):
        for key in "ab":
            backend.publish(cent.PublishRequest(channel=channel, data=number, tags={"key": key}))
    with npm_client(here.ws, "", encoding) as npm, python_client(there.ws, "", encoding) as python:
        for client in (npm, python):
            client.subscribe(channel)
            first = [client.expect("publication") for _ in range(2)]
            assert [(each["data"], each["tags"]["key"]) for each in first] == [(2, "a"), (2, "b")]
            assert all(each["tags"]["age"].isdigit() for each in first)
        backend.publish(cent.PublishRequest(channel=channel, data="new", tags={"key": "a"}))
        for client in (npm, python):
            assert client.expect("publication")["data"] == "new"
