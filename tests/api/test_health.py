"""Health on both listeners."""

import httpx

from tests.api.clients import settled
from tests.api.site import Site, running, settings_of
from tests.api.test_cluster_methods import eventually
from tests.servers import ValkeyServer


def health(site: Site, name: str, *, internal: bool = False) -> tuple[int, dict[str, str]]:
    """Status and body."""
    answer = httpx.get(f"http://{site.internal if internal else site.public}/health/{name}", trust_env=False)
    body: dict[str, str] = answer.json()
    return answer.status_code, body


def test_a_node_that_serves_is_alive_and_ready(site: Site) -> None:
    """200 without a key; HEAD too, and nothing but these two is there."""
    for internal in (False, True):
        assert health(site, "live", internal=internal) == (200, {"status": "ok"})
        assert health(site, "ready", internal=internal) == (200, {"status": "ok"})
    for path, status in (("live", 200), ("ready", 200), ("", 404), ("other", 404)):
        assert httpx.head(f"http://{site.public}/health/{path}", trust_env=False).status_code == status
    assert httpx.post(f"http://{site.public}/health/live", trust_env=False).status_code == 405


def test_a_node_that_drains_is_not_ready(site: Site) -> None:
    """The reason says so; it is still alive, and its clients still served."""
    with running(settings_of()) as node, settled(node, "news") as client:
        node.call(node.gateway.start_draining)
        for internal in (False, True):
            unready = {"status": "unavailable", "reason": "draining"}
            assert health(node, "ready", internal=internal) == (503, unready)
            assert health(node, "live", internal=internal) == (200, {"status": "ok"})
        client.send("still here")
        assert client.recv(10) == "still here"


def test_a_node_whose_broker_is_down_is_not_ready(server: ValkeyServer) -> None:
    """The reason names what is missing; it is still alive, and ready again when the broker is back."""
    with running(settings_of(redis={"url": server.unix_url})) as node:
        assert health(node, "ready") == (200, {"status": "ok"})
        server.kill()
        try:
            eventually(lambda: health(node, "ready")[0], 503)
            status, body = health(node, "ready")
            assert (status, body["status"]) == (503, "unavailable")
            assert "Redis" in body["reason"]
            assert health(node, "live") == (200, {"status": "ok"})
            assert node.metric("gateway_broker_up") == 0
        finally:
            server.start()
        eventually(lambda: health(node, "ready")[0], 200)
        assert node.metric("gateway_broker_up") == 1


def test_a_node_that_does_not_hear_itself_is_not_ready(server: ValkeyServer) -> None:
    """Open sockets prove nothing: a server that stands still makes the node unready."""
    with running(settings_of(redis={"url": server.unix_url, "heartbeat_interval": 0.05})) as node:
        server.freeze()
        try:
            eventually(lambda: health(node, "ready")[0], 503)
            assert health(node, "live") == (200, {"status": "ok"})
        finally:
            server.thaw()
        eventually(lambda: health(node, "ready")[0], 200)
