"""Epochs and the generations of a real server: what looks like continuity is continuity."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis

from gateway.broker.base import Standing
from gateway.broker.redis import generation
from gateway.errors import BrokerUnavailable, OutcomeUnknown
from gateway.messages import HistoryQuery, Position, Publication, PublishOptions, PublishResult, Retention
from tests.broker.members import PATIENCE, Member, redis_member
from tests.broker.redis.forgeries import BAD_ENTRIES
from tests.broker.redis.nodes import KEYS, ROOM, settings, until_health
from tests.servers import ValkeyServer, valkey_server

KEPT = Retention(size=100, ttl=60, meta_ttl=600)


async def publish(member: Member, data: str, idempotency_key: str = "") -> PublishResult:
    publication = Publication(ROOM, data.encode(), time=1)
    async with asyncio.timeout(PATIENCE):
        outcome = await member.start_publish(publication, PublishOptions(idempotency_key, history=KEPT))
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


def reconnects(member: Member) -> int:
    return sum(member.metrics.broker_reconnects.values.values())


@pytest.mark.parametrize("durable", [False, True])
def test_a_restart_begins_a_new_epoch_unless_the_server_is_durable(durable: bool) -> None:
    """Though it still has its data: nobody knows whether they are all of them."""

    async def scenario(server: ValkeyServer) -> None:
        async with redis_member(settings(server.url, durable=durable), "a") as member:
            before = await publish(member, "1")
            assert await publish(member, "2") == (2, before.epoch)
            server.restart()
            await until_health(member, False)
            await until_health(member, True)
            after = await publish(member, "3")
            assert (after == (3, before.epoch)) is durable
            assert (after.offset == 1) is not durable

    with valkey_server("--appendonly", "yes", "--appendfsync", "always") as server:
        asyncio.run(scenario(server))


def test_reading_is_enough_to_find_out(server: ValkeyServer) -> None:
    """A channel that nobody has published to since: its epoch of another generation is not given out any more."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as member:
            before = await publish(member, "1")
            with redis.Redis.from_url(server.url) as client:
                # As it stands in the data of a server that took over.
                client.hset(KEYS.meta(ROOM), "e", "000000000000" + before.epoch[12:])
            future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            member.broker.read(ROOM, KEPT, HistoryQuery(-1), future.set_result)
            publications, top = await future  # type: ignore[misc]
            assert (publications, top.offset) == ([], 0)  # type: ignore[has-type]
            assert top.epoch.startswith(before.epoch[:12])  # type: ignore[has-type]
            assert top.epoch != before.epoch  # type: ignore[has-type]

    asyncio.run(scenario())


def test_a_server_that_is_no_primary_any_more_is_left(server: ValkeyServer) -> None:
    """It keeps its connections. Nodes notice, and when it is promoted again, all begin the same new generation."""

    async def scenario() -> None:
        with valkey_server() as other, redis.Redis.from_url(server.url) as client:
            async with (
                redis_member(settings(server.url), "a") as here,
                redis_member(settings(server.url), "b") as there,
            ):
                before = await publish(here, "1")
                client.execute_command("REPLICAOF", "127.0.0.1", str(other.port))
                for member in (here, there):
                    assert "not a primary" in (await until_health(member, False)).reason
                with pytest.raises(BrokerUnavailable):
                    await publish(here, "2")
                client.execute_command("REPLICAOF", "NO", "ONE")
                for member in (here, there):
                    await until_health(member, True)
                after = [await publish(member, "3") for member in (here, there, here)]
                assert [each.offset for each in after] == [1, 2, 3]
                assert len({each.epoch for each in after}) == 1
                assert after[0].epoch != before.epoch

    asyncio.run(scenario())


@pytest.mark.slow
def test_no_position_is_given_out_twice(server: ValkeyServer) -> None:
    """Demoted, and promoted again before any node has looked, without the newest writes: the epoch ends at once."""

    async def scenario() -> None:
        with valkey_server() as other, redis.Redis.from_url(server.url) as client:
            # Nobody looks in this time.
            slow = settings(server.url, heartbeat_interval=60)
            async with redis_member(slow, "a") as here, redis_member(slow, "b") as there:
                before = [await publish(here, str(number)) for number in range(3)]
                with redis.Redis.from_url(other.url) as lagging:
                    for key in client.scan_iter("gw:*"):
                        lagging.restore(key, 0, client.dump(key))
                    # What had not reached the replica.
                    lagging.hset(KEYS.meta(ROOM), "s", 1)
                    lagging.xtrim(KEYS.stream(ROOM), maxlen=0)
                client.execute_command("REPLICAOF", "127.0.0.1", str(other.port))
                await eventually(lambda: client.info("replication").get("master_link_status") == "up")
                client.execute_command("REPLICAOF", "NO", "ONE")
                outcomes: list[object] = []
                there.broker.read(ROOM, KEPT, HistoryQuery(), outcomes.append)
                with pytest.raises(BrokerUnavailable, match="STALE"):
                    await publish(here, "lost?")
                await eventually(lambda: len(outcomes) == 1)
                assert isinstance(outcomes[0], BrokerUnavailable)
                for member in (here, there):
                    await until_health(member, True)
                    await eventually(lambda member=member: reconnects(member) >= 2)  # type: ignore[misc]
                    await until_health(member, True)
                after = [await publish(member, "new") for member in (here, there)]
                assert [each.offset for each in after] == [1, 2]
                assert len({each.epoch for each in after}) == 1
                assert after[0].epoch != before[0].epoch

    asyncio.run(scenario())


