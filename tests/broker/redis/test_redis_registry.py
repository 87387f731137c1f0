"""The registry in Redis, when Redis or its data fails."""

import asyncio
import time

import msgspec
import pytest
import redis

from gateway.broker.redis import redis_registry as module
from gateway.broker.redis.keyspace import LeaseId
from gateway.broker.redis.redis_registry import BATCH, LEASE, SLICE, RedisRegistry
from gateway.control import KEPT_BEYOND, Revocation
from gateway.errors import BAD_REQUEST, BrokerUnavailable, RequestError
from gateway.messages import Channel
from tests.broker.members import PATIENCE, Member, make_redis_member, redis_member
from tests.broker.redis.nodes import KEYS, OTHER, ROOM, settings, two
from tests.broker.redis.proxy import proxied
from tests.servers import ValkeyServer


def test_a_stopped_node_registers_everything_again(server: ValkeyServer) -> None:
    """Its lease ran out and others cleaned up; or Redis lost its data."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            here.registry.set_occupancy(ROOM, 3)
            await occupied(there, {ROOM.name: 3})
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            assert await there.registry.nodes() == []
            await occupied(there, {})
            await here.announce("a")
            await occupied(there, {ROOM.name: 3})
            with redis.Redis.from_url(server.url) as client:
                assert client.get(KEYS.partition_count()) == b"%d" % KEYS.partitions

    asyncio.run(scenario())


async def occupied(member: Member, expected: dict[str, int]) -> None:
    """Wait until the channels are these: they are written in batches."""
    async with asyncio.timeout(PATIENCE):
        while await _listed(member) != expected:
            await asyncio.sleep(0.05)


async def _listed(member: Member) -> dict[str, int]:
    found: dict[str, int] = {}
    cursor, more = "", True
    while more:
        page = await member.registry.channels("default", "", 100, cursor)
        found.update(page.channels)
        cursor = page.cursor
        more = bool(cursor)
    return found


def test_the_registry_says_that_redis_is_away(server: ValkeyServer) -> None:
    """Every question and every order."""

    async def scenario() -> None:
        async with two(server.url) as (here, _):
            server.kill()
            registry = here.registry
            for operation in (
                lambda: here.announce("a"),
                lambda: registry.withdraw(),
                registry.nodes,
                lambda: registry.channels("default", "", 10, ""),
                lambda: registry.revoke(Revocation("default", jti="t")),
                registry.revocations,
            ):
                with pytest.raises(BrokerUnavailable):
                    await operation()

    asyncio.run(scenario())


def test_a_page_is_full_however_many_partitions_there_are(server: ValkeyServer) -> None:
    """An application with few channels gets all of them with one page, and none twice with many."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as member:
            names = [f"room{number}" for number in range(306)]
            for name in names:
                member.registry.set_occupancy(Channel("default", name), 1)
            await occupied(member, dict.fromkeys(names, 1))
            page = await member.registry.channels("default", "", len(names) + 1, "")
            assert (len(page.channels), page.cursor) == (len(names), "")
            found, cursor = [], ""
            for size in (100, 100, 100, 6):
                page = await member.registry.channels("default", "", 100, cursor)
                assert len(page.channels) == size
                found += [name for name, _ in page.channels]
                cursor = page.cursor
            assert cursor == ""
            assert sorted(found) == sorted(names)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "cursor", ["nonsense", "-1:", f"{KEYS.partitions}:", ":", "x:y", "1e1:", "²:", "9" * 5000 + ":"]
)
def test_a_cursor_that_no_page_had_is_refused(server: ValkeyServer, cursor: str) -> None:
    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as member:
            with pytest.raises(Exception, match="cursor"):
                await member.registry.channels("default", "", 10, cursor)

    asyncio.run(scenario())


