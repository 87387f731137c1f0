"""Both clients, every method, against a running node."""

import inspect
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import FunctionType
from typing import Any
from unittest.mock import create_autospec

import httpx
import msgspec
import pydantic
import pytest

from gateway.api.methods import DOCUMENT
from gateway.client import (
    AsyncClient,
    Client,
    ClientError,
    EmptyResult,
    HistoryPublication,
    PresenceResult,
    PublishResult,
    Refused,
    StreamPosition,
    Unauthorized,
    Unavailable,
    commands,
)
from gateway.config.reloading import Source
from gateway.errors import ConfigError
from gateway.tokens import connection_token, subscription_token
from tests.api.clients import native, settled
from tests.api.site import KEY, SECRET, Site, running, settings_of
from tests.callers import KINDS
from tests.client.callers import Caller
from tests.client.way import PASS, Way, answer, way_to

METHODS = {
    name
    for name, each in vars(commands).items()
    if isinstance(each, FunctionType) and each.__module__ == commands.__name__ and not name.startswith("_")
}


def values(publications: Sequence[HistoryPublication]) -> list[Any]:
    return [msgspec.json.decode(each.data) for each in publications]


def test_every_method_of_the_api_is_a_method_of_both_clients(site: Site) -> None:
    document = httpx.get(f"http://{site.public}{DOCUMENT}", trust_env=False).json()
    served = {path.removeprefix("/api/") for path in document["paths"]} - {"/api"}
    assert served == METHODS
    for client in (Client, AsyncClient):
        for name in METHODS:
            assert inspect.getdoc(getattr(client, name)) == inspect.getdoc(getattr(commands, name))


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_signatures_are_those_of_the_commands(client: Any) -> None:
    """So that help() tells them, and doubles in tests of backends refuse wrong calls."""
    signature = inspect.signature(client("http://127.0.0.1").presence)
    assert [*signature.parameters] == ["channel"]
    assert signature.return_annotation is PresenceResult
    double = create_autospec(client, instance=True)
    with pytest.raises(TypeError, match="tag"):
        double.publish("news", 1, tag={})
    assert inspect.iscoroutinefunction(client.publish) == (client is AsyncClient)


def test_publish(gateway: Caller, site: Site) -> None:
    """With all options; the answer has the position where there is one."""
    with native(site) as one, native(site) as other:
        one.subscribe("kept:a")
        other.subscribe("kept:a")
        result = gateway.publish("kept:a", {"a": 1}, tags={"t": "1"}, exclude_client=other.id)
        assert isinstance(result, PublishResult)
        assert result.offset > 0
        assert result.epoch
        gateway.publish("kept:a", 2, skip_history=True)
        key = uuid.uuid4().hex
        assert gateway.publish("kept:a", 3, idempotency_key=key) == gateway.publish("kept:a", 3, idempotency_key=key)
        version = {"version": 7, "version_epoch": key}
        assert gateway.publish("kept:a", 4, **version) == gateway.publish("kept:a", 4, **version)
        publications = [one.publication() for _ in range(4)]
        assert [each["data"] for each in publications] == [{"a": 1}, 2, 3, 4]
        assert publications[0]["tags"] == {"t": "1"}
        assert "offset" not in publications[1]
        assert [other.publication()["data"] for _ in range(3)] == [2, 3, 4]


def test_bytes_arrive_as_bytes(gateway: Caller, site: Site) -> None:
    """Also those that happen to be JSON."""
    with settled(site, "news") as client:
        for data in (b"\xff", b"1", bytearray(b"{}"), memoryview(b"null")):
            gateway.publish("news", data)
            assert client.recv(10) == bytes(data)
        gateway.publish("news", None)
        assert client.recv(10) == "null"


@dataclass
class Row:
    at: datetime
    id: uuid.UUID


class Model(pydantic.BaseModel):
    row: Row


class Shape(msgspec.Struct):
    model: Any


