"""The composition root: what the settings make of a node."""

import asyncio
import os
import re
import socket
import threading
from typing import Any

import httpx
import pytest
import redis
import uvicorn
import uvloop
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateway.app import Composition, engine
from gateway.broker.memory.memory_broker import MemoryBroker
from gateway.broker.memory.memory_presence import MemoryPresence
from gateway.broker.memory.memory_registry import MemoryRegistry
from gateway.broker.redis.redis_broker import RedisBroker
from gateway.broker.redis.redis_registry import RedisRegistry
from gateway.broker.redis.sharded_presence import ShardedPresence
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.control import NodeId
from gateway.in_force import opened
from gateway.metrics import Metrics
from gateway.transports.lifespan import Lifespan
from tests.api.clients import close_of, native, plain, settled
from tests.api.conftest import Api
from tests.api.site import KEY, OPEN, running, settings_of
from tests.servers import valkey_server

# Modes


@pytest.mark.parametrize("given", [{}, {"api": {"keys": [KEY]}}, {"auth": {"anonymous": True}}])
def test_closed_settings_stay_as_they_are(given: dict[str, Any]) -> None:
    """Nothing is opened that nobody asked for."""
    settings = ServerSettings.model_validate(given)
    assert opened(settings) is settings


@pytest.mark.parametrize("mode", ["no_auth", "demo"])
@pytest.mark.parametrize(
    ("api", "insecure"),
    [({}, True), ({"keys": [KEY]}, False), ({"keys": [KEY], "insecure": True}, True), ({"insecure": True}, True)],
)
def test_open_modes_let_anybody_in(mode: str, api: dict[str, Any], insecure: bool) -> None:
    """As anonymous; the API without a key, unless there are keys."""
    settings = opened(ServerSettings.model_validate({mode: True, "api": api}))
    assert settings.auth.anonymous
    assert settings.api.insecure is insecure
    assert len(settings.api.keys) == len(api.get("keys", []))


def test_a_node_is_closed_by_default() -> None:
    """With no settings at all nobody connects, subscribes, publishes or calls the API."""
    with running(ServerSettings.model_validate({"drain": {"window": 0}})) as site:
        with pytest.raises(ConnectionClosed, match="3501"), native(site):
            pass
        with plain(site, "news") as other:
            assert close_of(other) == (3501, "bad request")
        for address in (site.public, site.internal):
            answer = httpx.post(f"http://{address}/api/info", json={}, trust_env=False)
            assert answer.status_code == 401


def test_no_auth_opens_all_but_what_protects_its_user() -> None:
    """Channels without a namespace and `demo:` are open, others and `$` are not; pages of other origins stay out."""
    closed = ServerSettings.model_validate({"no_auth": True, "namespaces": {"closed": {}}, "drain": {"window": 0}})
    with running(closed) as site, Api(site, key=None) as api:
        with native(site) as client, settled(site, "news") as other, settled(site, "demo:chat"):
            client.subscribe("news")
            api.call("publish", channel="news", data=1)
            assert client.publication()["data"] == 1
            assert other.recv(10) == "1"
            for channel in ("closed:room", "$private"):
                assert client.command(subscribe={"channel": channel})["error"]["code"] == 103
        for origin in ("https://example.com", f"http://{site.public}", "null"):
            with pytest.raises(InvalidStatus, match="403"), native(site, origin=origin):
                pass
            with pytest.raises(InvalidStatus, match="403"), plain(site, "news", origin=origin):
                pass


def test_allowed_origins_are_let_in() -> None:
    """On both routes; and counted where they are not."""
    with running(settings_of(origins={"allowed": ["https://*.example.com"]})) as site:
        with (
            native(site, origin="https://chat.example.com") as client,
            settled(site, "a", origin="https://a.example.com"),
        ):
            client.subscribe("a")
        with pytest.raises(InvalidStatus), plain(site, "a", origin="https://example.org"):
            pass
        assert site.metric("gateway_connections_refused_total", reason="origin") == 1


# Engines


def test_without_a_url_the_node_stands_alone() -> None:
    """The engine in memory."""
    settings = ServerSettings()
    broker, registry, presence, *_ = engine(settings, NodeId("1"), Metrics(), Channels(settings), lambda: settings)
    assert isinstance(broker, MemoryBroker)
    assert isinstance(registry, MemoryRegistry)
    assert isinstance(presence, MemoryPresence)


def test_with_a_url_it_is_redis() -> None:
    """Broker and registry over the same server."""

    async def made() -> None:
        settings = ServerSettings.model_validate({"redis": {"url": "redis://127.0.0.1:1"}})
        broker, registry, presence, *_ = engine(settings, NodeId("1"), Metrics(), Channels(settings), lambda: settings)
        assert isinstance(broker, RedisBroker)
        assert isinstance(registry, RedisRegistry)
        assert isinstance(presence, ShardedPresence)
        await registry.stop()

    uvloop.run(made())


