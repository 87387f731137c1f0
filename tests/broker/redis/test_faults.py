"""What the Redis engine does when Redis or the way to it fails."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
import redis
from pydantic import SecretStr

from gateway.broker.base import Health
from gateway.broker.redis.keys import Keys
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable, ConfigError, OutcomeUnknown
from gateway.messages import Channel, Publication, PublishOptions, Revocation
from tests.broker.members import PATIENCE, Member, make_redis_member, redis_member
from tests.broker.redis.proxy import proxied
from tests.servers import ValkeyServer, valkey_server

ROOM = Channel("default", "room")
OTHER = Channel("default", "other")


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server of one's own, to do it harm."""
    with valkey_server() as running:
        yield running


def settings(url: str, **more: object) -> RedisSettings:
    quick = {"publish_timeout": 0.5, "heartbeat_interval": 0.1, "connect_timeout": 1.0}
    return RedisSettings.model_validate({"url": SecretStr(url), **quick, **more})


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[Member, Member]]:
    async with redis_member(settings(url), "a") as here, redis_member(settings(url), "b") as there:
        await here.subscribe(ROOM)
        yield here, there


async def until_health(member: Member, ok: bool) -> Health:
    """Wait for a change of health."""
    async with asyncio.timeout(PATIENCE):
        while member.broker.health().ok is not ok:
            await asyncio.sleep(0.01)
    return member.broker.health()


def test_a_restart_is_survived(server: ValkeyServer) -> None:
    """Unhealthy with a reason, publishes fail; then subscribed again to everything, told of the gap, and healthy."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            await here.subscribe(OTHER)
            server.kill()
            for member in (here, there):
                assert "Redis" in (await until_health(member, False)).reason
            with pytest.raises(BrokerUnavailable):
                await there.publish(ROOM, b"1")
            with pytest.raises(BrokerUnavailable):
                await here.subscribe(Channel("default", "a third"))
            server.start()
            for member in (here, there):
                await until_health(member, True)
            assert sorted(here.inbox.gaps) == [OTHER, ROOM]
            assert there.inbox.gaps == []
            for channel in (ROOM, OTHER):
                await there.publish(channel, b"2")
            await here.inbox.until(lambda: len(here.inbox.data) == 2)
            assert here.metrics.broker_reconnects.values["subscribe"] >= 1

    asyncio.run(scenario())


@pytest.mark.parametrize("which", ["publish", "subscribe"])
def test_a_killed_link_comes_back(server: ValkeyServer, which: str) -> None:
    """Either of them by itself; only the subscribe link leaves a gap."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            for member in (here, there):
                _kill(server, f"gateway-{member.uid}-{which}")
            await here.inbox.until(lambda: which == "publish" or here.inbox.gaps == [ROOM])
            async with asyncio.timeout(PATIENCE):
                while here.metrics.broker_reconnects.values.get(which) != 1:
                    await asyncio.sleep(0.01)
            for member in (here, there):
                await until_health(member, True)
            await there.publish(ROOM, b"1")
            await here.inbox.until(lambda: here.inbox.data == [b"1"])
            assert bool(here.inbox.gaps) is (which == "subscribe")

    asyncio.run(scenario())


def _kill(server: ValkeyServer, name: str) -> None:
    """CLIENT KILL by name."""
    with redis.Redis.from_url(server.url) as client:
        (found,) = [each for each in client.client_list() if each["name"] == name]
        client.client_kill_filter(_id=found["id"])


def test_nothing_is_delivered_behind_a_gap_before_it_is_told(server: ValkeyServer) -> None:
    """Another node may publish while this one still subscribes again to all its channels."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            await asyncio.gather(*(here.subscribe(Channel("default", f"room{number}")) for number in range(5000)))
            delivered_before_gap = []
            tell = here.inbox.on_gap

            def on_gap(channels: Sequence[Channel]) -> None:
                delivered_before_gap.append(len(here.inbox.data))
                tell(channels)

            here.inbox.on_gap = on_gap  # type: ignore[method-assign]
            _kill(server, "gateway-a-subscribe")
            await until_health(here, False)
            while not here.inbox.gaps:
                there.start_publish(Publication(ROOM, b"1"))
                await asyncio.sleep(0)
            assert delivered_before_gap == [0]
            await here.inbox.until(lambda: bool(here.inbox.data))

    asyncio.run(scenario())


def test_a_stopped_redis_makes_outcomes_unknown(server: ValkeyServer) -> None:
    """Not "failed": it may carry them out when it goes on. New ones are refused, and nothing is sent twice."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            server.freeze()
            under_way = there.start_publish(Publication(ROOM, b"1"))
            async with asyncio.timeout(PATIENCE):
                outcome = await under_way
            assert isinstance(outcome, OutcomeUnknown)
            await until_health(there, False)
            with pytest.raises(BrokerUnavailable):
                await there.publish(ROOM, b"2")
            await until_health(here, False)
            server.thaw()
            for member in (here, there):
                await until_health(member, True)
            await there.publish(ROOM, b"3")
            await here.inbox.until(lambda: b"3" in here.inbox.data)
            assert here.inbox.data.count(b"1") <= 1
            assert b"2" not in here.inbox.data

    asyncio.run(scenario())


