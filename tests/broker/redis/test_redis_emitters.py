"""Which node hears services that emit: one at a time, each message once, and a gap is told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis

from gateway.broker.base import Dialect
from gateway.broker.redis import redis_emitters
from gateway.broker.redis.redis_broker import RedisBroker
from gateway.broker.redis.redis_emitters import RedisEmitters
from gateway.config.settings import EmitterSettings
from tests.broker.members import PATIENCE, Member, redis_member
from tests.broker.redis.nodes import KEYS, settings
from tests.servers import ValkeyServer

ROOM = "socket.io#/#room#"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_emitters, "INTERVAL", 0.05)


class Listener:
    """One node of a cluster that listens."""

    def __init__(self, member: Member, heard: list[bytes]) -> None:
        """`heard` may be shared: what came, in the order in which it was taken."""
        assert isinstance(member.broker, RedisBroker)
        self.member = member
        self.emitters: RedisEmitters = member.broker.emitters(EmitterSettings())
        self.heard = heard
        self.own: list[bytes] = []
        self.dialects: list[Dialect] = []

    def take(self, dialect: Dialect, message: bytes) -> None:
        self.dialects.append(dialect)
        self.own.append(message)
        self.heard.append(message)

    @property
    def listens(self) -> bool:
        return bool(self.member.metrics.emitters_heard.read())

    async def until_it_listens(self) -> None:
        """And has said since when nobody did."""
        await until(lambda: self.listens and self.emitters._ear is not None and self.emitters._ear.is_told)

    async def freeze(self) -> None:
        """It does nothing any more but read what comes; as a node that is suspended does when it goes on."""
        await self.emitters._rounds.stop()

    async def die(self) -> None:
        await self.freeze()
        assert self.emitters._ear is not None
        self.emitters._ear.link.abort("killed")


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listener(server: ValkeyServer, uid: str, heard: list[bytes] | None = None) -> AsyncIterator[Listener]:
    async with redis_member(settings(server.url), uid) as member:
        made = Listener(member, [] if heard is None else heard)
        made.emitters.start(made.take)
        try:
            yield made
        finally:
            await made.emitters.stop()


class Service:
    """Emits numbers, as long as it runs."""

    def __init__(self, server: ValkeyServer) -> None:
        self.emitted: list[bytes] = []
        self._server = server
        self._goes_on = True

    async def __aenter__(self) -> "Service":
        self._task = asyncio.create_task(self._emit())
        return self

    async def _emit(self) -> None:
        with redis.Redis.from_url(self._server.url) as client:
            while self._goes_on:
                message = b"%d" % len(self.emitted)
                self.emitted.append(message)
                client.publish(ROOM, message)
                await asyncio.sleep(0.001)

    async def emit_some(self) -> None:
        already = len(self.emitted)
        await until(lambda: len(self.emitted) > already + 50 or self._task.done())

    async def __aexit__(self, *_: object) -> None:
        self._goes_on = False
        await self._task


def unheard(*nodes: Listener) -> int:
    """Seconds."""
    return sum(node.member.metrics.emitters_unheard.value for node in nodes)


def depose(server: ValkeyServer) -> None:
    """The lease of the elected node runs out."""
    with redis.Redis.from_url(server.url) as operator:
        assert operator.delete(KEYS.listener()) == 1


def test_one_node_hears_all_dialects_of_the_main_namespace(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with listener(server, "a") as first:
            await first.until_it_listens()
            async with listener(server, "b") as second:
                with redis.Redis.from_url(server.url) as service:
                    for name in ("socket.io#/#", ROOM, "socketio", "socket.io#/chat#", "socketXio#/#", "other"):
                        service.publish(name, name)
                    service.publish(ROOM, "last")
                await until(lambda: first.own[-1:] == [b"last"])
                assert first.own == [b"socket.io#/#", ROOM.encode(), b"socketio", b"last"]
                assert first.dialects == [Dialect.EMITTER, Dialect.EMITTER, Dialect.MANAGER, Dialect.EMITTER]
                assert not second.listens
                assert second.own == []
                # Of no other node than the first is a subscription asked for.
                with redis.Redis.from_url(server.url) as operator:
                    assert operator.pubsub_numpat() == 1
        assert unheard(first, second) == 0

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert "it is not known that one did before" in caplog.text


def test_nothing_is_lost_or_doubled_when_a_node_stops(server: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        heard: list[bytes] = []
        async with listener(server, "a", heard) as first:
            await first.until_it_listens()
            async with listener(server, "b", heard) as second, Service(server) as service:
                await service.emit_some()
                await first.emitters.stop()
                await second.until_it_listens()
                assert not first.listens
                await service.emit_some()
            await until(lambda: len(heard) >= len(service.emitted))
            assert sorted(heard, key=int) == service.emitted
            assert heard[0] in first.own
            assert heard[-1] in second.own
            assert unheard(first, second) == 0

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert "without a gap after the last one" in caplog.text


def test_the_last_node_stops_at_once(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_emitters, "PATIENCE", 10 * PATIENCE)

    async def scenario() -> None:
        async with listener(server, "a") as only:
            await only.until_it_listens()
            async with asyncio.timeout(PATIENCE):
                await only.emitters.stop()
            with redis.Redis.from_url(server.url) as operator:
                assert not operator.exists(KEYS.listener())
                await until(lambda: operator.pubsub_numpat() == 0)

    asyncio.run(scenario())


def test_a_node_that_does_not_know_that_another_was_elected_doubles_nothing(server: ValkeyServer) -> None:
    """It was suspended, say: what comes before the mark of the other is its own, whatever comes later is not."""

    async def scenario() -> None:
        heard: list[bytes] = []
        async with listener(server, "a", heard) as first:
            await first.until_it_listens()
            async with listener(server, "b", heard) as second, Service(server) as service:
                await service.emit_some()
                await first.freeze()
                depose(server)
                await second.until_it_listens()
                await service.emit_some()
            await until(lambda: len(heard) >= len(service.emitted))
            assert sorted(heard, key=int) == service.emitted
            assert not set(first.own) & set(second.own)
            assert service.emitted[-1] in second.own

    asyncio.run(scenario())


def test_a_gap_is_told_when_the_node_that_listened_dies(server: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        heard: list[bytes] = []
        async with listener(server, "a", heard) as first:
            await first.until_it_listens()
            async with listener(server, "b", heard) as second:
                await first.die()
                with redis.Redis.from_url(server.url) as service:
                    service.publish(ROOM, "lost")
                    depose(server)
                    await second.until_it_listens()
                    service.publish(ROOM, "heard")
                await until(lambda: b"heard" in second.own)
                assert heard == [b"heard"]
                assert unheard(first) == 0
                assert unheard(second) >= 1

    asyncio.run(scenario())
    assert "for up to" in caplog.text


def test_a_link_that_breaks_is_made_anew_and_the_gap_told(server: ValkeyServer) -> None:
    async def scenario() -> None:
        async with listener(server, "a") as only:
            await only.until_it_listens()
            ear = only.emitters._ear
            with redis.Redis.from_url(server.url) as operator:
                (link,) = [each for each in operator.client_list() if each["name"] == "gateway-a-emitters"]
                operator.client_kill_filter(_id=link["id"])
                await until(lambda: only.emitters._ear is not ear)
                await only.until_it_listens()
                operator.publish(ROOM, "heard")
            await until(lambda: only.own == [b"heard"])
            assert unheard(only) >= 1

    asyncio.run(scenario())


def test_a_server_that_lost_its_data_does_not_hide_the_gap(server: ValkeyServer) -> None:
    """Redis is restarted and knows nothing any more: the node itself knows until when it listened."""

    async def scenario() -> None:
        async with listener(server, "a") as only:
            await only.until_it_listens()
            ear = only.emitters._ear
            server.kill()
            await until(lambda: not only.listens)
            server.start()
            await until(lambda: only.emitters._ear is not ear)
            await only.until_it_listens()
            assert unheard(only) >= 1

    asyncio.run(scenario())


def test_a_link_that_does_not_hear_its_own_marks_is_replaced(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is at another server than what the node publishes through; here it has lost a subscription."""
    monkeypatch.setattr(redis_emitters, "DEAF", 200)

    async def scenario() -> None:
        async with listener(server, "a") as only:
            await only.until_it_listens()
            ear = only.emitters._ear
            assert ear is not None
            ear._marks = b"another"
            await until(lambda: only.emitters._ear not in (ear, None))
            await only.until_it_listens()

    asyncio.run(scenario())


