"""What becomes of publishes when the way to Redis breaks, or Redis is another one afterwards."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from gateway.client import Client
from gateway.client.failures import Unavailable
from tests.api.site import Site, running
from tests.broker.redis.proxy import Proxy
from tests.publisher.callers import Caller
from tests.publisher.conftest import Again, node_settings, until
from tests.servers import ValkeyServer, valkey_server

PATIENCE = 60.0


class Way:
    """A proxy, on a loop of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, proxy: Proxy) -> None:
        self._loop = loop
        self._proxy = proxy
        self.url = f"redis://127.0.0.1:{proxy.port}"

    def hold(self, part: str) -> None:
        """Let Redis carry out what it is asked, and keep the answer that has this in it."""
        self._loop.call_soon_threadsafe(self._proxy.hold, part.encode())

    def cut_when_held(self) -> None:
        """Break all connections instead of answering."""

        async def cut() -> None:
            await self._proxy.held.wait()
            self._proxy.cut()
            self._proxy.forward()

        asyncio.run_coroutine_threadsafe(cut(), self._loop).result(PATIENCE)


@contextmanager
def way_to(server: ValkeyServer) -> Iterator[Way]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    proxy = Proxy(server.port)
    try:
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(PATIENCE)
        yield Way(loop, proxy)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@pytest.fixture
def way(server: ValkeyServer) -> Iterator[Way]:
    with way_to(server) as found:
        yield found


def kept(site: Site, channel: str) -> list[Any]:
    with Client(f"http://{site.public}") as api:
        return [json.loads(bytes(each.data)) for each in api.history(channel, limit=-1).publications]


def test_a_lost_answer_is_asked_for_again(kind: str, site: Site, way: Way) -> None:
    """With the same key: it is published once."""
    channel = f"kept:again-{kind}"
    with Caller(kind, way.url, timeout=PATIENCE) as gateway, ThreadPoolExecutor(1) as thread:
        first = gateway.publish(channel, 1)
        way.hold(first.epoch)
        waiting = thread.submit(way.cut_when_held)
        assert gateway.publish(channel, 2) == type(first)(2, first.epoch)
        waiting.result(PATIENCE)
    assert kept(site, channel) == [1, 2]


@pytest.mark.parametrize("options", [{"retries": 0}, {"retries": 2}])
def test_without_a_key_the_outcome_is_unknown(kind: str, site: Site, way: Way, options: dict[str, int]) -> None:
    """And it is not sent again: here it was carried out."""
    channel = f"kept:unknown-{kind}-{options['retries']}"
    with Caller(kind, way.url, timeout=PATIENCE, **options) as gateway, ThreadPoolExecutor(1) as thread:
        epoch = gateway.publish(channel, 1).epoch
        way.hold(epoch)
        waiting = thread.submit(way.cut_when_held)
        with pytest.raises(Unavailable, match="may have been carried out") as caught:
            gateway.publish(channel, 2, idempotency_key="")
        assert caught.value.is_unknown
        waiting.result(PATIENCE)
        assert gateway.publish(channel, 3).offset == 3
    assert kept(site, channel) == [1, 2, 3]


def test_a_broadcast_asks_again_for_what_has_no_answer(kind: str, site: Site, way: Way) -> None:
    names = [f"kept:b-{kind}-{number}" for number in range(3)]
    with Caller(kind, way.url, timeout=PATIENCE) as gateway, ThreadPoolExecutor(1) as thread:
        epoch = gateway.publish(names[1], 1).epoch
        way.hold(epoch)
        waiting = thread.submit(way.cut_when_held)
        responses = gateway.broadcast(names, 2).responses
        waiting.result(PATIENCE)
    assert [each.result.offset for each in responses] == [1, 2, 1]
    assert [kept(site, name) for name in names] == [[2], [1, 2], [2]]


def test_forgotten_scripts_are_loaded_again(gateway: Caller, kind: str, server: ValkeyServer, site: Site) -> None:
    gateway.publish(f"kept:scripts-{kind}", 1)
    with redis.Redis.from_url(server.url) as admin:
        admin.script_flush()
    assert gateway.publish(f"kept:scripts-{kind}", 2).offset == 2