def test_an_unknown_outcome_with_a_key_is_safe_to_repeat(server: ValkeyServer) -> None:
    """The publish that nobody heard of was carried out; repeating it changes nothing."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy, redis_member(settings(server.url), "a") as here:
            await here.subscribe(ROOM)
            through = settings(f"redis://127.0.0.1:{proxy.port}/0")
            async with redis_member(through, "b", settings(server.url)) as there:
                await there.publish(ROOM, b"1", "first")
                server.freeze()
                outcome = there.start_publish(Publication(ROOM, b"2"), PublishOptions("second"))
                await asyncio.sleep(0)
                await asyncio.sleep(0.05)
                proxy.cut()
                async with asyncio.timeout(PATIENCE):
                    assert isinstance(await outcome, OutcomeUnknown)
                server.thaw()
                await until_health(there, True)
                await until_health(here, True)
                await there.publish(ROOM, b"2", "second")
                await there.publish(ROOM, b"3", "third")
                await here.inbox.until(lambda: b"3" in here.inbox.data)
                assert here.inbox.data.count(b"2") <= 1

    asyncio.run(scenario())


def test_a_network_that_swallows_is_noticed(server: ValkeyServer) -> None:
    """No packet comes back, and no connection breaks: the node is deaf and says so, then finds its way back."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy:
            through = settings(f"redis://127.0.0.1:{proxy.port}/0")
            async with redis_member(through, "a") as here, redis_member(settings(server.url), "b") as there:
                await here.subscribe(ROOM)
                proxy.swallow()
                await until_health(here, False)
                assert there.broker.health().ok
                with pytest.raises((BrokerUnavailable, OutcomeUnknown)):
                    await here.publish(ROOM, b"1")
                proxy.cut()
                proxy.forward()
                await until_health(here, True)
                assert here.inbox.gaps == [ROOM]
                await there.publish(ROOM, b"2")
                await here.inbox.until(lambda: b"2" in here.inbox.data)

    asyncio.run(scenario())


def test_a_flushed_script_is_loaded_again(server: ValkeyServer) -> None:
    """The publish that met it has failed for certain, and may be repeated."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            await there.publish(ROOM, b"1", "one")
            with redis.Redis.from_url(server.url) as client:
                client.script_flush()
            with pytest.raises(BrokerUnavailable, match="NOSCRIPT"):
                await there.publish(ROOM, b"2", "two")
            await there.publish(ROOM, b"2", "two")
            await here.inbox.until(lambda: here.inbox.data == [b"1", b"2"])

    asyncio.run(scenario())


def test_what_redis_refuses_is_told_with_its_reason(server: ValkeyServer) -> None:
    """Out of memory, for example. It was not carried out."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            with redis.Redis.from_url(server.url) as client:
                client.config_set("maxmemory", 1)
                with pytest.raises(BrokerUnavailable, match="OOM"):
                    await there.publish(ROOM, b"1", "key")
                assert there.metrics.publish_errors.values == {"refused by redis": 1}
                client.config_set("maxmemory", 0)
            await there.publish(ROOM, b"2", "key")
            await here.inbox.until(lambda: here.inbox.data == [b"2"])

    asyncio.run(scenario())


def test_what_is_under_way_is_bounded_in_bytes(server: ValkeyServer) -> None:
    """Above redis.pending_limit new publishes fail at once, and none that was accepted is lost."""

    async def scenario() -> None:
        bounded = settings(server.url, pending_limit=100_000, publish_timeout=5)
        async with redis_member(bounded, "a") as member:
            await member.subscribe(ROOM)
            futures = [member.start_publish(Publication(ROOM, b"x" * 10_000)) for _ in range(50)]
            outcomes = await asyncio.gather(*futures)
            refused = [outcome for outcome in outcomes if isinstance(outcome, BrokerUnavailable)]
            assert 30 < len(refused) < 45
            assert "redis.pending_limit" in refused[0].detail
            await member.inbox.until(lambda: len(member.inbox.data) == 50 - len(refused))
            assert member.metrics.broker_pending.read() == 0

    asyncio.run(scenario())