# Listeners


@pytest.mark.parametrize("public", [True, False])
def test_what_is_served_where(public: bool) -> None:
    """The balancer exposes only what is public; /api can be taken away from there."""
    with running(settings_of(api={"keys": [KEY], "public": public})) as site:
        expected = {
            ("GET", "/health/live"): (200, 200),
            ("GET", "/health/ready"): (200, 200),
            ("GET", "/metrics"): (404, 200),
            ("POST", "/api/info"): (200 if public else 404, 200),
            ("GET", "/api/openapi.json"): (200 if public else 404, 200),
            ("GET", "/"): (200, 404),
            ("GET", "/ws/news"): (426, 404),
            ("GET", "/connection/websocket"): (426, 404),
        }
        for (method, path), statuses in expected.items():
            for address, status in zip((site.public, site.internal), statuses, strict=True):
                url, headers = f"http://{address}{path}", {"X-API-Key": KEY}
                answer = httpx.request(method, url, headers=headers, json={}, trust_env=False)
                assert answer.status_code == status, (address, path)
        for path in ("/connection/websocket", "/ws/news"):
            with pytest.raises(InvalidStatus), connect(f"ws://{site.internal}{path}"):
                pass


def test_the_native_subprotocol_is_confirmed() -> None:
    """When it is offered, and no other."""
    with running(settings_of()) as site:
        for offered, confirmed in (
            (["centrifuge-json"], "centrifuge-json"),
            (["centrifuge-protobuf", "centrifuge-json"], "centrifuge-json"),
            (None, None),
        ):
            with native(site, subprotocols=offered) as client:
                assert client.socket.subprotocol == confirmed


def test_a_message_over_the_limit_closes() -> None:
    """limits.message_size, on both routes."""
    with running(settings_of(limits={"message_size": 100})) as site:
        with settled(site, "news") as client:
            client.send("x" * 100)
            assert client.recv(10) == "x" * 100
            client.send("x" * 101)
            assert close_of(client)[0] == 1009
        with native(site) as other:
            other.socket.send(" " * 101)
            assert other.close_code()[0] == 1009


def test_a_node_says_who_it_is() -> None:
    """Its name, or host and process; an id that no other node has; where others reach it."""

    async def made(**given: Any) -> Composition:
        return Composition(settings_of(**given))

    one, other = uvloop.run(made()), uvloop.run(made(node_name="two", node_url="http://two", internal_listen="[::1]:9"))
    assert one.administration.profile.name == f"{socket.gethostname()}-{os.getpid()}"
    assert other.administration.profile[1:] == ("two", "http://two", "[::1]:9")
    assert re.fullmatch("[0-9a-f]{16}", one.administration.profile.uid)
    assert one.administration.profile.uid != other.administration.profile.uid


# Life


def test_a_node_that_could_not_join_leaves_nothing_behind() -> None:
    """Here Redis lets it in but not at what the cluster knows: it waits, and ends with no task and no link."""

    async def started(url: str) -> set[str]:
        gateway = Composition(settings_of(redis={"url": url}))
        lifespan = Lifespan(gateway.public)
        await lifespan.startup()
        assert "revocations" in gateway.node.health().reason
        await lifespan.shutdown()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return {str(task.get_coro()) for task in others}

    with valkey_server() as server:
        with redis.Redis(unix_socket_path=str(server.path)) as operator:
            operator.execute_command(
                "ACL", "SETUSER", "node", "on", ">pw", "~*partitions*", "~*generation*", "~*settings*", "&*", "+@all"
            )
        assert uvloop.run(started(f"unix://node:pw@{server.path}")) == set()


def test_a_gateway_lives_in_any_asgi_server() -> None:
    """Here uvicorn as it comes: both protocols, the API, and an end that closes the clients with a code."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = "{}:{}".format(*listener.getsockname())
    servers: list[uvicorn.Server] = []
    ready = threading.Event()

    async def main() -> None:
        gateway = Composition(settings_of(channels=OPEN))
        config = uvicorn.Config(gateway.public, ws="websockets-sansio", log_config=None, log_level="critical")
        servers.append(uvicorn.Server(config))
        ready.set()
        await servers[0].serve(sockets=[listener])

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        with connect(f"ws://{address}/ws/news", compression=None, proxy=None) as client:
            client.send("hello")
            assert client.recv(10) == "hello"
            answer = httpx.post(
                f"http://{address}/api/publish",
                json={"channel": "news", "data": 1},
                headers={"X-API-Key": KEY},
                trust_env=False,
            )
            assert answer.json() == {"result": {}}
            assert client.recv(10) == "1"
            servers[0].should_exit = True
            assert close_of(client)[0] in (1012, 3001)
    finally:
        servers[0].should_exit = True
        thread.join(15)
    assert not thread.is_alive()