@pytest.mark.slow
def test_a_killed_server_and_the_one_that_comes_after_it(kind: str) -> None:
    """Nothing is known to be published while it is away. Afterwards positions are those of the new generation."""
    with valkey_server() as server:
        again = Again(node_settings(server.url))
        with running(again.settings, again.source) as site, Caller(kind, server.url) as gateway:
            before = gateway.publish("kept:x", 1)
            server.kill()
            with pytest.raises(Unavailable, match="nothing listens there"):
                gateway.publish("kept:x", 2)
            server.start()
            # At once: the settings that it knows count until the node has written them again.
            after = gateway.publish("kept:x", 3)
            assert after.offset == 1
            assert after.epoch != before.epoch
            assert_agreed(site, gateway, server, kind)


@pytest.mark.slow
def test_a_server_that_has_lost_all_data_is_noticed(kind: str) -> None:
    """On a connection that stays: within a second, as by nodes."""
    with valkey_server() as server:
        again = Again(node_settings(server.url))
        with running(again.settings, again.source) as site, Caller(kind, server.url, timeout=PATIENCE) as gateway:
            gateway.publish("kept:x", 1)
            with redis.Redis.from_url(server.url) as admin:
                admin.flushall()
            assert_agreed(site, gateway, server, kind)


def assert_agreed(site: Site, gateway: Caller, server: ValkeyServer, kind: str) -> None:
    """The node and the publisher come to number in one stream, and another publisher finds the settings."""

    def is_one_stream() -> bool:
        ours = gateway.publish("kept:x", "ours")
        with Client(f"http://{site.public}", timeout=PATIENCE, retries=100) as api:
            theirs = api.publish("kept:x", "theirs")
        return bool(theirs.epoch == ours.epoch and theirs.offset == ours.offset + 1)

    def is_served() -> bool:
        with Caller(kind, server.url, retries=0) as another:
            try:
                another.publish("kept:x", "another")
            except Unavailable:
                return False
        return True

    assert until(is_served)
    assert until(is_one_stream)


@pytest.mark.slow
def test_a_demoted_server_is_noticed(kind: str) -> None:
    """It takes nothing as a replica. As a primary again, it may lack publications: another epoch."""
    with valkey_server() as server:
        again = Again(node_settings(server.url))
        with running(again.settings, again.source) as site, Caller(kind, server.url) as gateway:
            before = gateway.publish("kept:x", 1)
            with redis.Redis.from_url(server.url) as admin:
                admin.replicaof("127.0.0.1", "1")
                with pytest.raises(Unavailable, match=r"replica|slave"):
                    gateway.publish("kept:x", 2)
                admin.replicaof("NO", "ONE")
            assert gateway.publish("kept:x", 3).epoch != before.epoch
            assert_agreed(site, gateway, server, kind)


def test_a_server_that_does_not_answer_takes_as_long_as_it_may(kind: str) -> None:
    """One that is stopped: the kernel still accepts connections and requests."""
    with valkey_server() as server, Caller(kind, server.url, timeout=0.3) as gateway:
        server.freeze()
        try:
            with pytest.raises(Unavailable, match=r"no answer within 0\.|not sent within 0\.3 s"):
                gateway.publish("kept:x", 1)
        finally:
            server.thaw()


@pytest.mark.slow
def test_a_durable_server_keeps_its_epoch(kind: str) -> None:
    """What nodes have in redis.durable counts for publishers."""
    with valkey_server("--appendonly", "yes", "--appendfsync", "always") as server:
        again = Again(node_settings(server.url, redis={"url": server.url, "durable": True}))
        with running(again.settings, again.source), Caller(kind, server.url) as gateway:
            before = gateway.publish("kept:x", 1)
            server.restart()
            after = gateway.publish("kept:x", 2)
            assert after == type(before)(2, before.epoch)
