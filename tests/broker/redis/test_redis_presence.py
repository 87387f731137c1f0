"""Presence under the leases of nodes, on a real server: nodes that die, leases that lapse, servers that forget."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import redis

from gateway.broker.redis import reaper, redis_presence
from gateway.broker.redis.keyspace import LeaseId
from gateway.broker.redis.redis_broker import RedisBroker
from gateway.broker.redis.redis_registry import RedisRegistry
from gateway.control import NodeId, NodeInfo
from gateway.errors import BrokerUnavailable
from gateway.guard import Guard
from gateway.messages import Channel, ClientId, ClientInfo, PresenceRules
from gateway.metrics import Metrics
from tests.broker.members import IN_FORCE, PATIENCE, Inbox, Member
from tests.broker.redis.nodes import KEYS, settings, until_health
from tests.broker.test_presence_contract import OTHER, ROOM, counts, members, told
from tests.servers import ValkeyServer

RULES = PresenceRules("clients", limit=1_000)


@asynccontextmanager
async def node(server: ValkeyServer, uid: str, rules: PresenceRules = RULES) -> AsyncIterator[Member]:
    """A started node whose reaper knows the rules of every channel; it ends without withdrawing its lease."""
    metrics, options = Metrics(), settings(server.url)
    registry = RedisRegistry(options, NodeId(uid), KEYS, Guard(metrics.faults), lambda: IN_FORCE)
    broker = RedisBroker(options, NodeId(uid), KEYS, registry, metrics, lambda channel: rules)
    parts = (broker, registry, broker.presence, broker.ledger, broker.event_log)
    member = Member(*parts, Inbox(), metrics, NodeId(uid))
    await broker.start(member.inbox)
    try:
        await member.announce(uid)
        yield member
    finally:
        await broker.stop()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


def client(number: int, user: str = "") -> ClientInfo:
    return ClientInfo(user, f"c{number}")


def expire(server: ValkeyServer, lease: str) -> None:
    """The lease runs out."""
    with redis.Redis.from_url(server.url) as operator:
        assert operator.delete(KEYS.lease(LeaseId(lease))) == 1


def keys_of(server: ValkeyServer, kind: str) -> list[bytes]:
    with redis.Redis.from_url(server.url) as operator:
        return list(operator.scan_iter(f"gw:*:{kind}:*"))


@pytest.mark.parametrize("count", [3, 2 * redis_presence.BATCH + 7])
def test_members_of_a_dead_node_leave_once(server: ValkeyServer, count: int) -> None:
    """However many reapers there are, and more than one batch of them; nothing is left behind."""

    async def scenario() -> None:
        async with node(server, "a") as here, node(server, "b") as there:
            await here.subscribe(ROOM)
            here.presence.enter(ROOM, client(0, "ann"), RULES)
            async with node(server, "dead") as dead:
                for number in range(1, count + 1):
                    dead.presence.enter(ROOM, client(number, "ann"), RULES)
                dead.presence.enter(OTHER, client(0), RULES)
                assert len(await members(dead)) == count + 1
            await here.inbox.until(lambda: len(here.inbox.memberships) == count + 1)
            # Both clean up at once, as when the election went wrong.
            for each in (here, there):
                assert isinstance(each.broker, RedisBroker)
            expire(server, "dead0000")
            reapers = [each.broker._reaper for each in (here, there)]  # type: ignore[attr-defined]
            await asyncio.gather(*(each._reap(LeaseId("dead0000")) for each in reapers))
            await here.inbox.until(lambda: len(here.inbox.memberships) == 2 * count + 1)
            assert sorted(told(here.inbox)[count + 1 :]) == sorted(
                ("leave", f"c{each}") for each in range(1, count + 1)
            )
            assert await members(here) == [client(0, "ann")]
            assert await counts(here) == (1, 1)
            assert await counts(there, OTHER) == (0, 0)
            await asyncio.sleep(5 * reaper.INTERVAL)
            assert len(here.inbox.memberships) == 2 * count + 1
            assert [key for key in keys_of(server, "held") if b"dead" in key] == []
            with redis.Redis.from_url(server.url) as operator:
                assert b"dead0000" not in operator.smembers(KEYS.leases())

    asyncio.run(scenario())


def test_one_node_cleans_up(server: ValkeyServer) -> None:
    """The others take its place when it is gone."""

    async def scenario() -> None:
        async with node(server, "b") as there:
            async with node(server, "a"), node(server, "c"):
                await until(lambda: elected(server))
            with redis.Redis.from_url(server.url) as operator:
                operator.delete(KEYS.reaper())
                await until(lambda: elected(server))
                assert operator.get(KEYS.reaper()) == b"b0000"
            assert there.broker.health().ok

    asyncio.run(scenario())


async def elected(server: ValkeyServer) -> bool:
    with redis.Redis.from_url(server.url) as operator:
        return operator.get(KEYS.reaper()) is not None


def test_a_lease_that_lapsed_is_another_one_afterwards(server: ValkeyServer) -> None:
    """The node was stopped for a while, and cleaned up after: it registers everything again, and nobody is lost."""

    async def scenario() -> None:
        async with node(server, "a") as here, node(server, "b") as there:
            await here.subscribe(ROOM)
            for number in range(3):
                there.presence.enter(ROOM, client(number), RULES)
            assert len(await members(there)) == 3
            expire(server, "b0000")
            await here.inbox.until(lambda: len(here.inbox.memberships) == 6)
            assert await members(here) == []
            there.presence.leave(ROOM, ClientId("c0"))
            await there.registry.announce(NodeInfo(NodeId("b"), "b", "1", 0))
            await until(lambda: are(here, ["c1", "c2"]))
            await here.inbox.until(lambda: len(here.inbox.memberships) == 8)
            assert [each[0] for each in told(here.inbox)] == ["join"] * 3 + ["leave"] * 3 + ["join"] * 2
            there.presence.leave(ROOM, ClientId("c1"))
            await until(lambda: are(here, ["c2"]))
            # What is under the new lease is not taken for what was under the old one.
            await asyncio.sleep(5 * reaper.INTERVAL)
            assert await are(here, ["c2"])

    asyncio.run(scenario())


async def are(member: Member, clients: list[str]) -> bool:
    return [each.client for each in await members(member)] == clients


def test_what_entered_again_is_not_cleaned_up(server: ValkeyServer) -> None:
    """The node is back while somebody still cleans up after its old lease."""

    async def scenario() -> None:
        async with node(server, "a") as here, node(server, "b") as there:
            there.presence.enter(ROOM, client(1), RULES)
            assert await are(there, ["c1"])
            with redis.Redis.from_url(server.url) as operator:
                operator.set(KEYS.reaper(), "nobody")
            expire(server, "b0000")
            await there.registry.announce(NodeInfo(NodeId("b"), "b", "1", 0))
            assert await are(there, ["c1"])
            assert isinstance(here.broker, RedisBroker)
            await here.broker._reaper._reap(LeaseId("b0000"))
            assert await are(here, ["c1"])

    asyncio.run(scenario())


def test_what_redis_missed_is_said_again(server: ValkeyServer) -> None:
    """Members entered and left while it was away, and what it had is gone."""

    async def scenario() -> None:
        async with node(server, "a") as here:
            for number in range(3):
                here.presence.enter(ROOM, client(number), RULES)
            assert len(await members(here)) == 3
            server.kill()
            await until_health(here, False)
            here.presence.leave(ROOM, ClientId("c0"))
            here.presence.enter(ROOM, client(7), RULES)
            here.presence.enter(OTHER, client(8), RULES)
            outcomes: list[object] = []
            here.presence.members(ROOM, 0, 0, outcomes.append)
            here.presence.counts(ROOM, outcomes.append)
            assert [type(each) for each in outcomes] == [BrokerUnavailable] * 2
            server.start()
            await until_health(here, True)
            # The heartbeat of the node finds its lease gone.
            await here.registry.announce(NodeInfo(NodeId("a"), "a", "1", 0))
            await until(lambda: are(here, ["c1", "c2", "c7"]))
            assert await counts(here, OTHER) == (1, 1)

    asyncio.run(scenario())


def test_a_leave_that_did_not_get_through_is_repeated(server: ValkeyServer) -> None:
    """The link was cut, the server and its data are still there."""

    async def scenario() -> None:
        async with node(server, "a") as here:
            for number in range(2):
                here.presence.enter(ROOM, client(number), RULES)
            assert len(await members(here)) == 2
            assert isinstance(here.broker, RedisBroker)
            here.broker.topology.home.read_link.abort("cut")
            here.presence.leave(ROOM, ClientId("c0"))
            await until_health(here, True)
            await until(lambda: are(here, ["c1"]))

    asyncio.run(scenario())


def test_forgotten_scripts_are_loaded_again(server: ValkeyServer) -> None:
    async def scenario() -> None:
        async with node(server, "a") as here:
            with redis.Redis.from_url(server.url) as operator:
                operator.script_flush()
            here.presence.enter(ROOM, client(1), RULES)
            await until(lambda: counted(here, 1))
            assert await are(here, ["c1"])

    asyncio.run(scenario())


async def counted(member: Member, number: int) -> bool:
    return (await counts(member)).clients == number


def test_what_another_version_wrote(server: ValkeyServer) -> None:
    """Is not seen, and counted; it goes with its node, and its user with it, though nobody can tell who it was."""

    async def scenario() -> None:
        async with node(server, "a") as here:
            with redis.Redis.from_url(server.url) as operator:
                operator.hset(KEYS.presence(ROOM), "x", b"z0000\0\xc1")
                operator.hset(KEYS.presence(ROOM), "y", b"z0000\x003:ann\xc1")
                operator.hset(KEYS.presence(ROOM), "z", b"z0000\x001:\xff")
                operator.hset(KEYS.users(ROOM), "ann", 1)
                operator.sadd(KEYS.held(KEYS.partition(ROOM), "default", LeaseId("z0000")), ROOM.name)
                here.presence.enter(ROOM, client(1), RULES)
                assert await are(here, ["c1"])
                assert here.metrics.broker_invalid.value == 3
                operator.sadd(KEYS.leases(), "z0000")
                await until(lambda: gone(server))
                assert await counts(here) == (1, 1)

    asyncio.run(scenario())


async def gone(server: ValkeyServer) -> bool:
    with redis.Redis.from_url(server.url) as operator:
        return not any(operator.hmget(KEYS.presence(ROOM), "x", "y", "z"))


def test_refusals_of_redis_are_errors(server: ValkeyServer) -> None:
    """A key of another kind, by somebody else's hand."""

    async def scenario() -> None:
        async with node(server, "a") as here:
            with redis.Redis.from_url(server.url) as operator:
                operator.set(KEYS.presence(ROOM), "text")
            outcomes: list[object] = []
            here.presence.members(ROOM, 0, 0, outcomes.append)
            here.presence.counts(ROOM, outcomes.append)
            await until(lambda: both(outcomes))
            assert [type(each) for each in outcomes] == [BrokerUnavailable] * 2
            assert isinstance(here.broker, RedisBroker)
            dead = [(ClientId("c"), client(1))]
            presence = here.broker.topology.shard_of(ROOM).presence
            with pytest.raises(BrokerUnavailable, match="refused to clean up"):
                await presence.leave_of(LeaseId("z"), ROOM, dead, RULES, last=True)

    asyncio.run(scenario())


