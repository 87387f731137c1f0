"""What a node has noted, when it dies, is suspended, or loses its link or its data."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import redis

from gateway.broker.base import Ending, Happening
from gateway.broker.redis import ledger, lua, reaper, redis_registry
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import LeaseId
from gateway.broker.redis.link import Link
from gateway.broker.redis.redis_broker import RedisBroker
from gateway.control import NodeId, NodeInfo
from gateway.errors import NODE_LOST, BrokerUnavailable
from gateway.messages import Channel
from tests.broker.members import PATIENCE, Member, redis_member
from tests.broker.redis.nodes import KEYS, settings, until_health
from tests.broker.redis.test_redis_presence import expire, node
from tests.broker.test_events_contract import GONE, ROOM, ends, nothing, taken, watching
from tests.servers import ValkeyServer

LOST = Ending(*NODE_LOST)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "INTERVAL", 0.05)
    # Nodes here do not renew their leases, and a busy machine may take longer than usual.
    monkeypatch.setattr(redis_registry, "LEASE", 300)


async def noted(server: ValkeyServer, uid: str, count: int) -> None:
    """Until the ledger in Redis has so many entries."""
    with redis.Redis.from_url(server.url) as operator:
        async with asyncio.timeout(PATIENCE):
            while len([key for key in operator.hkeys(KEYS.ledger(NodeId(uid))) if key]) != count:
                await asyncio.sleep(0.01)


def reapers(*members: Member) -> list[reaper.Reaper]:
    found = []
    for each in members:
        assert isinstance(each.broker, RedisBroker)
        found.append(each.broker._reaper)
    return found


@pytest.mark.parametrize("count", [2, 2 * ledger.BATCH + 3])
def test_another_node_ends_what_a_dead_one_had_noted(server: ValkeyServer, count: int) -> None:
    """Once, even if two do it side by side: subscriptions first. The channels that it alone occupied are vacated."""

    async def scenario() -> None:
        async with node(server, "a") as here, node(server, "b") as there:
            for member in (here, there):
                member.registry.watches = watching
            async with node(server, "dead") as dead:
                dead.registry.watches = watching
                dead.registry.set_occupancy(ROOM, 1)
                for number in range(count):
                    dead.ledger.begin(f"c{number}", b"connection")
                    dead.ledger.begin(f"c{number}:1", b"subscription")
                (occupied,) = await taken(here, 1)
                await here.event_log.finish([occupied.id])
                await noted(server, "dead", 2 * count)
            expire(server, "dead0000")
            await asyncio.gather(*(each._reap(LeaseId("dead0000")) for each in reapers(here, there)))
            happenings = await taken(here, 2 * count + 1)
            (vacated,) = [each for each in happenings if each.channel is not None]
            assert (vacated.channel, vacated.is_occupied) == (ROOM, False)
            happenings.remove(vacated)
            assert ends(happenings) == [(b"subscription", LOST)] * count + [(b"connection", LOST)] * count
            await here.event_log.finish([vacated.id, *(each.id for each in happenings)])
            await nothing(here)
            with redis.Redis.from_url(server.url) as operator:
                left = [key for key in operator.scan_iter(b"gw:*") if b"dead" in key]
            assert left == [KEYS.closed_books(NodeId("dead"))]

    asyncio.run(scenario())


def test_a_node_that_comes_back_learns_what_was_ended(server: ValkeyServer) -> None:
    """Its clients are closed, since the application was told that they are gone; what it noted since then stays."""

    async def scenario() -> None:
        async with node(server, "a") as here, node(server, "b") as there:
            closed: list[str] = []
            there.ledger.on_closed = closed.extend
            for number in range(3):
                there.ledger.begin(f"c{number}", b"%d" % number)
            await noted(server, "b", 3)
            expire(server, "b0000")
            happenings = await taken(here, 3)
            await here.event_log.finish([each.id for each in happenings])
            await there.registry.announce(NodeInfo(NodeId("b"), "b", "1", 0))
            there.ledger.begin("c3", b"3")
            async with asyncio.timeout(PATIENCE):
                while len(closed) < 3:
                    await asyncio.sleep(0.01)
            assert sorted(closed) == ["c0", "c1", "c2"]
            await noted(server, "b", 1)
            # What is closed now was told already.
            for key in ("c0", "c1", "c2", "c3"):
                there.ledger.end(key, GONE)
            assert ends(await taken(here, 1)) == [(b"3", GONE)]
            # It is not taken for what was under the old lease.
            there.ledger.begin("c4", b"4")
            await noted(server, "b", 1)
            await reapers(here)[0]._reap(LeaseId("b0000"))
            assert await here.event_log.take(100, 100) == []

    asyncio.run(scenario())


def test_a_server_that_lost_its_data_gets_all_again(server: ValkeyServer) -> None:
    """Nobody was told that anything has ended, and nothing has."""

    async def scenario() -> None:
        async with node(server, "a") as member:
            closed: list[str] = []
            member.ledger.on_closed = closed.extend
            member.registry.watches = watching
            member.registry.set_occupancy(ROOM, 1)
            member.ledger.begin("c0", b"0")
            await noted(server, "a", 1)
            await taken(member, 1)
            with redis.Redis.from_url(server.url) as operator:
                operator.flushall()
                operator.script_flush()
            await member.registry.announce(NodeInfo(NodeId("a"), "a", "1", 0))
            await noted(server, "a", 1)
            (occupied,) = await taken(member, 1)
            assert (occupied.channel, occupied.is_occupied, closed) == (ROOM, True, [])
            member.ledger.end("c0", GONE)
            assert ends(await taken(member, 1)) == [(b"0", GONE)]

    asyncio.run(scenario())


@pytest.mark.slow
def test_ends_during_an_outage_are_told_after_it(server: ValkeyServer) -> None:
    """Also of what began in it."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as member:
            member.ledger.begin("before", b"before")
            await noted(server, "a", 1)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                await until_health(member, ok=False)
                member.ledger.begin("within", b"within")
                for key in ("before", "within"):
                    member.ledger.end(key, GONE)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await until_health(member, ok=True)
            found = {each.about for each in await taken_at_least(member, {b"before", b"within"})}
            assert found == {b"before", b"within"}

    asyncio.run(scenario())