def test_models_are_published_as_json(gateway: Caller, site: Site) -> None:
    """Of pydantic and msgspec, dataclasses, datetime and UUID; what has no JSON is refused before it is sent."""
    row = Row(datetime(2026, 1, 2, tzinfo=UTC), uuid.UUID(int=1))
    with settled(site, "news") as client:
        gateway.publish("news", Shape(Model(row=row)))
        text = f'{{"model":{{"row":{{"at":"2026-01-02T00:00:00Z","id":"{row.id}"}}}}}}'
        assert client.recv(10) == text
    with pytest.raises(TypeError, match="object has no JSON"):
        gateway.publish("news", object())


def test_broadcast(gateway: Caller, site: Site) -> None:
    """A response for each channel, which may be an error."""
    with settled(site, "a") as one, settled(site, "b") as other:
        result = gateway.broadcast(["a", "nowhere:c", "b"], b"1")
        assert [each.error.code if each.error else 0 for each in result.responses] == [0, 102, 0]
        assert (one.recv(10), other.recv(10)) == (b"1", b"1")


def test_users(gateway: Caller, site: Site) -> None:
    """Subscribe, refresh, unsubscribe, disconnect: one connection, or all but some."""
    with native(site, "ada") as one, native(site, "ada") as other:
        assert gateway.publish("kept:u", 1).offset
        position = gateway.history("kept:u")
        gateway.publish("kept:u", 2)
        since = StreamPosition(position.offset, position.epoch)
        subscribed = gateway.subscribe("ada", "kept:u", client=one.id, info={"i": 1}, data=[1], recover_since=since)
        assert subscribed == EmptyResult()
        assert one.push()["subscribe"]["data"] == [1]
        assert one.publication()["data"] == 2
        chan_info = gateway.presence("kept:u").presence[one.id].chan_info
        assert msgspec.json.decode(chan_info) == {"i": 1}
        gateway.refresh("ada", client=one.id, expire_at=int(time.time()) + 1_000)
        assert 900 < one.push()["refresh"]["ttl"] <= 1_000
        gateway.unsubscribe("ada", "kept:u")
        assert one.push()["unsubscribe"]["code"] == 2000
        gateway.disconnect("ada", whitelist=[other.id], code=4001, reason="enough")
        assert one.close_code() == (4001, "enough")
        gateway.disconnect("ada")
        assert other.close_code() == (3503, "force disconnect")
    with native(site, "ada") as third:
        gateway.refresh("ada", expired=True)
        assert third.close_code() == (3005, "connection expired")


def test_revoke(gateway: Caller, site: Site) -> None:
    """By user, with the time from which a new token is good; and by id."""
    user = uuid.uuid4().hex
    with native(site, user) as one:
        issued_before = gateway.revoke(user=user).issued_before
        assert one.close_code()[0] == 3005
    with native(site, token=connection_token(SECRET, user, now=issued_before)) as other:
        assert other.id
    assert gateway.revoke(jti="t", expire_at=int(time.time()) + 1_000).issued_before == 0
    with pytest.raises(Refused, match="one of user and jti"):
        gateway.revoke()


def test_kick(gateway: Caller, site: Site) -> None:
    """The subscription ends, and the answer tells from when on a token opens the channel again."""
    user = uuid.uuid4().hex
    grant = partial(subscription_token, SECRET, user, "kept:kick")
    with native(site, user) as one:
        one.subscribe("kept:kick", grant())
        result = gateway.kick(user, "kept:kick", expire_at=int(time.time()) + 1_000)
        assert result.num_clients == 1
        assert one.push()["unsubscribe"]["code"] == 2000
        one.subscribe("kept:kick", grant(now=result.issued_before))


