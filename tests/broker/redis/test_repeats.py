"""Presence and occupancy that are said again: after a lease that ran out, a link that broke, a server that forgot."""

import asyncio
from collections.abc import Callable

import hiredis
import pytest
import redis

from gateway.broker.redis import redis_registry
from gateway.broker.redis.keyspace import LeaseId
from gateway.broker.redis.redis_presence import REPEAT_BATCHES, RedisPresence
from gateway.broker.redis.redis_registry import RedisRegistry
from gateway.control import NodeId, NodeInfo
from gateway.errors import BrokerUnavailable
from gateway.messages import Channel, ClientId
from gateway.metrics import Metrics
from tests.broker.members import PATIENCE, redis_member
from tests.broker.redis.nodes import KEYS, settings, until_health
from tests.broker.redis.proxy import proxied
from tests.broker.redis.test_redis_presence import RULES, are, client, node, until
from tests.broker.redis.test_redis_registry import occupied
from tests.broker.test_presence_contract import OTHER, ROOM
from tests.servers import ValkeyServer, valkey_server

ROOMS = 100


class Wire:
    """A link that remembers, and breaks when it is told to."""

    def __init__(self) -> None:
        self.writable = True
        self.sent: list[bytes] = []
        self.broken = False
        # A part of commands that the server refuses.
        self.refused: bytes | None = None

    def send(self, command: bytes, done: Callable[[object], None]) -> None:
        self.sent.append(command)
        if self.refused is not None and self.refused in command:
            done(hiredis.ReplyError("WRONGTYPE"))
        else:
            done(ConnectionError("broken") if self.broken else 0)

    def rooms(self, lease: str) -> set[int]:
        """Those whose members were entered under the lease."""
        entered = [each for each in self.sent if lease.encode() + b"\0" in each]
        return {number for number in range(ROOMS) if any(b"\r\nroom%d\r\n" % number in each for each in entered)}


class Kept:
    """Stands in for a KeptLink."""

    reason = ""

    def __init__(self) -> None:
        self.current: Wire | None = Wire()

    @property
    def wire(self) -> Wire:
        assert self.current is not None
        return self.current


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def in_rooms(kept: Kept, lease: Callable[[], LeaseId]) -> RedisPresence:
    """A node with a member in each of many rooms, all of which Redis knows."""
    presence = RedisPresence(kept, lease, KEYS, Metrics())  # type: ignore[arg-type]
    for number in range(ROOMS):
        presence.enter(Channel("default", f"room{number}"), client(number), RULES)
    await turns(1)
    kept.wire.sent.clear()
    return presence


@pytest.mark.parametrize("before", [0, 3])
def test_a_lease_that_ends_during_a_repeat_begins_it_anew(before: int) -> None:
    """The members that were said already count under the ended lease, and would be cleaned up with it."""

    async def scenario() -> None:
        lease, kept = LeaseId("a0000"), Kept()
        presence = await in_rooms(kept, lambda: lease)
        presence.repeat()
        await turns(before)
        lease = LeaseId("a0001")
        presence.repeat()
        await turns(ROOMS)
        assert kept.wire.rooms("a0001") == set(range(ROOMS))
        # One at a time, however often it was begun.
        assert len(kept.wire.sent) <= ROOMS + (before + 1) * REPEAT_BATCHES

    asyncio.run(scenario())


def test_a_link_that_breaks_during_a_repeat_begins_it_anew() -> None:
    """Once there is another one; until then nothing is tried."""

    async def scenario() -> None:
        kept = Kept()
        presence = await in_rooms(kept, lambda: LeaseId("a0000"))
        presence.repeat()
        await turns(2)
        broken = kept.wire
        broken.broken = True
        await turns(1)
        kept.current = None
        tried = len(broken.sent)
        await turns(ROOMS)
        assert tried < ROOMS
        presence.repeat_if_behind()
        broken.writable = False
        kept.current = broken
        presence.repeat_if_behind()
        await turns(ROOMS)
        assert len(broken.sent) == tried
        kept.current = Wire()
        presence.repeat_if_behind()
        await turns(ROOMS)
        assert kept.wire.rooms("a0000") == set(range(ROOMS))
        kept.wire.sent.clear()
        presence.repeat_if_behind()
        await turns(ROOMS)
        assert kept.wire.sent == []

    asyncio.run(scenario())


