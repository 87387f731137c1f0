"""What the Redis engine does when Redis or the way to it fails."""

import asyncio

import pytest
import redis

from gateway.errors import BrokerUnavailable, OutcomeUnknown, RequestError
from gateway.messages import PUBLISHED, Channel, ClientInfo, Publication, PublishOptions, PublishResult
from tests.broker.members import PATIENCE, redis_member
from tests.broker.redis.nodes import KEYS, OTHER, ROOM, settings, two, until_health
from tests.broker.redis.proxy import proxied
from tests.servers import ValkeyServer


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
            assert there.metrics.publish_errors.values == {"unknown outcome": 1, "unavailable": 1}
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


def test_what_is_under_way_is_bounded_in_bytes(server: ValkeyServer) -> None:
    """Above redis.pending_limit new publishes fail at once, and none that was accepted is lost."""

    async def scenario() -> None:
        bounded = settings(server.url, pending_limit=100_000, publish_timeout=5)
        async with redis_member(bounded, "a") as member:
            await member.subscribe(ROOM)
            futures = [member.start_publish(Publication(ROOM, b"1" * 10_000)) for _ in range(50)]
            outcomes = await asyncio.gather(*futures)
            refused = [outcome for outcome in outcomes if isinstance(outcome, BrokerUnavailable)]
            assert 30 < len(refused) < 45
            assert "redis.pending_limit" in refused[0].detail
            await member.inbox.until(lambda: len(member.inbox.data) == 50 - len(refused))
            assert member.metrics.broker_pending.read() == 0

    asyncio.run(scenario())


def test_one_user_leaves_room_for_the_publishes_of_others(server: ValkeyServer) -> None:
    """However many connections and channels it uses: what is under way counts by user."""

    async def scenario() -> None:
        limit = 100_000
        async with redis_member(settings(server.url, pending_limit=limit, publish_timeout=5), "a") as member:

            def start(user: str, client: str) -> asyncio.Future[PublishResult | RequestError]:
                info = ClientInfo(user, client)
                return member.start_publish(Publication(Channel("default", client), b"1" * 1_000, info=info))

            greedy = [start("ada", f"c{number}") for number in range(200)]
            others = [start(f"user {number}", "c") for number in range(20)]
            nobody = [start("", f"d{number}") for number in range(5)]
            outcomes = await asyncio.gather(*greedy)
            assert 15 < sum(outcome == PUBLISHED for outcome in outcomes) < 22
            assert set(await asyncio.gather(*others, *nobody)) == {PUBLISHED}
            # Nothing is left of it.
            assert await start("ada", "c") == PUBLISHED

    asyncio.run(scenario())


def test_garbage_on_the_bus_is_counted_and_does_no_harm(server: ValkeyServer) -> None:
    """On channels, on the control channel and on the node's own."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            with redis.Redis.from_url(server.url) as client:
                for bus in (KEYS.bus(ROOM), KEYS.control(), KEYS.node(here.uid)):
                    for garbage in (b"", b"\x01", b"\xff" * 100, b"\x01p;", b"\x01c\xc1", b"\x01r\x93"):
                        client.publish(bus, garbage)
            await there.publish(ROOM, b"1")
            await here.inbox.until(lambda: here.inbox.data == [b"1"])
            assert here.metrics.broker_invalid.value == 18
            assert here.broker.health().ok

    asyncio.run(scenario())


def test_a_message_of_another_version_is_told(server: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """When it has a position: it lies in the stream. Many are one warning, and all are counted."""

    async def scenario() -> None:
        async with two(server.url) as (here, _):
            with redis.Redis.from_url(server.url) as client:
                bus = KEYS.bus(ROOM)
                client.publish(bus, b"\xfep;a body without a position")
                client.publish(bus, b"\xfej a join")
                client.publish(bus, b"\xfep7:an-epoch;a body that nobody reads")
            await here.inbox.until(lambda: here.inbox.unreadable == [ROOM])
            assert here.metrics.broker_invalid.value == 3
            assert here.inbox.gaps == []
            assert caplog.text.count("could not be read") == 1

    asyncio.run(scenario())
