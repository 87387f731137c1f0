"""What both publishers do beside a running node, and what its clients see."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis

from gateway.broker.redis.posted_settings import posted
from gateway.client import Client
from gateway.client.failures import ClientError, Refused, Unavailable
from gateway.config.settings import ServerSettings
from gateway.errors import ConfigError
from gateway.hooks import Hooks
from gateway.publisher import AsyncPublisher, Publisher
from tests.api.clients import native, settled
from tests.api.site import Site
from tests.publisher.callers import Caller
from tests.publisher.conftest import NAMESPACES, Again, node_settings, until
from tests.servers import ValkeyServer, valkey_server


@dataclass
class Order:
    id: UUID
    at: datetime


ORDER = Order(UUID(int=7), datetime(2026, 1, 2, tzinfo=UTC))


@dataclass
class Line:
    text: int


class Broken(msgspec.Struct):
    text: int

    def __post_init__(self) -> None:
        raise KeyError("secret")


AS_JSON = {"id": "00000000-0000-0000-0000-000000000007", "at": "2026-01-02T00:00:00Z"}


@pytest.mark.parametrize(
    ("data", "seen"),
    [({"text": "hi\nü☃"}, {"text": "hi\nü☃"}), (ORDER, AS_JSON), (None, None), (b"\x00\xff", {"base64": "AP8="})],
)
def test_what_has_a_json_or_is_bytes_reaches_clients(site: Site, gateway: Caller, data: Any, seen: Any) -> None:
    with native(site) as client:
        client.subscribe("chat:lobby")
        assert gateway.publish("chat:lobby", data, tags={"a": "b"}).offset == 0
        assert client.push() == {"channel": "chat:lobby", "pub": {"data": seen, "tags": {"a": "b"}}}


def test_positions_keys_and_versions_are_those_of_the_channel(site: Site, gateway: Caller, kind: str) -> None:
    """A publish of the API goes on where the publisher was, and the other way round."""
    channel = f"kept:{kind}"
    with Client(f"http://{site.public}") as api:
        first = gateway.publish(channel, 1)
        assert api.publish(channel, 2) == type(first)(2, first.epoch)
        assert gateway.publish(channel, 3, idempotency_key="k").offset == 3
        assert gateway.publish(channel, 3, idempotency_key="k").offset == 3
        assert api.publish(channel, 3, idempotency_key="k").offset == 3
        assert gateway.publish(channel, 4, version=5).offset == 4
        assert gateway.publish(channel, 4, version=4).offset == 4
        assert gateway.publish(channel, "now", skip_history=True).offset == 0
        page = api.history(channel, limit=-1)
    assert [json.loads(bytes(each.data)) for each in page.publications] == [1, 2, 3, 4]
    assert page.epoch == first.epoch


def test_a_key_without_history_publishes_once(site: Site, gateway: Caller, kind: str) -> None:
    with settled(site, "chat:once") as client:
        for data in ("first", "again"):
            gateway.publish("chat:once", data, idempotency_key=kind)
        gateway.publish("chat:once", "other")
        assert [client.recv(10), client.recv(10)] == ['"first"', '"other"']


def test_latest_values_have_their_limits(gateway: Caller, kind: str) -> None:
    channel = f"last:{kind}"
    for key in "ab":
        gateway.publish(channel, 1, tags={"key": key})
    with pytest.raises(Refused, match="as many keys") as caught:
        gateway.publish(channel, 1, tags={"key": "c"})
    assert caught.value.code == 106


def test_a_broadcast_answers_for_each_channel(site: Site, gateway: Caller) -> None:
    names = [f"chat:{number}" for number in range(250)]
    with settled(site, names[0]) as first, settled(site, names[-1]) as last:
        responses = gateway.broadcast([*names, "nowhere:x", 7, "kept:b"], {"n": 1}).responses
        assert first.recv(10) == last.recv(10) == '{"n":1}'
    assert [each.error.code for each in responses if each.error is not None] == [102, 107]
    assert responses[-1].result.offset > 0
    with pytest.raises(Refused, match=r"api\.max_batch"):
        gateway.broadcast(["chat:x"] * 301, 1)


def test_to_user(site: Site, gateway: Caller) -> None:
    with native(site, "42") as client:
        gateway.to_user("42", "hello")
        assert client.push() == {"channel": "#42", "pub": {"data": "hello"}}
    with pytest.raises(Refused, match=r"108 .*personal channel"):
        gateway.to_user("4,2", "hello")
    for user in (None, 42):
        with pytest.raises(TypeError, match="user"):
            gateway.to_user(user, "hello")


BAD: list[dict[str, Any]] = [
    {"channel": "chat:x", "data": "x" * 1000},
    {"channel": "nowhere:x", "data": 1},
    {"channel": "white space", "data": 1},
    {"channel": "", "data": 1},
    {"channel": "chat:x", "data": 1, "version": 1},
    {"channel": "chat:x", "data": 1, "version": -1},
    {"channel": "chat:x", "data": 1, "idempotency_key": "k" * 257},
    {"channel": "chat:x", "data": 1, "tags": {str(each): "" for each in range(65)}},
    {"channel": "chat:x", "data": 1, "exclude_client": "c" * 256},
]


@pytest.mark.parametrize("arguments", BAD, ids=str)
def test_what_the_api_refuses_is_refused_in_the_same_words(
    site: Site, gateway: Caller, arguments: dict[str, Any]
) -> None:
    with Client(f"http://{site.public}") as api, pytest.raises(Refused) as expected:
        api.publish(**arguments)
    with pytest.raises(Refused) as caught:
        gateway.publish(**arguments)
    assert str(caught.value) == str(expected.value)


def test_what_has_no_json_is_refused_as_by_the_client(gateway: Caller) -> None:
    with pytest.raises(TypeError, match="object has no JSON"):
        gateway.publish("chat:x", object())


def test_one_publisher_keeps_the_order(site: Site, gateway: Caller) -> None:
    with settled(site, "chat:order") as client:
        for number in range(200):
            gateway.publish("chat:order", number)
        assert [client.recv(10) for _ in range(200)] == [str(number) for number in range(200)]


def test_calls_of_many_tasks_keep_their_order(site: Site, server: ValkeyServer) -> None:
    """Also those that are made while the first of them connects, and after it."""

    async def publish_all() -> None:
        async with AsyncPublisher(server.url, timeout=60) as gateway:
            calls = [asyncio.ensure_future(gateway.publish("kept:tasks", number)) for number in range(50)]
            await calls[0]
            calls += [asyncio.ensure_future(gateway.publish("kept:tasks", number)) for number in range(50, 100)]
            await asyncio.gather(*calls)

    asyncio.run(publish_all())
    with Client(f"http://{site.public}") as api:
        page = api.history("kept:tasks", limit=-1)
    assert [json.loads(bytes(each.data)) for each in page.publications] == list(range(100))


def test_threads_share_two_connections(server: ValkeyServer, site: Site) -> None:
    """However many they are; each publish arrives once."""
    with Publisher(server.url, timeout=60, connections=2) as gateway, redis.Redis.from_url(server.url) as admin:
        gate = threading.Barrier(8)

        def publish(thread: int) -> None:
            gate.wait(60)
            for number in range(25):
                gateway.publish("kept:threads", thread * 100 + number)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(publish, range(8)))
        names = [each["name"] for each in admin.client_list()]
        assert 1 <= names.count("gateway-publisher") <= 2
    with Client(f"http://{site.public}") as api:
        data = [json.loads(bytes(each.data)) for each in api.history("kept:threads", limit=-1).publications]
    assert sorted(data) == sorted(thread * 100 + number for thread in range(8) for number in range(25))
    for thread in range(8):
        own = [each for each in data if each // 100 == thread]
        assert own == sorted(own)


def test_a_closed_publisher_connects_again(gateway: Caller, server: ValkeyServer) -> None:
    with redis.Redis.from_url(server.url) as admin:
        gateway.publish("chat:x", 1)
        assert "gateway-publisher" in [each["name"] for each in admin.client_list()]
        gateway.close()
        # A command over each connection tells Redis that it ended, before it is asked.
        assert until(lambda: "gateway-publisher" not in [each["name"] for each in admin.client_list()])
        gateway.publish("chat:x", 1)


# Settings


def test_a_reload_reaches_publishers(site: Site, again: Again, gateway: Caller, server: ValkeyServer) -> None:
    """The next call after a second at most, for the nodes, and another, for the publisher."""
    before = again.settings
    with pytest.raises(Refused, match="102"):
        gateway.publish("new:x", 1)
    again.settings = node_settings(server.url, namespaces={**NAMESPACES, "new": {"delivery": "recoverable"}})
    try:
        with Client(f"http://{site.public}") as api:
            api.reload()
        assert until(lambda: accepts(gateway, "new:x"))
        assert gateway.publish("new:x", 1).offset > 1
    finally:
        again.settings = before
        with Client(f"http://{site.public}") as api:
            api.reload()
    assert until(lambda: not accepts(gateway, "new:x"))


def accepts(gateway: Caller, channel: str) -> bool:
    try:
        gateway.publish(channel, 1)
    except Refused:
        return False
    return True


def test_without_a_node_it_says_what_to_look_at(kind: str, server: ValkeyServer) -> None:
    with Caller(kind, server.url, prefix="other", retries=0) as gateway:
        with pytest.raises(Unavailable, match=r"Redis at .*: no node has written .*'other'.*redis\.prefix") as caught:
            gateway.publish("chat:x", 1)
        assert not caught.value.is_unknown


def test_settings_of_a_later_version_stop_it(kind: str, server: ValkeyServer) -> None:
    """It does not go on with those that it knows, which may be wrong by now."""
    with redis.Redis.from_url(server.url) as admin, Caller(kind, server.url, prefix="later", retries=0) as gateway:
        key = "later:{home}:settings:0::"
        document, digest = posted(ServerSettings())
        admin.hset(key, mapping={"digest": digest, "document": document})
        gateway.publish("x", 1)
        admin.hset(key, mapping={"digest": "another", "document": document.replace(b'"format":1', b'"format":2')})

        def is_stopped() -> bool:
            try:
                gateway.publish("x", 1)
            except Unavailable as error:
                return "in format 2" in str(error)
            return False

        assert until(is_stopped)
        assert is_stopped()


@pytest.mark.parametrize(
    ("url", "hint"),
    [("redis://127.0.0.1:1", "nothing listens there"), ("unix:///nowhere/at/all", "no such socket")],
)
def test_an_unreachable_server_is_named(kind: str, url: str, hint: str) -> None:
    with Caller(kind, url, retries=0) as gateway, pytest.raises(Unavailable, match=hint) as caught:
        gateway.publish("chat:x", 1)
    assert not caught.value.is_unknown


def test_passwords_and_sockets(kind: str) -> None:
    with valkey_server(password="geheim") as server:
        for url, hint in (
            (f"redis://127.0.0.1:{server.port}", "wants a password"),
            (f"redis://:falsch@127.0.0.1:{server.port}", "refuses this password"),
            (server.unix_url, "no node has written"),
        ):
            with Caller(kind, url, retries=0) as gateway, pytest.raises(Unavailable, match=hint):
                gateway.publish("chat:x", 1)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({}, "GATEWAY_REDIS__URL"), ({"redis_url": "http://a"}, "redis_url"), ({"prefix": "a b"}, "prefix")],
)
def test_wrong_arguments(monkeypatch: pytest.MonkeyPatch, kind: str, arguments: dict[str, str], name: str) -> None:
    monkeypatch.delenv("GATEWAY_REDIS__URL", raising=False)
    monkeypatch.delenv("GATEWAY_REDIS__PREFIX", raising=False)
    made = Publisher if kind == "sync" else AsyncPublisher
    with pytest.raises(ConfigError, match=name):
        made(**({"redis_url": "redis://127.0.0.1"} | arguments if arguments else {}))  # type: ignore[arg-type]


def test_no_connections_are_too_few() -> None:
    with pytest.raises(ConfigError, match="connections"):
        Publisher("redis://127.0.0.1", connections=0)


def test_the_environment_counts(monkeypatch: pytest.MonkeyPatch, kind: str, server: ValkeyServer, site: Site) -> None:
    monkeypatch.setenv("GATEWAY_REDIS__URL", server.url)
    with Caller(kind) as gateway:
        gateway.publish("chat:x", 1)
    monkeypatch.setenv("GATEWAY_REDIS__PREFIX", "other")
    with Caller(kind, retries=0) as gateway, pytest.raises(ClientError, match="'other'"):
        gateway.publish("chat:x", 1)


def test_what_does_not_fit_a_model_is_refused(kind: str, server: ValkeyServer, site: Site) -> None:
    """As by a node with the same hooks; each channel of a broadcast by itself."""
    hooks = Hooks()
    hooks.payload("chat", Line)
    with Caller(kind, server.url, hooks=hooks) as gateway:
        with pytest.raises(Refused, match="payload: text: expected int, got str") as refused:
            gateway.publish("chat:typed", {"text": "hi"})
        assert refused.value.code == 107
        responses = gateway.broadcast(["chat:typed", f"kept:{kind}-typed"], "hi").responses
        assert [each.error.code if each.error else 0 for each in responses] == [107, 0]
        gateway.publish("chat:typed", {"text": 1})


def test_a_model_that_fails_is_no_fault_of_redis(kind: str, server: ValkeyServer, site: Site) -> None:
    """And trying again would not help."""
    hooks = Hooks()
    hooks.payload("chat", Broken)
    with Caller(kind, server.url, hooks=hooks) as gateway:
        with pytest.raises(Refused, match=r"the payload model .*Broken failed") as refused:
            gateway.publish("chat:typed", {"text": 1})
        assert refused.value.code == 100
        assert "secret" not in str(refused.value)