def test_a_repeat_waits_for_a_server_that_is_slow() -> None:
    """Nothing is lost, and nothing said twice."""

    async def scenario() -> None:
        kept = Kept()
        presence = await in_rooms(kept, lambda: LeaseId("a0000"))
        presence.repeat()
        kept.wire.writable = False
        presence.repeat_if_behind()
        await turns(ROOMS)
        assert len(kept.wire.sent) == REPEAT_BATCHES
        kept.wire.writable = True
        async with asyncio.timeout(PATIENCE):
            while len(kept.wire.sent) < ROOMS:
                await asyncio.sleep(0.01)
        presence.repeat_if_behind()
        await turns(ROOMS)
        assert kept.wire.rooms("a0000") == set(range(ROOMS))
        assert len(kept.wire.sent) == ROOMS

    asyncio.run(scenario())


def test_a_room_that_redis_refuses_keeps_no_other_from_being_said() -> None:
    """It is tried again and again, each time behind all the others."""

    async def scenario() -> None:
        kept = Kept()
        presence = await in_rooms(kept, lambda: LeaseId("a0000"))
        kept.wire.refused = b"\r\nroom0\r\n"
        presence.repeat()
        for _ in range(3):
            presence.repeat_if_behind()
            await turns(ROOMS // REPEAT_BATCHES // 2)
        assert kept.wire.rooms("a0000") == set(range(ROOMS))
        before = len(kept.wire.sent)
        presence.repeat_if_behind()
        await turns(ROOMS)
        assert len(kept.wire.sent) > before

    asyncio.run(scenario())


def test_a_server_that_lost_the_newest_is_told_again() -> None:
    """Who entered since its last snapshot is there again, and who left is not, in presence and in occupancy."""

    async def scenario() -> None:
        with valkey_server("--dbfilename", "dump.rdb") as server:
            async with node(server, "a") as here:
                here.presence.enter(ROOM, client(1), RULES)
                here.registry.set_occupancy(OTHER, 5)
                await occupied(here, {OTHER.name: 5})
                assert await are(here, ["c1"])
                with redis.Redis.from_url(server.url) as operator:
                    operator.save()
                here.presence.leave(ROOM, ClientId("c1"))
                here.presence.enter(ROOM, client(2), RULES)
                here.registry.set_occupancy(OTHER, 0)
                here.registry.set_occupancy(ROOM, 1)
                await occupied(here, {ROOM.name: 1})
                assert await are(here, ["c2"])
                server.kill()
                await until_health(here, False)
                server.start()
                await until_health(here, True)
                await here.registry.announce(NodeInfo(NodeId("a"), "a", "1", 0))
                await until(lambda: are(here, ["c2"]))
                await occupied(here, {ROOM.name: 1})

    asyncio.run(scenario())


def test_a_renewal_that_arrives_late_hides_no_lapse(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was given up in a partition; meanwhile the lease ran out, and others may have cleaned up after it."""
    monkeypatch.setattr(redis_registry, "LEASE", 1)

    async def scenario() -> None:
        async with node(server, "a") as here:
            here.presence.enter(ROOM, client(1), RULES)
            assert await are(here, ["c1"])
            with redis.Redis.from_url(server.url) as operator:
                async with asyncio.timeout(PATIENCE):
                    while operator.exists(KEYS.lease(LeaseId("a0000"))):
                        await asyncio.sleep(0.02)
                operator.set(KEYS.lease(LeaseId("a0000")), b"late")
                await here.announce("a")
                await until(lambda: is_under(server, "a0001"))

    asyncio.run(scenario())


async def is_under(server: ValkeyServer, lease: str) -> bool:
    """Whether the first client counts under the lease."""
    with redis.Redis.from_url(server.url) as operator:
        entry = operator.hget(KEYS.presence(ROOM), "c1") or b""
        return entry.startswith(lease.encode() + b"\0")


def test_a_new_lease_whose_answer_is_lost_is_not_taken_for_one_that_is_known(server: ValkeyServer) -> None:
    """What is said again comes behind the answer; without it, under the next lease."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy:
            through = settings(f"redis://127.0.0.1:{proxy.port}/0")
            async with redis_member(settings(server.url), "a", through) as here:
                leases = here.registry
                assert isinstance(leases, RedisRegistry)
                here.presence.enter(ROOM, client(1), RULES)
                assert await are(here, ["c1"])
                leases.server_is("another")
                # Nothing before, and one new in the set of all leases.
                proxy.drop(b"\r\n:1\r\n")
                announcing = asyncio.create_task(here.announce("a"))
                with redis.Redis.from_url(server.url) as operator:
                    async with asyncio.timeout(PATIENCE):
                        while not operator.exists(KEYS.lease(LeaseId("a0001"))):
                            await asyncio.sleep(0.01)
                proxy.swallow()
                with pytest.raises(BrokerUnavailable):
                    await announcing
                proxy.forward()
                await here.announce("a")
                await until(lambda: is_under(server, leases.lease))

    asyncio.run(scenario())
