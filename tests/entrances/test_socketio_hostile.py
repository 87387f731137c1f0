"""What hostile clients of Socket.IO do to a node, and what is left of them afterwards."""

from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from gateway.entrances.engineio_socket import EngineHost
from tests.api.site import Site, running, settings_of
from tests.entrances.engine_client import PATIENCE, EngineClient, said
from tests.entrances.test_socketio import SETTINGS


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running(settings_of(**SETTINGS)) as site:
        yield site


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{site.public}", trust_env=False, timeout=PATIENCE) as client:
        yield client


def host_of(site: Site) -> EngineHost:
    return site.gateway._doors._socketio._host


def test_a_connection_that_ends_before_its_upgrade_does_not_live_on_over_the_websocket(http: httpx.Client) -> None:
    """Nothing would ping its client, or close it."""
    client = EngineClient(http)
    client.join()
    with client.websocket() as websocket:
        websocket.send("2probe")
        assert websocket.recv(timeout=PATIENCE) == "3probe"
        client.send("9")
        websocket.send("5")
        assert said(websocket) == "1"
        with pytest.raises(ConnectionClosed):
            said(websocket)
    assert client.poll().text == "1"