def test_a_replica_changes_nothing(server: ValkeyServer) -> None:
    """The first one gives the server another replication id, and nothing is lost by that."""

    async def scenario() -> None:
        with valkey_server("--replicaof", "127.0.0.1", str(server.port)), redis.Redis.from_url(server.url) as client:
            async with redis_member(settings(server.url), "a") as member:
                before = await publish(member, "1")
                await eventually(lambda: client.info("replication")["connected_slaves"] == 1)
                assert await publish(member, "2") == (2, before.epoch)
                assert reconnects(member) == 0

    asyncio.run(scenario())


def test_a_server_that_lost_everything_begins_anew_for_all(server: ValkeyServer) -> None:
    """FLUSHALL: the nodes agree again, and no epoch comes back."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            async with (
                redis_member(settings(server.url), "a") as here,
                redis_member(settings(server.url), "b") as there,
            ):
                before = await publish(here, "1")
                client.flushall()
                await eventually(lambda: reconnects(here) > 0 and reconnects(there) > 0)
                for member in (here, there):
                    await until_health(member, True)
                after = [await publish(member, "2") for member in (here, there, here)]
                assert [each.offset for each in after] == [1, 2, 3]
                assert {each.epoch for each in after} == {after[0].epoch}
                assert after[0].epoch != before.epoch

    asyncio.run(scenario())


def test_forgotten_scripts_are_loaded_again(server: ValkeyServer) -> None:
    """SCRIPT FLUSH: what meets it fails for certain, what comes next works."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            async with redis_member(settings(server.url), "a") as member:
                before = await publish(member, "1")
                client.script_flush()
                with pytest.raises(BrokerUnavailable, match="NOSCRIPT"):
                    await publish(member, "2")
                assert await publish(member, "3") == (2, before.epoch)
                client.script_flush()
                outcomes: list[object] = []
                for count in (1, 2):
                    member.broker.read(ROOM, KEPT, HistoryQuery(), outcomes.append)
                    await eventually(lambda count=count: len(outcomes) == count)  # type: ignore[misc]
                assert isinstance(outcomes[0], BrokerUnavailable)
                assert outcomes[1] == ([], (2, before.epoch))

    asyncio.run(scenario())


def test_what_is_stored_and_not_sent_is_an_unknown_outcome(server: ValkeyServer) -> None:
    """The user of the node may write, and not publish: it stays in the stream, once, and who comes later gets it."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL SETUSER ada on >geheim ~* +@all allchannels")
            url = f"redis://ada:geheim@127.0.0.1:{server.port}/0"
            async with redis_member(settings(url), "a") as member:
                await publish(member, "1")
                client.execute_command("ACL SETUSER ada resetchannels &gw:{home}:node* &gw:{home}:control*")
                with pytest.raises(OutcomeUnknown, match="stored, but not sent"):
                    await publish(member, "2", idempotency_key="k")
                client.execute_command("ACL SETUSER ada allchannels")
                assert (await publish(member, "2", idempotency_key="k")).offset == 2
                assert (await publish(member, "3")).offset == 3
                assert client.xlen(KEYS.stream(ROOM)) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("body", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_an_entry_that_cannot_be_read_is_left_out_and_counted(server: ValkeyServer, body: bytes) -> None:
    """The others are read. It leaves a hole, so that nobody takes the stream for whole."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            async with redis_member(settings(server.url), "a") as member:
                await publish(member, "1")
                client.xadd(KEYS.stream(ROOM), {"d": body}, id="2-0")
                client.hset(KEYS.meta(ROOM), "s", "2")
                await publish(member, "3")
                future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                member.broker.read(ROOM, KEPT, HistoryQuery(-1), future.set_result)
                page = await future
                assert [each.offset for each in page.publications] == [1, 3]
                assert page.top.offset == 3
                assert member.metrics.broker_invalid.value == 1

    asyncio.run(scenario())


def test_a_server_that_does_not_tell_is_not_used(server: ValkeyServer) -> None:
    """INFO is needed, or the word of the operator."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL SETUSER ada on >geheim ~* +@all -info allchannels")
        url = f"redis://ada:geheim@127.0.0.1:{server.port}/0"
        with pytest.raises(BrokerUnavailable, match=r"redis\.durable"):
            async with redis_member(settings(url), "a"):
                pass
        async with redis_member(settings(url, durable=True), "b") as member:
            assert (await publish(member, "1")).epoch.startswith(generation.DURABLE)

    asyncio.run(scenario())


def test_promotions_are_told_apart() -> None:
    """From what INFO replication says; a server without one says zeros."""
    info = "# Replication\r\nrole:{}\r\nmaster_replid2:{}\r\nsecond_repl_offset:{}\r\n"
    assert generation.promotion(info.format("master", "0" * 40, -1)) == ""
    first = generation.promotion(info.format("master", "ab" * 20, 7).encode())
    assert first
    assert generation.promotion(info.format("master", "ac" * 20, 7)) != first
    for reply in (info.format("slave", "0", -1), "", b"role:sentinel"):
        with pytest.raises(BrokerUnavailable, match="not a primary"):
            generation.promotion(reply)


def test_comparing_keeps_positions_alive(server: ValkeyServer) -> None:
    """As reading does: somebody is subscribed, though nothing is published; it goes on after SCRIPT FLUSH."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as here:
            top = Position(*await publish(here, "1"))
            with redis.Redis.from_url(server.url) as client:
                key = KEYS.meta(ROOM)
                client.expire(key, 10)
                client.script_flush()
                standing = [Standing(ROOM, KEPT, top)]
                others: list[Standing] = []
                async with asyncio.timeout(PATIENCE):
                    while client.ttl(key) <= 10:
                        here.broker.compare(standing, others.append)
                        await asyncio.sleep(0.05)
            assert others == []

    asyncio.run(scenario())