def test_a_node_that_joins_while_channels_are_listed_keeps_its_own(server: ValkeyServer) -> None:
    """Who lists removes what dead nodes left; a node that came meanwhile is not one of them."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy:
            through = settings(f"redis://127.0.0.1:{proxy.port}/0", publish_timeout=PATIENCE)
            async with redis_member(settings(server.url), "a", through) as here:
                here.registry.set_occupancy(ROOM, 1)
                await occupied(here, {ROOM.name: 1})
                proxy.hold(b"HGETALL")
                listing = asyncio.create_task(occupied(here, {ROOM.name: 3}))
                await proxy.held.wait()
                async with redis_member(settings(server.url), "b") as there:
                    there.registry.set_occupancy(ROOM, 2)
                    await occupied(there, {ROOM.name: 3})
                    proxy.forward()
                    await listing
                    await occupied(there, {ROOM.name: 3})

    asyncio.run(scenario())


def test_what_dead_nodes_left_is_removed(server: ValkeyServer) -> None:
    """They ended without a word: their lease runs out, and with it everything they had counts no longer."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            async with redis_member(settings(server.url), "a") as here:
                async with redis_member(settings(server.url), "b") as there:
                    here.registry.set_occupancy(ROOM, 1)
                    there.registry.set_occupancy(ROOM, 2)
                    there.registry.set_occupancy(OTHER, 2)
                    await occupied(here, {ROOM.name: 3, OTHER.name: 2})
                    assert 0 < client.ttl(KEYS.lease(LeaseId("b0000"))) <= LEASE
                client.delete(KEYS.lease(LeaseId("b0000")))
                assert [info.uid for info in await here.registry.nodes()] == ["a"]
                await occupied(here, {ROOM.name: 1})
                assert client.hgetall(KEYS.occupancy(ROOM)) == {b"a0000": b"1"}
                assert client.keys("*other*") == []
                async with asyncio.timeout(PATIENCE):
                    while client.smembers(KEYS.leases()) != {b"a0000"}:
                        await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_what_another_version_wrote_does_not_stop_a_node(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Leases and revocations that cannot be read are passed over; the latter are told of, since they protect."""

    async def scenario() -> None:
        async with two(server.url) as (here, _):
            with redis.Redis.from_url(server.url) as client:
                client.set(KEYS.lease(LeaseId("b0000")), b"\xc1")
                client.hset(KEYS.revoked(), b"garbage", b"\xc1")
                client.hset(KEYS.revoked(), b"shape", msgspec.msgpack.encode({"app": 7}))
                assert [info.uid for info in await here.registry.nodes()] == ["a"]
                revocation = Revocation("default", jti="t")
                await here.registry.revoke(revocation)
                assert await here.registry.revocations() == [revocation]
                assert caplog.text.count("a revocation could not be read") == 2
                # It stays for those who can read it.
                assert client.hlen(KEYS.revoked()) == 3

    asyncio.run(scenario())


def test_many_kicks_are_read_in_slices(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend may kick a user from thousands of channels. All are read, and others have their turns meanwhile."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            kicks = [Revocation("default", "42", issued_before=9, channel=f"room:{number}") for number in range(2_000)]
            await here.registry.restore(kicks)
            turn, turns, read = 0, set(), module._revocation

            def noted(field: bytes, value: bytes) -> Revocation | None:
                turns.add(turn)
                return read(field, value)

            monkeypatch.setattr(module, "_revocation", noted)
            reading = asyncio.create_task(there.registry.revocations())
            while not reading.done():
                turn += 1
                await asyncio.sleep(0)
            assert set(reading.result()) == set(kicks)
            assert len(turns) >= len(kicks) / SLICE

    asyncio.run(scenario())


def test_a_node_whose_clock_is_ahead_takes_no_revocation_from_the_others(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are forgotten by the clock of Redis, and only those that were meant: one may have been renewed meanwhile."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            now = time.time()
            revocation = Revocation("default", jti="t", expire_at=int(now) + 60)
            await here.registry.revoke(revocation)
            await here.registry.revoke(Revocation("default", jti="over", expire_at=int(now) - KEPT_BEYOND - 60))
            with redis.Redis.from_url(server.url) as client:
                with monkeypatch.context() as patch:
                    patch.setattr("gateway.broker.redis.redis_registry.time.time", lambda: now + 10 * KEPT_BEYOND)
                    assert await there.registry.revocations() == []
                assert client.hlen(KEYS.revoked()) == 1
            assert await here.registry.revocations() == [revocation]

    asyncio.run(scenario())


def test_occupancy_that_could_not_be_written_is_written_later(server: ValkeyServer) -> None:
    """The newest values win, however many fit into one write."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            registry = here.registry
            assert isinstance(registry, RedisRegistry)
            rooms = [Channel("default", f"room{number}") for number in range(BATCH + 200)]
            for room in (*rooms, OTHER):
                registry.set_occupancy(room, 1)
            server.kill()
            with pytest.raises(BrokerUnavailable, match="not counted"):
                await registry.flush()
            registry.set_occupancy(rooms[0], 5)
            registry.set_occupancy(OTHER, 0)
            server.start()
            await here.announce("a")
            await registry.flush()
            assert await _listed(there) == {**{room.name: 1 for room in rooms}, rooms[0].name: 5}

    asyncio.run(scenario())


def test_occupancy_is_written_by_itself_when_redis_is_back(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is told, and does not end the writing."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            server.kill()
            here.registry.set_occupancy(ROOM, 1)
            async with asyncio.timeout(PATIENCE):
                while "Redis cannot be reached" not in caplog.text:
                    await asyncio.sleep(0.01)
            server.start()
            await here.announce("a")
            await occupied(there, {ROOM.name: 1})

    asyncio.run(scenario())


@pytest.mark.parametrize("cursor", ["0:\ud800", "\ud800"])
def test_half_a_character_is_in_no_cursor(server: ValkeyServer, cursor: str) -> None:
    """JSON can spell it, UTF-8 cannot."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as member:
            with pytest.raises(RequestError, match="cursor") as caught:
                await member.registry.channels("default", "", 10, cursor)
            assert caught.value.error is BAD_REQUEST

    asyncio.run(scenario())


@pytest.mark.slow
def test_it_stops_at_whatever_moment(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a write: redis-py's `asyncio.wait_for` loses cancellations before Python 3.12."""
    monkeypatch.setattr(module, "FLUSH_INTERVAL", 0.0)

    async def scenario() -> None:
        for turns in range(60):
            registry = make_redis_member(settings(server.url), "a").registry
            assert isinstance(registry, RedisRegistry)
            await registry.start()
            registry.set_occupancy(ROOM, 1)
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                await registry.stop()

    asyncio.run(scenario())