async def taken_at_least(member: Member, wanted: set[bytes]) -> list[Happening]:
    found: list[Happening] = []
    async with asyncio.timeout(PATIENCE):
        while wanted - {each.about for each in found}:
            found += await member.event_log.take(100, 100) or []
            await asyncio.sleep(0.01)
    return found


def test_a_full_stream_drops_what_does_not_fit_and_counts_it(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_EVENTS", 3)
    monkeypatch.setattr(redis_registry, "MOST_EVENTS", 1)

    async def scenario() -> None:
        async with node(server, "a") as member:
            member.registry.watches = watching
            for number in range(5):
                member.ledger.begin(f"c{number}", b"%d" % number)
                member.ledger.end(f"c{number}", GONE)
            await member.ledger.settle()
            for count in (1, 0, 1):
                member.registry.set_occupancy(ROOM, count)
                await member.registry.flush()  # type: ignore[attr-defined]
            happenings = await taken(member, 4)
            assert [each.about for each in happenings if each.ending] == [b"0", b"1", b"2"]
            assert member.metrics.hook_events_dropped.values == {"full": 4}

    asyncio.run(scenario())


def test_foreign_entries_of_the_streams_are_read_over(server: ValkeyServer) -> None:
    """What no node has written is given to the node, which finds that it tells nothing."""

    async def scenario() -> None:
        async with node(server, "a") as member:
            with redis.Redis.from_url(server.url) as operator:
                operator.xadd(KEYS.endings(), {b"\xff": b"\xff"})
                operator.xadd(KEYS.endings(), {"w": b"\xff", "c": "-1", "r": b"\xff"})
                operator.xadd(KEYS.events("default", 0), {"n": b"\xff", "o": "x"})
            assert {each.about for each in await taken(member, 3)} == {b"", b"\xff"}

    asyncio.run(scenario())


class Tampered:
    """A link where something happens after certain commands."""

    def __init__(self, link: KeptLink, after: Callable[[bytes], Awaitable[object]]) -> None:
        """`after` gets what was sent. What it raises is the outcome."""
        self.link = link
        self.after = after

    @property
    def current(self) -> Link | None:
        return self.link.current

    async def ask_all(self, commands: Sequence[bytes]) -> list[Any]:
        replies = await self.link.ask_all(commands)
        await self.after(b"".join(commands))
        return replies


def tamper(member: Member, after: Callable[[bytes], Awaitable[object]]) -> None:
    assert isinstance(member.ledger, ledger.Ledger)
    member.ledger._link = Tampered(member.ledger._link, after)  # type: ignore[assignment]


def losing(*names: str) -> Callable[[bytes], Awaitable[object]]:
    """Redis carries the commands out, and the link breaks before its reply to the first of each name."""
    left = [name.encode() for name in names]

    async def after(sent: bytes) -> None:
        for name in left:
            if name in sent:
                left.remove(name)
                raise BrokerUnavailable("the link broke")

    return after


@pytest.mark.parametrize("lost", ["HSET", lua.LEDGER_END.sha], ids=["begin", "end"])
def test_a_lost_reply_ends_nothing_twice(server: ValkeyServer, lost: str) -> None:
    """Neither that of a beginning nor that of an end."""

    async def scenario() -> None:
        async with node(server, "a") as member:
            tamper(member, losing(lost))
            member.ledger.begin("c0", b"0")
            member.ledger.end("c0", GONE)
            await member.ledger.settle()
            assert ends(await taken(member, 1)) == [(b"0", GONE)]
            await nothing(member)

    asyncio.run(scenario())


def test_what_a_node_notes_while_its_books_are_closed_stays(server: ValkeyServer) -> None:
    """It comes back when another one has just ended the last entry."""

    async def scenario() -> None:
        async with node(server, "a") as here, node(server, "b") as there:
            for each in reapers(here, there):
                # Only when the test says so.
                await each.stop()
            there.ledger.begin("c0", b"0")
            await noted(server, "b", 1)
            expire(server, "b0000")

            later = iter(["c1"])

            async def come_back(sent: bytes) -> None:
                if lua.LEDGER_END.sha.encode() in sent:
                    for key in later:
                        there.ledger.begin(key, b"1")
                        await noted(server, "b", 1)

            tamper(here, come_back)
            await reapers(here)[0]._reap(LeaseId("b0000"))
            there.ledger.end("c1", GONE)
            # By whomever.
            assert [each.about for each in await taken(here, 2)] == [b"0", b"1"]

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", [lua.LEDGER_CLAIM.sha, "HKEYS", "DEL"], ids=["claim", "keys", "end"])
def test_a_claim_that_is_repeated_still_learns_what_was_ended(server: ValkeyServer, lost: str) -> None:
    async def scenario() -> None:
        async with node(server, "a") as here, node(server, "b") as there:
            closed: list[str] = []
            there.ledger.on_closed = closed.extend
            there.ledger.begin("c0", b"0")
            await noted(server, "b", 1)
            expire(server, "b0000")
            await taken(here, 1)
            tamper(there, losing(lost))
            await there.registry.announce(NodeInfo(NodeId("b"), "b", "1", 0))
            there.ledger.begin("c1", b"1")
            await noted(server, "b", 1)
            assert set(closed) == {"c0"}

    asyncio.run(scenario())


def test_what_may_have_been_written_and_ended_is_closed(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node was cut off right after it was noted. It may also not have been written: then its end is told now."""

    async def scenario() -> None:
        async with node(server, "a") as here, node(server, "b") as there:
            for each in reapers(here, there):
                # Only when the test says so.
                await each.stop()
            closed: list[str] = []
            there.ledger.on_closed = closed.extend
            is_cut = False
            assert isinstance(there.ledger, ledger.Ledger)
            ask_all = there.ledger._link.ask_all

            async def cut(commands: Sequence[bytes]) -> list[Any]:
                nonlocal is_cut
                if not is_cut:
                    is_cut = True
                    await ask_all(commands)
                raise BrokerUnavailable("the link broke")

            monkeypatch.setattr(there.ledger._link, "ask_all", cut)
            there.ledger.begin("c0", b"0")
            await noted(server, "b", 1)
            expire(server, "b0000")
            await reapers(here)[0]._reap(LeaseId("b0000"))
            await taken(here, 1)
            await there.registry.announce(NodeInfo(NodeId("b"), "b", "1", 0))
            monkeypatch.setattr(there.ledger._link, "ask_all", ask_all)
            async with asyncio.timeout(PATIENCE):
                while not closed:
                    await asyncio.sleep(0.01)
            assert closed == ["c0"]

    asyncio.run(scenario())


def test_a_lease_that_lapses_during_a_claim_is_claimed_again(server: ValkeyServer) -> None:
    """Otherwise others end what is under it, and the node does not learn of that."""

    async def scenario() -> None:
        async with node(server, "a") as member:
            lapses = iter(("a0000", "a0001"))

            async def lapse(sent: bytes = b"") -> None:
                if not sent or lua.LEDGER_CLAIM.sha.encode() in sent:
                    for lease in lapses:
                        expire(server, lease)
                        await member.registry.announce(NodeInfo(NodeId("a"), "a", "1", 0))
                        break

            tamper(member, lapse)
            await lapse()
            with redis.Redis.from_url(server.url) as operator:
                async with asyncio.timeout(PATIENCE):
                    while operator.hget(KEYS.ledger(NodeId("a")), "") != b"2":
                        await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_reply_that_is_missing_loses_no_events(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link breaks between the replies of two streams: the next read has all."""

    async def scenario() -> None:
        async with node(server, "a") as member:
            member.ledger.begin("c0", b"0")
            member.ledger.end("c0", GONE)
            await member.ledger.settle()
            assert isinstance(member.broker, RedisBroker)
            link = member.broker.topology.home.read_link
            ask_all, found = link.ask_all, None

            async def cut(commands: Sequence[bytes]) -> list[Any]:
                return [*(await ask_all(commands))[:-1], BrokerUnavailable("the link broke")]

            with monkeypatch.context() as patch, suppress(BrokerUnavailable):
                patch.setattr(link, "ask_all", cut)
                found = await member.event_log.take(100, 100)
            assert ends(found or await taken(member, 1)) == [(b"0", GONE)]

    asyncio.run(scenario())


def test_a_stream_that_cannot_be_read_does_not_hold_up_the_others(server: ValkeyServer) -> None:
    """Somebody else's data: it is reported while there is nothing else."""

    async def scenario() -> None:
        async with node(server, "a") as member:
            with redis.Redis.from_url(server.url) as operator:
                operator.set(KEYS.events("default", 0), "no stream")
            member.ledger.begin("c0", b"0")
            member.ledger.end("c0", GONE)
            await member.ledger.settle()
            assert ends(await taken(member, 1)) == [(b"0", GONE)]
            with pytest.raises(BrokerUnavailable, match="WRONGTYPE"):
                await member.event_log.take(100, 100)

    asyncio.run(scenario())


def test_ends_of_what_redis_has_are_kept_whatever_their_number(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is away. Dropped, the entry would stay in the ledger until the node dies."""
    monkeypatch.setattr(ledger, "MOST_UNWRITTEN", 1)

    async def scenario() -> None:
        async with node(server, "a") as member:
            for key in ("a", "b", "c"):
                member.ledger.begin(key, key.encode())
            await noted(server, "a", 3)
            for key in ("new1", "new2"):
                member.ledger.begin(key, key.encode())
            for key in ("new1", "a", "b", "new2", "c"):
                member.ledger.end(key, GONE)
            assert {each.about for each in await taken(member, 4)} == {b"a", b"b", b"c", b"new1"}
            assert member.metrics.hook_events_dropped.values == {"full": 1}
            await noted(server, "a", 0)

    asyncio.run(scenario())


def test_occupancies_that_cannot_be_written_do_not_hold_up_the_others(server: ValkeyServer) -> None:
    """Somebody else's data under the keys of a channel. It is reported, and tried again."""

    async def scenario() -> None:
        async with node(server, "a") as member:
            assert isinstance(member.registry, redis_registry.RedisRegistry)
            # Only when the test says so.
            await member.registry._flushing.stop()
            member.registry.watches = watching
            with redis.Redis.from_url(server.url) as operator:
                operator.set(KEYS.events("default", KEYS.partition(ROOM)), "no stream")
                member.registry.set_occupancy(ROOM, 1)
                for number in range(2 * redis_registry.BATCH):
                    member.registry.set_occupancy(Channel("default", f"c{number}"), 1)
                with pytest.raises(BrokerUnavailable, match="WRONGTYPE"):
                    await member.registry.flush()
                others = [key for key in operator.scan_iter(b"gw:*:occupancy:*") if ROOM.name.encode() not in key]
                assert len(others) == 2 * redis_registry.BATCH
                operator.delete(KEYS.events("default", KEYS.partition(ROOM)))
            await member.registry.flush()
            # It had become occupied before the event was refused.
            member.registry.set_occupancy(ROOM, 0)
            await member.registry.flush()
            (vacated,) = await taken(member, 1)
            assert (vacated.channel, vacated.is_occupied) == (ROOM, False)

    asyncio.run(scenario())


def test_a_server_whose_clock_is_behind_that_of_the_one_before_loses_no_events(server: ValkeyServer) -> None:
    """A replica that was promoted, or an empty server: its ids are smaller than those that were read."""

    async def scenario() -> None:
        async with node(server, "a") as member:
            with redis.Redis.from_url(server.url) as operator:
                operator.xadd(KEYS.endings(), {"w": "ahead"}, id="9999999999999-0")
                assert [each.about for each in await taken(member, 1)] == [b"ahead"]
                operator.flushall()
            await member.registry.announce(NodeInfo(NodeId("a"), "a", "1", 0))
            member.ledger.begin("c0", b"0")
            member.ledger.end("c0", GONE)
            found: list[Happening] = []
            async with asyncio.timeout(PATIENCE):
                while not found:
                    # The link to the server that lost its data is replaced.
                    with suppress(BrokerUnavailable):
                        found += await member.event_log.take(100, 100) or []
                    await asyncio.sleep(0.01)
            assert ends(found) == [(b"0", GONE)]

    asyncio.run(scenario())
