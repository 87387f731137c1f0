"""What somebody else writes to Redis: nobody is cut off by it, nothing is forged with it, and it is counted."""

import asyncio
import socket
from typing import Any

import pytest
import redis

from gateway.broker import envelope
from gateway.broker.redis.control_messages import REPLY
from gateway.broker.redis.keyspace import LeaseId
from gateway.broker.redis.link import Link, pack
from gateway.control import DisconnectUser, NodeId
from gateway.errors import OutcomeUnknown
from gateway.messages import DEFAULT_APP, Channel, Publication, PublishOptions, Retention
from tests.broker.members import PATIENCE, redis_member
from tests.broker.redis.forgeries import BAD_CONTROL, BAD_MESSAGES
from tests.broker.redis.nodes import KEYS, OTHER, ROOM, settings, two, until_health
from tests.broker.redis.pipe import Pipe, run
from tests.fakes import GUARD
from tests.servers import ValkeyServer

KEPT = Retention(size=100, ttl=60, meta_ttl=600)


@pytest.mark.parametrize("payload", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_bad_message_is_left_out_and_those_around_it_arrive(server: ValkeyServer, payload: bytes) -> None:
    """Also those that come with the same read; the link stays."""

    async def scenario() -> None:
        async with two(server.url) as (here, _):
            await here.subscribe(OTHER)
            with redis.Redis.from_url(server.url) as client, client.pipeline(transaction=True) as pipe:
                good = envelope.live(Publication(ROOM, b"1"))
                for bus, message in ((ROOM, good), (ROOM, payload), (OTHER, payload), (OTHER, good), (ROOM, good)):
                    pipe.publish(KEYS.bus(bus).decode(), message)
                pipe.execute()
            await here.inbox.until(lambda: len(here.inbox.data) == 3)
            assert here.inbox.data == [b"1"] * 3
            assert here.metrics.broker_invalid.value == 2
            assert here.metrics.broker_reconnects.values == {}
            assert here.metrics.faults.values == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("payload", BAD_CONTROL.values(), ids=BAD_CONTROL)
def test_a_bad_control_message_is_counted_and_the_next_one_answered(server: ValkeyServer, payload: bytes) -> None:
    async def scenario() -> None:
        async with two(server.url) as (here, there):
            with redis.Redis.from_url(server.url) as client:
                client.publish(KEYS.control().decode(), payload)
                client.publish(KEYS.node(NodeId("a")).decode(), REPLY + payload[2:])
            async with asyncio.timeout(PATIENCE):
                while here.metrics.broker_invalid.value < 2:
                    await asyncio.sleep(0.01)
                await there.broker.control(DisconnectUser(DEFAULT_APP, "42"))
            assert [type(message) for message in here.inbox.controls] == [DisconnectUser]
            assert here.metrics.broker_reconnects.values == {}

    asyncio.run(scenario())


@pytest.mark.parametrize(("field", "value"), [("s", "no number"), ("s", "1e400"), ("e", b"\xff\xfe"), ("e", "x" * 999)])
def test_a_position_that_cannot_be_read_is_an_error_and_no_silence(
    server: ValkeyServer, field: str, value: str | bytes
) -> None:
    """Of a publish and of a read: both are answered."""

    async def scenario() -> None:
        async with redis_member(settings(server.url, durable=True), "a") as here:
            with redis.Redis.from_url(server.url) as client:
                client.hset(KEYS.meta(ROOM), mapping={"e": "_0", "s": 1, field: value})
            async with asyncio.timeout(PATIENCE):
                outcome = await here.start_publish(Publication(ROOM, b"1"), PublishOptions(history=KEPT))
            # An epoch of nobody is no reason to refuse: the stream begins anew.
            assert field == "e" or isinstance(outcome, Exception)

    asyncio.run(scenario())


def test_a_known_result_that_cannot_be_read_says_that_the_outcome_is_unknown(server: ValkeyServer) -> None:
    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as here:
            with redis.Redis.from_url(server.url) as client:
                client.set(KEYS.result(ROOM, "key"), b"1:\xff")
            async with asyncio.timeout(PATIENCE):
                options = PublishOptions("key", history=KEPT)
                assert isinstance(await here.start_publish(Publication(ROOM, b"1"), options), OutcomeUnknown)

    asyncio.run(scenario())


def test_entries_of_nobody_do_not_stop_the_cleaning_up(server: ValkeyServer) -> None:
    """Leases, channels, members and farewells that no node wrote: those of a dead node still go."""
    dead = LeaseId("dead0000")
    with redis.Redis.from_url(server.url) as client:
        partition = KEYS.partition(ROOM)
        client.sadd(KEYS.leases(), b"\xff\xfe", dead)
        client.sadd(KEYS.held(partition, DEFAULT_APP, dead), b"\xff\xfe", "room", "typed")
        client.hset(KEYS.presence(ROOM), mapping={b"\xff": f"{dead}\0no length", "c": b"dead0000\x000:\xff"})
        client.zadd(KEYS.leaving(partition, DEFAULT_APP), {b"\xff\xfe": 0, "x:y": 0, "4:room:u": 0})
        # Of other partitions, before and behind it.
        for another in {0, 1, KEYS.partitions - 1} - {partition}:
            client.set(KEYS.leaving(another, DEFAULT_APP), "text")
        client.hset(KEYS.occupancy(ROOM), mapping={b"\xff": "many", dead: "-5"})

        async def scenario() -> None:
            async with redis_member(settings(server.url), "a") as here:
                await until_health(here, True)
                async with asyncio.timeout(PATIENCE):
                    while client.sismember(KEYS.leases(), dead) or client.exists(KEYS.presence(ROOM)):
                        await asyncio.sleep(0.05)
                    while client.zcard(KEYS.leaving(partition, DEFAULT_APP)):
                        await asyncio.sleep(0.05)
                assert [info.uid for info in await here.registry.nodes()] == ["a"]
                assert (await here.registry.channels(DEFAULT_APP, "", 100, "")).channels == []

        asyncio.run(scenario())


def test_a_channel_of_another_type_keeps_its_lease_and_stops_no_other(server: ValkeyServer) -> None:
    """Nobody knows what is under it: it is tried again, and the others of the lease go."""
    dead, odd = LeaseId("dead0000"), Channel(DEFAULT_APP, "odd")
    with redis.Redis.from_url(server.url) as client:
        for channel in (odd, ROOM):
            client.sadd(KEYS.held(KEYS.partition(channel), DEFAULT_APP, dead), channel.name)
        client.sadd(KEYS.leases(), dead)
        client.set(KEYS.presence(odd), "no hash")
        client.hset(KEYS.presence(ROOM), "c", f"{dead}\0" + "1:u" + "\xc1")

        async def scenario() -> None:
            async with redis_member(settings(server.url), "a") as here:
                async with asyncio.timeout(PATIENCE):
                    while client.exists(KEYS.presence(ROOM)) or not here.metrics.faults.values.get("reaper"):
                        await asyncio.sleep(0.05)
                assert client.sismember(KEYS.leases(), dead)
                client.delete(KEYS.presence(odd))
                async with asyncio.timeout(PATIENCE):
                    while client.sismember(KEYS.leases(), dead):
                        await asyncio.sleep(0.05)

        asyncio.run(scenario())


class Refusing:
    """A socket on which SO_LINGER fails, as on macOS when the other side has closed."""

    family = socket.AF_INET

    def setsockopt(self, *arguments: object) -> None:
        raise OSError(22, "Invalid argument")


def test_a_socket_that_refuses_an_option_loses_no_completion() -> None:
    """Those that were under way are told that the link is lost."""

    async def scenario() -> None:
        link, pipe = Link(30, GUARD), Pipe()
        pipe.get_extra_info = lambda name, default=None: Refusing()  # type: ignore[method-assign]
        link.connection_made(pipe)
        outcomes: list[Any] = []
        link.send(pack("PING"), outcomes.append)
        await asyncio.sleep(0)
        link.abort("enough")
        assert isinstance(outcomes[0], OutcomeUnknown)
        assert link.lost.result() == "enough"

    run(scenario)
