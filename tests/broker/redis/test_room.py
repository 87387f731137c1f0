"""What Redis has to keep: nothing for names that nobody publishes to, and no more than its limit."""

import asyncio
from typing import Any

import pytest
import redis

from gateway.broker.redis import reaper
from gateway.errors import BrokerUnavailable
from gateway.messages import (
    Channel,
    ClientId,
    ClientInfo,
    HistoryPage,
    HistoryQuery,
    Latest,
    Position,
    PresenceRules,
    Publication,
    PublishOptions,
    PublishResult,
    Retention,
)
from gateway.node.merge import Failure, merge
from tests.broker.members import PATIENCE, Member, redis_member
from tests.broker.redis.nodes import KEYS, ROOM, settings, two
from tests.servers import ValkeyServer

KEPT = Retention(size=100, ttl=60, meta_ttl=600)
LATEST = Latest("key", keys=100, ttl=60, interval=0.0)


async def read(member: Member, channel: Channel, history: Retention, since: Position | None = None) -> HistoryPage:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    member.broker.read(channel, history, HistoryQuery(-1, since), future.set_result)
    async with asyncio.timeout(PATIENCE):
        page = await future
    assert isinstance(page, HistoryPage), page
    return page


def test_names_that_nobody_publishes_to_leave_nothing(server: ValkeyServer) -> None:
    """However many are read, subscribed to and compared, of streams and of latest values."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as here:
            with redis.Redis.from_url(server.url) as client:
                await read(here, ROOM, KEPT)
                before = set(client.keys()) - {KEYS.reaper()}
                loop = asyncio.get_running_loop()
                for number in range(100):
                    channel = Channel("default", f"nobody{number}")
                    await here.subscribe(channel)
                    await read(here, channel, KEPT)
                    await read(here, channel, KEPT, Position(0, "x"))
                    future: asyncio.Future[Any] = loop.create_future()
                    here.broker.values(channel, LATEST, future.set_result)
                    await future
                    await here.broker.clear(channel)
                assert set(client.keys()) - {KEYS.reaper()} == before

    asyncio.run(scenario())


def test_a_position_before_a_stream_that_came_and_went_recovers_nothing(server: ValkeyServer) -> None:
    """Subscribed, cut off, and back when nobody knows any more that something was published meanwhile."""
    short = Retention(size=10, ttl=1, meta_ttl=1)

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            early = (await read(here, ROOM, short)).top
            outcome = await there.start_publish(Publication(ROOM, b"1"), PublishOptions(history=short))
            assert not isinstance(outcome, Exception)
            with redis.Redis.from_url(server.url) as client:
                async with asyncio.timeout(PATIENCE):
                    while client.exists(KEYS.meta(ROOM)):
                        await asyncio.sleep(0.05)
            for again in (False, True):
                if again:
                    await there.start_publish(Publication(ROOM, b"2"), PublishOptions(history=short))
                page = await read(here, ROOM, short, early)
                assert merge(early, page, [], short.meta_ttl) is Failure.LOST
                assert page.publications == []

    asyncio.run(scenario())


def test_positions_do_not_outlive_a_flush(server: ValkeyServer) -> None:
    """The server is the same process, and has lost everything: what begins then is of another generation."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as here:
            early = (await read(here, ROOM, KEPT)).top
            await here.start_publish(Publication(ROOM, b"1"), PublishOptions(history=KEPT))
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            async with asyncio.timeout(PATIENCE):
                while here.metrics.broker_reconnects.values.get("publish", 0) < 1 or not here.broker.health().ok:
                    await asyncio.sleep(0.02)
            await here.start_publish(Publication(ROOM, b"2"), PublishOptions(history=KEPT))
            page = await read(here, ROOM, KEPT, early)
            assert page.top.offset == 1
            assert merge(early, page, [], KEPT.meta_ttl) is Failure.LOST

    asyncio.run(scenario())


# A server that is full


ROOMY = PresenceRules("clients", limit=10)
FULL: dict[str, PublishOptions] = {
    "a stream": PublishOptions(history=KEPT),
    "a stream, with a key": PublishOptions("key", history=KEPT),
    "latest values": PublishOptions(latest=LATEST),
    "a key alone": PublishOptions("key"),
}


def contents(client: Any) -> dict[bytes, bytes]:
    """The keys of all rooms, with their values as the server would save them."""
    return {key: client.dump(key) for key in client.keys("*room*")}


@pytest.mark.parametrize("renewed", [False, True], ids=["new channels", "streams of a generation that ended"])
@pytest.mark.parametrize("kind", FULL)
def test_a_full_server_refuses_and_does_not_grow(
    server: ValkeyServer, kind: str, renewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a publish begins with: behind a write that frees something, Redis would let all others pass."""
    # What the reaper asks takes memory while it is answered, too.
    monkeypatch.setattr(reaper, "INTERVAL", 3600)

    async def publish(member: Member, number: int, size: int) -> object:
        options = FULL[kind]
        if options.idempotency_key:
            key = f"{'x' * 200}{number} {size}"
            options = PublishOptions(key, history=options.history, latest=options.latest)
        publication = Publication(Channel("default", f"room{number}"), b"1" * size, time=1)
        return await member.start_publish(publication, options)

    async def scenario() -> None:
        async with redis_member(settings(server.url, publish_timeout=5, heartbeat_interval=5), "a") as here:
            with redis.Redis.from_url(server.url) as client:
                if renewed:
                    for number in range(200):
                        await publish(here, number, 10)
                        channel = Channel("default", f"room{number}")
                        if client.exists(KEYS.meta(channel)):
                            client.hset(KEYS.meta(channel), "e", "another.1")
                client.config_set("maxmemory-policy", "noeviction")
                before = contents(client)
                # Less than any server takes: what it counts falls by itself as it gives up buffers and garbage of Lua,
                # so that just below a limit there would be room again, a second later.
                client.config_set("maxmemory", 1)
                for number in range(200):
                    outcome = await publish(here, number, 10_000)
                    assert isinstance(outcome, BrokerUnavailable)
                    assert "OOM" in outcome.detail
                assert contents(client) == before
                client.config_set("maxmemory", 0)
                assert isinstance(await publish(here, 0, 10_000), PublishResult)

    asyncio.run(scenario())


def test_members_leave_a_full_server(server: ValkeyServer) -> None:
    """What frees memory is not refused; nobody enters, until there is room again."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as here:
            with redis.Redis.from_url(server.url) as client:
                ada, bob = (ClientInfo(name, ClientId(name)) for name in ("ada", "bob"))
                here.presence.enter(ROOM, ada, ROOMY)
                async with asyncio.timeout(PATIENCE):
                    while not client.hexists(KEYS.presence(ROOM), "ada"):
                        await asyncio.sleep(0.02)
                    client.config_set("maxmemory", 1)
                    here.presence.leave(ROOM, ClientId("ada"))
                    here.presence.enter(ROOM, bob, ROOMY)
                    while client.hlen(KEYS.presence(ROOM)):
                        await asyncio.sleep(0.02)
                    client.config_set("maxmemory", 0)
                    while not client.hexists(KEYS.presence(ROOM), "bob"):
                        await asyncio.sleep(0.02)

    asyncio.run(scenario())
