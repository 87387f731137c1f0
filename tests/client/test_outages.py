"""Nodes that vanish, answers that get lost, errors that pass: what is asked again, and what happens twice."""

import json
import random
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.client import Client, ClientError, Unavailable, commands
from tests.api.clients import settled
from tests.api.site import KEY, Site
from tests.client.callers import Caller
from tests.client.way import BREAK, HOLD, LOSE, Way, answer, way_to

PASSING = [
    answer(500, '{"code":100,"message":"internal server error"}'),
    answer(503, "<html>"),
    answer(429, ""),
    BREAK,
]


@pytest.fixture
def gateway(kind: str, way: Way) -> Any:
    """A client of the node, by the way."""
    with Caller(kind, way.url, KEY, timeout=60) as caller:
        yield caller


def test_a_publish_whose_answer_is_lost_happens_once(gateway: Caller, way: Way, site: Site, kind: str) -> None:
    """The client asks again with the same key, and gets the answer to the first publish."""
    channel = f"kept:lost-{kind}"
    with settled(site, channel) as client:
        # The client has published one itself.
        way.plan += [LOSE, LOSE]
        assert gateway.publish(channel, 2).offset == 2
        assert gateway.publish(channel, 3).offset == 3
        assert [client.recv(10) for _ in range(2)] == ["2", "3"]
    keys = [request.body["idempotency_key"] for request in way.requests]
    assert keys == [keys[0]] * 3 + keys[3:]
    assert keys[0] != keys[3]


def test_broadcasts_and_batches_happen_once(gateway: Caller, way: Way, site: Site) -> None:
    """Each publication in them has a key, also behind others."""
    with settled(site, "news") as client:
        way.plan += [LOSE]
        gateway.broadcast(["news", "other"], 1)
        way.plan += [LOSE]
        gateway.batch([commands.info(), commands.publish("news", 2), commands.broadcast(["news"], 3)])
        gateway.publish("news", "end")
        assert [*iter(lambda: client.recv(10), '"end"')] == ["1", "2", "3"]


@pytest.mark.parametrize("action", PASSING, ids=["100", "503", "429", "broken"])
def test_what_passes_is_asked_again(gateway: Caller, way: Way, action: str | bytes) -> None:
    """As often as `retries` says."""
    way.plan += [action, action]
    assert gateway.info().nodes
    way.plan += [action] * 3
    with pytest.raises(Unavailable) as caught:
        gateway.info()
    assert len(way.requests) == 6
    assert caught.value.is_unknown == (action != PASSING[2])


@pytest.mark.parametrize("action", PASSING, ids=["100", "503", "429", "broken"])
def test_a_publish_without_a_key_is_not_repeated(gateway: Caller, way: Way, action: str | bytes) -> None:
    """Nor a batch with one, nor a reload, whose second answer would be another."""
    asked: list[Callable[[], Any]] = [
        lambda: gateway.publish("news", 1, idempotency_key=""),
        lambda: gateway.broadcast(["news"], 1, idempotency_key=""),
        lambda: gateway.batch([commands.info(), commands.publish("news", 1, idempotency_key="")]),
        gateway.reload,
    ]
    for ask in asked:
        way.plan += [action]
        count = len(way.requests)
        with pytest.raises(Unavailable):
            ask()
        assert len(way.requests) == count + 1


def test_without_retries_there_are_no_keys(way: Way, site: Site, kind: str) -> None:
    """They would only take memory of Redis; keys of the caller are sent."""
    with Caller(kind, way.url, KEY, retries=0, timeout=60) as gateway:
        gateway.publish("news", 1)
        gateway.publish("news", 1, idempotency_key="mine")
        assert [request.body.get("idempotency_key") for request in way.requests] == [None, "mine"]
        way.plan += [LOSE]
        with pytest.raises(Unavailable, match="may have been carried out"):
            gateway.publish("news", 1)


def test_a_node_that_comes_back_is_found(site: Site, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a publish without a key: nothing was sent yet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        started: list[bool] = []

        def begin(least: float, most: float) -> float:
            """In the first pause."""
            if not started:
                listener.listen()
                started.append(True)
            return least

        monkeypatch.setattr(random, "uniform", begin)
        with Caller(kind, "http://{}:{}".format(*listener.getsockname()), KEY, timeout=60) as gateway:
            answering = threading.Thread(target=answer_one, args=(listener,))
            answering.start()
            assert gateway.publish("news", 1, idempotency_key="").offset == 7
            answering.join()
    assert started


def answer_one(listener: socket.socket) -> None:
    """Answer one publish, once the socket listens."""
    while True:
        try:
            connection, _ = listener.accept()
            break
        except OSError:
            # It does not listen yet.
            continue
    with connection:
        connection.recv(65536)
        connection.sendall(answer(200, '{"result":{"offset":7,"epoch":"e"}}'))


@pytest.mark.parametrize("retries", [0, 2])
def test_a_node_that_says_nothing_is_left_in_time(way: Way, kind: str, retries: int) -> None:
    """`timeout` is for all tries together."""
    way.plan += [HOLD]
    with Caller(kind, way.url, KEY, timeout=0.2, retries=retries) as gateway:
        with pytest.raises(Unavailable, match=r"no answer within 0\.2 s") as caught:
            gateway.info()
        assert isinstance(caught.value.__cause__, httpx.TimeoutException)
        assert caught.value.is_unknown
    assert len(way.requests) == 1


def test_a_node_that_dies_between_two_requests_is_noticed(site: Site, kind: str) -> None:
    """The connection that the client kept leads nowhere; another node listens there."""
    with way_to(site.public) as first, Caller(kind, first.url, KEY, timeout=60) as gateway:
        gateway.info()
        address = first.url.removeprefix("http://").split(":")
        first.stop()
        listener = socket.create_server((address[0], int(address[1])))
        with way_to(site.public, listener) as second:
            gateway.publish("news", 1)
            assert len(second.requests) == 1


def test_a_malformed_answer_is_not_repeated(way: Way, kind: str) -> None:
    """Something is there, and it is no gateway."""
    way.plan += [answer(200, json.dumps({"result": None}))]
    with Caller(kind, way.url, KEY) as gateway, pytest.raises(ClientError):
        gateway.info()
    assert len(way.requests) == 1


def test_messages_name_the_gateway(way: Way) -> None:
    """By its URL, which holds no key."""
    way.plan += [BREAK]
    with Client(way.url, KEY, retries=0) as client, pytest.raises(Unavailable) as caught:
        client.info()
    assert str(caught.value).startswith(f"{way.url}: the connection broke")
    assert KEY not in str(caught.value)