async def both(outcomes: list[object]) -> bool:
    return len(outcomes) == 2


def test_users_of_a_dead_node_may_come_back(server: ValkeyServer) -> None:
    """A node that dies is like a connection that breaks: they have the time of the grace."""
    rules = PresenceRules("users", limit=10, grace=0.5)

    async def scenario() -> None:
        async with node(server, "a", rules) as here:
            await here.subscribe(ROOM)
            async with node(server, "dead", rules) as dead:
                for number, user in enumerate(("ann", "bob")):
                    dead.presence.enter(ROOM, client(number, user), rules)
                assert len(await members(dead)) == 2
            await here.inbox.until(lambda: len(here.inbox.memberships) == 2)
            expire(server, "dead0000")
            await until(lambda: are(here, []))
            here.presence.enter(ROOM, client(2, "ann"), rules)
            await here.inbox.until(lambda: len(here.inbox.memberships) == 3)
            assert told(here.inbox)[2] == ("leave", "c1")
            assert await are(here, ["c2"])

    asyncio.run(scenario())


def test_names_of_other_apps_are_apart() -> None:
    """In every key of presence."""
    one, other = Channel("a", "b:c"), Channel("a:b", "c")
    for key in (KEYS.presence, KEYS.users, KEYS.values, KEYS.meta, KEYS.stream):
        assert key(one) != key(other)