def test_history(gateway: Caller, kind: str) -> None:
    """From either end, behind a position, or only the position; and its removal."""
    channel = f"kept:history-{kind}"
    positions = [gateway.publish(channel, number, tags={"n": str(number)}) for number in (1, 2, 3)]
    top = gateway.history(channel)
    assert (top.publications, top.offset, top.epoch) == ([], 3, positions[2].epoch)
    read = gateway.history(channel, limit=-1)
    assert values(read.publications) == [1, 2, 3]
    assert [each.tags for each in read.publications] == [{"n": "1"}, {"n": "2"}, {"n": "3"}]
    since = StreamPosition(2, top.epoch)
    assert values(gateway.history(channel, limit=9, since=since).publications) == [3]
    assert values(gateway.history(channel, limit=2, reverse=True).publications) == [3, 2]
    gateway.history_remove(channel)
    assert gateway.history(channel, limit=-1).publications == []
    with pytest.raises(Refused) as caught:
        gateway.history(channel, limit=1, since=StreamPosition(1, "another"))
    assert caught.value.code == 112


def test_latest(gateway: Caller, kind: str) -> None:
    """The newest value of each key, and its removal."""
    channel = f"last:{kind}"
    for key, value in (("a", 1), ("b", 2), ("a", 3)):
        gateway.publish(channel, value, tags={"key": key})
    assert values(gateway.latest(channel).publications) == [2, 3]
    gateway.latest_remove(channel, "a")
    assert values(gateway.latest(channel).publications) == [2]


def test_presence(gateway: Caller, site: Site) -> None:
    """Who, and how many."""
    with native(site, "ada") as ada:
        ada.subscribe("kept:p")
        assert {client: info.user for client, info in gateway.presence("kept:p").presence.items()} == {ada.id: "ada"}
        stats = gateway.presence_stats("kept:p")
        assert (stats.num_clients, stats.num_users) == (1, 1)


def test_channels(gateway: Caller, site: Site) -> None:
    """All at once, or page by page to the end."""
    with native(site) as client:
        names = {f"chat:{number}" for number in range(5)}
        for name in names:
            client.subscribe(name)
        assert gateway.channels("chat:*").channels.keys() == names
        pages = gateway.pages("chat:*", limit=2)
        assert len(pages) > 2
        assert {name for page in pages for name in page.channels} == names
        assert {info.num_clients for page in pages for info in page.channels.values()} == {1}
        assert [page.channels for page in gateway.pages("nothing:*")] == [{}]


@pytest.mark.parametrize("kind", KINDS)
def test_nodes(kind: str) -> None:
    """List them, make them read their settings again, and send their clients away."""
    settings = settings_of(limits={"message_size": 1000})
    first = settings_of()
    with (
        running(first, Source(lambda: settings, first)) as site,
        Caller(kind, f"http://{site.public}", KEY, timeout=60) as gateway,
        native(site, "ada") as ada,
    ):
        (node,) = gateway.info().nodes
        assert node.uid == site.gateway.administration.profile.uid
        assert node.process.rss > 0
        (reloaded,) = gateway.reload(node.name).nodes
        assert (reloaded.error, reloaded.changed) == ("", ["limits.message_size"])
        assert gateway.reload().nodes[0].changed == []
        assert gateway.drain(node.uid).num_clients == 1
        assert ada.close_code()[0] == 3001


def test_batch(gateway: Caller, site: Site) -> None:
    """A reply for each command, in the field of its method; one that fails does not stop the others."""
    with settled(site, "news") as client:
        result = gateway.batch(
            [
                commands.publish("news", 1),
                commands.publish("nowhere:room", 2),
                commands.broadcast(["news"], b"3"),
                commands.history("kept:batch"),
            ]
        )
        first, second, third, fourth = result.replies
        assert first.publish == PublishResult()
        assert second.error.code == 102
        assert third.broadcast.responses[0].result == PublishResult()
        assert fourth.history.publications == []
        assert [client.recv(10) for _ in range(2)] == ["1", b"3"]
    with pytest.raises(Refused):
        gateway.batch([])
    with pytest.raises(TypeError, match="batch"):
        gateway.batch([commands.batch([commands.info()])])


# What goes wrong


def test_a_refusal_has_code_and_message(gateway: Caller) -> None:
    """As the API tells them."""
    with pytest.raises(Refused, match=r"namespaces\.nowhere") as caught:
        gateway.publish("nowhere:room", 1)
    assert caught.value.code == 102
    assert caught.value.message.startswith("unknown channel")
    assert isinstance(caught.value, ClientError)


