"""What hostile clients of Socket.IO do to a node, and what is left of them afterwards."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from gateway.control import NodeId
from gateway.entrances import engineio_endpoint, engineio_polling, engineio_upgrade
from gateway.entrances.engineio_polling import PollingClient, Verb
from gateway.entrances.engineio_socket import JOINS_PER_SECOND, EngineHost
from gateway.transports.websocket.websocket_transport import WebSocketTransport
from tests.api.site import Site, running, settings_of
from tests.entrances.engine_client import PATIENCE, POLLING, EngineClient, over_websocket, said
from tests.entrances.test_socketio import SETTINGS
from tests.entrances.two_nodes import directory_of, two_nodes


@pytest.fixture
def site() -> Iterator[Site]:
    with running(settings_of(**SETTINGS)) as site:
        yield site


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{site.public}", trust_env=False, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def nodes() -> Iterator[tuple[Site, Site]]:
    with two_nodes(settings_of(**SETTINGS)) as sites:
        yield sites


@pytest.fixture
def others(nodes: tuple[Site, Site]) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of the two nodes."""
    first, second = (
        httpx.Client(base_url=f"http://{each.public}", trust_env=False, timeout=PATIENCE) for each in nodes
    )
    with first, second:
        yield first, second


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
    # While it is busy, time passes, and with it the limit.
    assert site.metric("gateway_connections_accepted_total") - before <= 10 * JOINS_PER_SECOND
    assert all(packet.startswith("40{") for packet in client.rest())


def test_namespaces_that_do_not_exist_are_no_way_to_fill_the_memory(http: httpx.Client) -> None:
    """The client does not read the answers, seven times as long as the packets."""
    client = EngineClient(http)
    client.join()
    client.post(*["40/a,"] * 10_000)
    assert sum(map(len, client.rest())) < 10_000


@pytest.mark.parametrize("packets", [["3"], ["3", "3"]])
def test_a_pong_too_many_is_no_error(http: httpx.Client, packets: list[str]) -> None:
    """As in the reference: the ping may have been another node's, before the client moved."""
    client = EngineClient(http)
    client.send(*packets)
    client.join()


def test_the_wheel_knows_what_the_end_of_a_connection_costs(site: Site, http: httpx.Client) -> None:
    """Thousands may time out at once: it ends a few of them in each turn of the loop."""
    client = EngineClient(http)
    client.join()
    client.join(namespace="/admin,")
    client.send('420["join","chat:x"]')
    assert client.next().startswith("430")
    channels = site.call(lambda: [each.num_channels for each in site.gateway.clients])
    assert len(channels) == 2
    assert sum(channels) > 0
    assert site.call(lambda: client_of(site, client.sid)._socket.weight) == 1 + 2 + sum(channels)


def client_of(site: Site, sid: str) -> PollingClient:
    found = directory_of(site).find(sid)
    assert isinstance(found, PollingClient)
    return found


def test_empty_packets_are_not_kept_without_limit(
    nodes: tuple[Site, Site], others: tuple[httpx.Client, httpx.Client]
) -> None:
    """They have no bytes of their own, and take eight in the list."""
    client = EngineClient(others[0])
    with over_websocket(others[1], client.sid) as websocket:
        websocket.send("2probe")
        assert websocket.recv(timeout=PATIENCE) == "3probe"
        client.send(*[""] * 10_000)
        assert nodes[0].call(lambda: client_of(nodes[0], client.sid)._early) is None


def test_a_websocket_here_keeps_no_packets_back(
    nodes: tuple[Site, Site], others: tuple[httpx.Client, httpx.Client]
) -> None:
    """Not even if it never says a word, as behind a proxy that passes no frames on."""
    client = EngineClient(others[0])
    with over_websocket(others[0], client.sid):
        until(lambda: nodes[0].call(lambda: client_of(nodes[0], client.sid)._is_upgrading))
        client.send("40")
        assert nodes[0].call(lambda: client_of(nodes[0], client.sid)._early) is None
        assert client.next().startswith("40{")


@pytest.mark.parametrize("end", ["left", "shed"])
def test_a_websocket_that_ends_lets_the_client_poll_on_at_once(
    nodes: tuple[Site, Site],
    others: tuple[httpx.Client, httpx.Client],
    end: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that ends while the other node is being asked, or that this node drops."""
    monkeypatch.setattr(engineio_polling, "UPGRADE_TIMEOUT", 3600.0)
    monkeypatch.setattr(engineio_upgrade, "UPGRADE_TIMEOUT", 3600.0)
    near, far = nodes
    asked = threading.Event()
    relay = directory_of(far)._relay

    async def slow(node: NodeId, request: bytes, seconds: float) -> bytes | None:
        if request.endswith(Verb.FAR) and end == "left":
            await relay(node, request, seconds)
            asked.set()
            await asyncio.Event().wait()
        answer = await relay(node, request, seconds)
        asked.set()
        return answer

    directory_of(far)._relay = slow
    client = EngineClient(others[0])
    client.send("40")
    with over_websocket(others[1], client.sid) as websocket:
        assert asked.wait(PATIENCE)
        assert near.call(lambda: client_of(near, client.sid)._is_upgrading)
        if end == "left":
            websocket.close()
        else:
            (transport,) = far.call(lambda: websockets_of(far))
            far.call(transport.shed)
    until(lambda: not near.call(lambda: client_of(near, client.sid)._is_upgrading))
    assert client.next().startswith("40{")


def test_another_node_may_take_its_time_with_what_a_client_sends(
    nodes: tuple[Site, Site], others: tuple[httpx.Client, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As this one may: while a session takes no more, its clients wait and are not sent away."""
    monkeypatch.setattr(engineio_endpoint, "TIME_LIMIT", 0.0)
    client = EngineClient(others[0])
    client.join()
    transport = nodes[0].call(lambda: client_of(nodes[0], client.sid)._transport)
    nodes[0].call(transport.pause_reading)
    with ThreadPoolExecutor(1) as threads:
        params = {**POLLING, "sid": client.sid}
        sending = threads.submit(others[1].post, "/socket.io/", params=params, content='42["note",1]')
        until(lambda: nodes[0].call(lambda: len(transport._unread)) == 1)
        nodes[0].call(transport.resume_reading)
        assert sending.result(PATIENCE).text == "ok"


def websockets_of(site: Site) -> Sequence[WebSocketTransport]:
    return [each for each in site.server.server_state.connections if isinstance(each, WebSocketTransport)]


def until(is_so: Callable[[], bool]) -> None:
    """Ask again and again: nothing tells of it."""
    for _ in range(10_000):
        if is_so():
            return
    raise AssertionError("it does not come to that")
