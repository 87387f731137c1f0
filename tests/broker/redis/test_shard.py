"""Two servers, each with half of the partitions: what befalls one of them befalls its channels and no others."""

import asyncio

from gateway.broker.redis.keyspace import LeaseId
from gateway.broker.redis.shard import Shard
from gateway.broker.redis.topology import Topology
from gateway.control import NodeId
from gateway.errors import BrokerUnavailable, RequestError
from gateway.guard import Guard
from gateway.messages import NO_OPTIONS, PUBLISHED, Channel, Publication
from gateway.metrics import Metrics
from tests.broker.members import PATIENCE, Inbox
from tests.broker.redis.nodes import KEYS, settings
from tests.servers import ValkeyServer, valkey_server

HALF = KEYS.partitions // 2
ROOMS = [Channel("default", f"room{number}") for number in range(50)]
HERE = next(room for room in ROOMS if KEYS.partition(room) < HALF)
THERE = next(room for room in ROOMS if KEYS.partition(room) >= HALF)


def made(server: ValkeyServer, inbox: Inbox) -> Shard:
    metrics = Metrics()
    return Shard(
        settings(server.url),
        NodeId("a"),
        KEYS,
        metrics,
        Guard(metrics.faults),
        lease=lambda: LeaseId("a0000"),
        own={},
        unreadable=lambda channel, error: None,
        learned=lambda generation: None,
        cut=lambda: None,
        catch_up=inbox.catch_up,
    )


async def outcome(topology: Topology[Shard], channel: Channel, data: bytes) -> object:
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    topology.shard_of(channel).publisher.publish(Publication(channel, data, time=1), NO_OPTIONS, future.set_result)
    async with asyncio.timeout(PATIENCE):
        return await future


async def subscribe(topology: Topology[Shard], channel: Channel) -> RequestError | None:
    future: asyncio.Future[RequestError | None] = asyncio.get_running_loop().create_future()
    topology.shard_of(channel).subscribe(channel, future.set_result)
    async with asyncio.timeout(PATIENCE):
        return await future


async def until_ok(shard: Shard, ok: bool) -> None:
    async with asyncio.timeout(PATIENCE):
        while shard.health().ok is not ok:
            await asyncio.sleep(0.01)


def test_every_partition_has_its_shard() -> None:
    async def scenario() -> None:
        with valkey_server() as server:
            one, other = made(server, Inbox()), made(server, Inbox())
            topology = Topology(KEYS, [one] * HALF + [other] * (KEYS.partitions - HALF))
            assert (topology.all, topology.home) == ([one, other], one)
            assert topology.partitions_of(one) == list(range(HALF))
            assert topology.partitions_of(other) == list(range(HALF, KEYS.partitions))
            assert (topology.shard_of(HERE), topology.shard_of(THERE)) == (one, other)

    asyncio.run(scenario())


def test_an_outage_of_one_server_is_one_of_its_channels(server: ValkeyServer) -> None:
    async def scenario() -> None:
        inbox = Inbox()
        with valkey_server() as doomed:
            here, there = made(server, inbox), made(doomed, inbox)
            topology = Topology(KEYS, [here] * HALF + [there] * (KEYS.partitions - HALF))
            for shard in topology.all:
                await shard.connect(inbox)
                await shard.listen()
            for channel in (HERE, THERE):
                assert await subscribe(topology, channel) is None
                assert await outcome(topology, channel, b"1") == PUBLISHED
            await inbox.until(lambda: inbox.data == [b"1"] * 2)
            doomed.kill()
            await until_ok(there, False)
            assert here.health().ok
            assert isinstance(await outcome(topology, THERE, b"lost"), BrokerUnavailable)
            assert isinstance(await subscribe(topology, THERE), BrokerUnavailable)
            assert await outcome(topology, HERE, b"2") == PUBLISHED
            await inbox.until(lambda: inbox.data[2:] == [b"2"])
            assert inbox.gaps == []
            doomed.start()
            await until_ok(there, True)
            assert inbox.gaps == [THERE]
            assert await outcome(topology, THERE, b"3") == PUBLISHED
            await inbox.until(lambda: inbox.data[3:] == [b"3"])
            for shard in topology.all:
                await shard.stop()

    asyncio.run(scenario())