def test_a_wrong_key_is_told(site: Site, kind: str) -> None:
    with Caller(kind, f"http://{site.public}", "wrong") as gateway, pytest.raises(Unauthorized, match=r"api\.keys"):
        gateway.info()


def test_without_a_gateway_there_is_no_connection(kind: str) -> None:
    """Nothing was sent, so nothing can have been carried out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "http://{}:{}".format(*free.getsockname())
        with Caller(kind, address, KEY) as gateway, pytest.raises(Unavailable, match="no connection") as caught:
            gateway.publish("news", 1)
    assert str(caught.value).startswith(address)
    assert caught.value.is_unknown is False


WRONG = [
    (404, "Not Found", "answered 404 to /api/info: it is not a gateway, or api.public is off there"),
    (302, "", "answered 302"),
    (200, "<html>", "answered 200"),
    (200, "[]", "answered 200"),
    (200, "{}", "answered 200"),
    (400, '{"result":{"nodes":[]}}', "answered 400"),
    (200, '{"result":{"nodes":[1]}}', "the answer to /api/info cannot be read: .*nodes"),
    (200, '{"result":5}', "cannot be read"),
    (200, "[" * 100_000, "answered 200"),
]


@pytest.mark.parametrize(("status", "body", "text"), WRONG, ids=range(len(WRONG)))
def test_an_answer_of_something_else_is_told(way: Way, kind: str, status: int, body: str, text: str) -> None:
    """It is not asked again."""
    way.plan += [answer(status, body)]
    with Caller(kind, way.url, KEY) as gateway, pytest.raises(ClientError, match=text):
        gateway.info()
    assert len(way.requests) == 1


def test_refusals_before_the_method_have_their_codes(way: Way, kind: str) -> None:
    way.plan += [answer(413, '{"error":{"code":413,"message":"too large"}}')]
    with Caller(kind, way.url, KEY) as gateway, pytest.raises(Refused, match="413 too large"):
        gateway.info()


# Where it is


def test_url_and_key_come_from_the_environment(site: Site, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """GATEWAY_URL and GATEWAY_API_KEY, as for the commands; an argument counts more."""
    monkeypatch.setenv("GATEWAY_URL", f"http://{site.public}/")
    monkeypatch.setenv("GATEWAY_API_KEY", KEY)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Caller(kind, timeout=60) as gateway:
        assert gateway.info().nodes
    with Caller(kind, key="", timeout=60) as gateway, pytest.raises(Unauthorized):
        gateway.info()


@pytest.mark.parametrize(
    ("url", "key", "text"),
    [
        (None, KEY, "GATEWAY_URL"),
        ("", KEY, "GATEWAY_URL"),
        ("127.0.0.1:8000", KEY, "expected http://HOST:PORT"),
        ("http://ada:hush@127.0.0.1", KEY, "login"),
        ("http://127.0.0.1", "a\nb", "the API key"),
        ("http://127.0.0.1", "ä", "the API key"),
    ],
)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_what_cannot_work_is_refused_at_once(
    client: Any, url: str | None, key: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word of what may be secret."""
    monkeypatch.delenv("GATEWAY_URL", raising=False)
    with pytest.raises(ConfigError, match=text) as caught:
        client(url, key)
    assert "hush" not in str(caught.value)


def test_a_proxy_that_is_none_is_told(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "ftp://ada:hush@proxy.invalid")
    with Caller(kind, "http://gateway.invalid", KEY) as gateway, pytest.raises(ConfigError, match="proxy") as caught:
        gateway.info()
    assert "hush" not in str(caught.value)


def test_a_unix_socket_is_reached(site: Site, kind: str, tmp_path: Any) -> None:
    path = str(tmp_path / "gateway.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    with way_to(site.public, listener) as way, Caller(kind, f"unix:{path}", KEY, timeout=60) as gateway:
        way.plan += [PASS]
        assert gateway.info().nodes
        assert len(way.requests) == 1
