"""What hostile clients of Socket.IO do to a node, and what is left of them afterwards."""

from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from gateway.entrances.engineio_socket import JOINS_PER_SECOND, EngineHost
from tests.api.site import Site, running, settings_of
from tests.entrances.engine_client import PATIENCE, EngineClient, said
from tests.entrances.test_socketio import SETTINGS


@pytest.fixture
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


def test_who_closes_a_connection_has_not_authenticated_by_that(site: Site, http: httpx.Client) -> None:
    """Otherwise two requests would free any TCP connection from limits.unauthenticated."""
    client = EngineClient(http)
    client.send("1")
    admission = host_of(site).admission
    assert site.call(lambda: (admission.total, admission.unauthenticated)) == (1, 1)
    client = EngineClient(http)
    client.join()
    client.send('42["message",1]')
    assert site.call(lambda: admission.unauthenticated) == 0


def test_joining_over_and_over_is_limited(site: Site, http: httpx.Client) -> None:
    """Each join makes a session, and asks the application: one body of 64 KiB kept the loop for 0.9 s."""
    client = EngineClient(http)
    before = site.metric("gateway_connections_accepted_total")
    client.post(*["40", "41"] * 5_000)
    assert site.metric("gateway_connections_accepted_total") - before <= 1 + JOINS_PER_SECOND + 2
    while (packet := client.next()) != "1":
        assert packet.startswith("40{")
    assert client.poll().status_code == 400


def test_namespaces_that_do_not_exist_are_no_way_to_fill_the_memory(http: httpx.Client) -> None:
    """The client does not read the answers, seven times as long as the packets."""
    client = EngineClient(http)
    client.join()
    client.post(*["40/a,"] * 10_000)
    answer = client.poll()
    assert answer.text.endswith("\x1e1")
    assert len(answer.content) < 10_000