def test_many_messages_in_one_read_keep_their_order(server: ValkeyServer) -> None:
    async def scenario() -> None:
        async with listener(server, "a") as only:
            await only.until_it_listens()
            count = 20 * redis_emitters.SLICE + 7
            with redis.Redis.from_url(server.url) as service, service.pipeline(transaction=False) as pipe:
                for number in range(count):
                    pipe.publish(ROOM, number)
                pipe.execute()
            await until(lambda: len(only.own) >= count)
            assert only.own == [b"%d" % number for number in range(count)]

    asyncio.run(scenario())


def test_a_fault_in_one_message_does_not_keep_the_others_back(server: ValkeyServer) -> None:
    async def scenario() -> None:
        async with listener(server, "a") as only:
            await only.until_it_listens()
            ear = only.emitters._ear
            assert ear is not None

            def heard(dialect: Dialect, message: bytes) -> None:
                if message == b"bad":
                    raise ValueError("a fault")
                only.take(dialect, message)

            ear.heard = heard
            with redis.Redis.from_url(server.url) as service:
                for message in ("a", "bad", "b"):
                    service.publish(ROOM, message)
                # Marks that no node has written.
                for mark in ("", "+", "+x", "=x:1", "?", b"\xff:\xff"):
                    service.publish(KEYS.listening(), mark)
            await until(lambda: only.own == [b"a", b"b"])
            assert only.member.metrics.faults.values == {"emitters": 1}

    asyncio.run(scenario())


def test_a_user_who_may_not_subscribe_is_told_so_and_holds_nobody_up(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The permissions are those of docs/operations.md, without the ones that are for this; then with them."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as operator:
            rules = "~gw:* &gw:* +@read +@write +@pubsub +@scripting +@connection +info +time"
            operator.execute_command("ACL", "SETUSER", "gateway", "on", ">geheim", *rules.split())
            url = f"redis://gateway:geheim@127.0.0.1:{server.port}/0"
            async with redis_member(settings(url), "a") as member:
                made = Listener(member, [])
                made.emitters.start(made.take)
                await until(lambda: "NOPERM" in caplog.text)
                assert not made.listens
                async with listener(server, "b") as other:
                    await other.until_it_listens()
                operator.execute_command("ACL", "SETUSER", "gateway", "&socket.io#/#*", "&socketio")
                await made.until_it_listens()
                await made.emitters.stop()

    asyncio.run(scenario())