def test_garbage_on_the_bus_is_counted_and_does_no_harm(server: ValkeyServer) -> None:
    """On channels, on the control channel and on the node's own."""

    async def scenario() -> None:
        keys = Keys("gw", 16)
        async with two(server.url) as (here, there):
            with redis.Redis.from_url(server.url) as client:
                for bus in (keys.bus(ROOM), keys.control(), keys.node(here.uid)):
                    for garbage in (b"", b"\x01", b"\xff" * 100, b"\x01p;", b"\x01c\xc1", b"\x01r\x93"):
                        client.publish(bus, garbage)
            await there.publish(ROOM, b"1")
            await here.inbox.until(lambda: here.inbox.data == [b"1"])
            assert here.metrics.broker_invalid.value == 18
            assert here.broker.health().ok

    asyncio.run(scenario())


def test_a_stopped_node_registers_everything_again(server: ValkeyServer) -> None:
    """Its lease ran out and others cleaned up; or Redis lost its data."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            here.registry.set_occupancy(ROOM, 3)
            await _occupied(there, {ROOM.name: 3})
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            assert await there.registry.nodes() == []
            await _occupied(there, {})
            await here.announce("a")
            await _occupied(there, {ROOM.name: 3})
            with redis.Redis.from_url(server.url) as client:
                assert client.get(Keys("gw", 16).partition_count()) == b"16"

    asyncio.run(scenario())


async def _occupied(member: Member, expected: dict[str, int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            found: dict[str, int] = {}
            cursor, more = "", True
            while more:
                page = await member.registry.channels("default", "", 100, cursor)
                found.update(page.channels)
                cursor = page.cursor
                more = bool(cursor)
            if found == expected:
                return
            await asyncio.sleep(0.05)


def test_the_registry_says_that_redis_is_away(server: ValkeyServer) -> None:
    """Every question and every order."""

    async def scenario() -> None:
        async with two(server.url) as (here, _):
            server.kill()
            registry = here.registry
            for operation in (
                lambda: here.announce("a"),
                lambda: registry.withdraw(here.uid),
                registry.nodes,
                lambda: registry.channels("default", "", 10, ""),
                lambda: registry.revoke(Revocation("default", jti="t")),
                registry.revocations,
            ):
                with pytest.raises(BrokerUnavailable):
                    await operation()

    asyncio.run(scenario())


@pytest.mark.parametrize("cursor", ["nonsense", "-1:", "16:", ":", "x:y", "1e1:", "²:", "9" * 5000 + ":"])
def test_a_cursor_that_no_page_had_is_refused(server: ValkeyServer, cursor: str) -> None:
    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as member:
            with pytest.raises(Exception, match="cursor"):
                await member.registry.channels("default", "", 10, cursor)

    asyncio.run(scenario())


# Start


def test_another_number_of_partitions_refuses_to_start(server: ValkeyServer) -> None:
    """With the key and both numbers in the text; nothing of it stays connected."""

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a"):
            other = make_redis_member(settings(server.url, partitions=8), "b")
            with pytest.raises(ConfigError, match=r"redis\.partitions is 8, .* 16"):
                await other.broker.start(other.inbox)
            with redis.Redis.from_url(server.url) as client:
                assert not [each for each in client.client_list() if each["name"].startswith("gateway-b")]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://127.0.0.1:1/0", "127.0.0.1:1"),
        ("unix:///nonexistent/valkey.sock", "/nonexistent/valkey.sock"),
        ("redis://nobody.invalid:6379/0", "nobody.invalid"),
    ],
)
def test_a_redis_that_is_not_there_is_named(url: str, text: str) -> None:
    async def scenario() -> None:
        member = make_redis_member(settings(url), "a")
        with pytest.raises(BrokerUnavailable, match=text):
            await member.broker.start(member.inbox)

    asyncio.run(scenario())


def test_logins() -> None:
    """Password, user and database count; a wrong one is told without being shown."""

    async def scenario(server: ValkeyServer) -> None:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL SETUSER ada on >geheim/@: ~* &* +@all")
        for url in (
            server.url,
            server.unix_url,
            f"redis://ada:geheim%2F%40%3A@127.0.0.1:{server.port}/3",
            f"unix://:{server.password}@{server.path}?db=2",
        ):
            async with redis_member(settings(url), "a") as member:
                await member.subscribe(ROOM)
                await member.publish(ROOM, b"1", url)
                await member.inbox.until(lambda inbox=member.inbox: bool(inbox.data))  # type: ignore[misc]
        with redis.Redis(port=server.port, password=server.password, db=3) as client:
            assert client.exists("gw:partitions")
        for url in (f"redis://:wrong-one@127.0.0.1:{server.port}/0", f"redis://127.0.0.1:{server.port}/0"):
            member = make_redis_member(settings(url), "a")
            with pytest.raises(BrokerUnavailable) as caught:
                await member.broker.start(member.inbox)
            assert "wrong-one" not in str(caught.value)

    with valkey_server(password="open sesame") as server:
        asyncio.run(scenario(server))
