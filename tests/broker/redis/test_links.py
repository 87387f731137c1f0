"""The two links of a node, each failing by itself."""

import asyncio
import time

import pytest
import redis

from gateway.broker.redis import heartbeat
from gateway.broker.redis.link import HIGH_WATER
from gateway.errors import BrokerUnavailable
from gateway.messages import PUBLISHED, Channel, Publication
from tests.broker.members import PATIENCE, redis_member
from tests.broker.redis.nodes import KEYS, OTHER, ROOM, settings, two, until_health
from tests.broker.redis.proxy import proxied
from tests.servers import ValkeyServer


def test_a_node_that_does_not_hear_itself_gets_another_link(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its subscribe link answers every ping, and no message comes through it."""
    monkeypatch.setattr(heartbeat, "DEAF_SECONDS", 0.5)

    async def scenario() -> None:
        async with proxied(server.port) as proxy:
            through = settings(f"redis://127.0.0.1:{proxy.port}/0", publish_timeout=30)
            async with redis_member(through, "a", settings(server.url)) as here:
                await here.subscribe(ROOM)
                proxy.drop(b"message")
                assert "has not heard itself" in (await until_health(here, False)).reason
                async with asyncio.timeout(PATIENCE):
                    while "subscribe" not in here.metrics.broker_reconnects.values:
                        await asyncio.sleep(0.01)
                proxy.forward()
                await until_health(here, True)
                assert here.inbox.gaps == [ROOM]
                await here.publish(ROOM, b"1")
                await here.inbox.until(lambda: here.inbox.data == [b"1"])

    asyncio.run(scenario())


def test_a_process_that_was_held_up_keeps_its_links(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended container, a hook that blocks: nothing was missed, so nobody is told of a gap."""
    monkeypatch.setattr(heartbeat, "DEAF_SECONDS", 0.3)

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            for _ in range(3):
                time.sleep(0.6)
                await here.publish(ROOM, b"1")
                await asyncio.sleep(0.2)
            await here.inbox.until(lambda: here.inbox.data == [b"1"] * 3)
            for member in (here, there):
                await until_health(member, True)
                assert (member.inbox.gaps, member.metrics.broker_reconnects.values) == ([], {})

    asyncio.run(scenario())


def test_without_its_publish_link_a_node_goes_on_receiving(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it is away: that heartbeats could not be sent is no fault of the link that would bring them."""
    monkeypatch.setattr(heartbeat, "DEAF_SECONDS", 0.3)

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            with redis.Redis.from_url(server.url) as client:
                # New connections of this user are refused; the open ones live.
                client.execute_command("ACL SETUSER default -script")
                kill_link(client, "gateway-a-publish")
                health = await until_health(here, False)
                assert "nothing can be published" in health.reason
                with pytest.raises(BrokerUnavailable):
                    await here.publish(ROOM, b"0")
                await asyncio.sleep(1)
                await there.publish(ROOM, b"1")
                await here.inbox.until(lambda: here.inbox.data == [b"1"])
                assert "NOPERM" in here.broker.health().reason
                client.execute_command("ACL SETUSER default +script")
            await until_health(here, True)
            await here.publish(ROOM, b"2")
            await here.inbox.until(lambda: here.inbox.data == [b"1", b"2"])
            # Time enough for the heartbeats that would cut the link.
            await asyncio.sleep(0.5)
            assert here.inbox.gaps == []
            assert here.metrics.broker_reconnects.values == {"publish": 1}

    asyncio.run(scenario())


def kill_link(client: redis.Redis, name: str) -> None:
    (found,) = [each for each in client.client_list() if each["name"] == name]
    client.client_kill_filter(_id=found["id"])


def test_nothing_is_delivered_behind_a_gap_before_it_is_told(server: ValkeyServer) -> None:
    """Half of the channels are subscribed again when another node publishes: that is part of what was missed."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy, redis_member(settings(server.url), "b") as there:
            # No heartbeats among the messages.
            through = settings(f"redis://127.0.0.1:{proxy.port}/0", heartbeat_interval=60)
            async with redis_member(through, "a", settings(server.url)) as here:
                channels = [Channel("default", f"room{number}") for number in range(5000)]
                await asyncio.gather(*(here.subscribe(channel) for channel in channels))
                proxy.hold(b"SUBSCRIBE", skip=1)
                with redis.Redis.from_url(server.url) as client:
                    kill_link(client, "gateway-a-subscribe")
                    await proxy.held.wait()
                    early = list[Channel]()
                    async with asyncio.timeout(PATIENCE):
                        while not early:
                            known = {bus for bus, count in client.pubsub_numsub(*map(KEYS.bus, channels)) if count}
                            early = [channel for channel in channels if KEYS.bus(channel) in known]
                assert len(early) < len(channels)
                received = here.metrics.broker_messages.value
                await there.publish(early[0], b"1")
                async with asyncio.timeout(PATIENCE):
                    while here.metrics.broker_messages.value == received:
                        await asyncio.sleep(0.001)
                assert not here.broker.health().ok
                proxy.forward()
                await here.inbox.until(lambda: bool(here.inbox.gaps))
                assert set(here.inbox.gaps) == set(channels)
                await there.publish(early[0], b"2")
                await here.inbox.until(lambda: b"2" in here.inbox.data)
                assert here.inbox.data == [b"2"]

    asyncio.run(scenario())


def test_for_a_server_that_does_not_read_publishes_wait(server: ValkeyServer) -> None:
    """Up to redis.pending_limit. When nothing goes on, they fail at once, with the reason; none accepted is lost."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy:
            limit = 16 * HIGH_WATER
            through = settings(f"redis://127.0.0.1:{proxy.port}/0", publish_timeout=30, pending_limit=limit)
            async with (
                redis_member(through, "b", settings(server.url)) as there,
                redis_member(settings(server.url), "a") as here,
            ):
                await here.subscribe(ROOM)
                proxy.swallow()
                big = Publication(ROOM, b"1" * 500_000)
                accepted = [there.start_publish(big) for _ in range(limit // len(big.data) + 1)]
                with pytest.raises(BrokerUnavailable, match="pending_limit"):
                    await there.publish(ROOM, b"too many")
                await until_health(there, False)
                assert "does not read" in there.broker.health().reason
                with pytest.raises(BrokerUnavailable, match="does not read"):
                    await there.publish(ROOM, b"refused")
                proxy.forward()
                async with asyncio.timeout(PATIENCE):
                    assert set(await asyncio.gather(*accepted)) == {PUBLISHED}
                await until_health(there, True)
                await there.publish(ROOM, b'"end"')
                await here.inbox.until(lambda: b'"end"' in here.inbox.data)
                assert len(here.inbox.data) == len(accepted) + 1

    asyncio.run(scenario())


def test_what_redis_refuses_again_and_again_is_not_asked_for_in_a_rush(server: ValkeyServer) -> None:
    """The user of the node may no longer subscribe: it says why, comes back more and more slowly, and recovers."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL SETUSER ada on >geheim ~* +@all allchannels")
            async with redis_member(settings(f"redis://ada:geheim@127.0.0.1:{server.port}/0"), "a") as here:
                await here.subscribe(ROOM)
                before = client.info("stats")["total_connections_received"]
                client.execute_command("ACL SETUSER ada resetchannels &gw:*bus*")
                await until_health(here, False)
                await asyncio.sleep(2)
                assert "NOPERM" in here.broker.health().reason
                # 0.1, 0.2, 0.4, 0.8 and 1 s apart, half of that at least; the registry may have connected too.
                assert client.info("stats")["total_connections_received"] - before <= 16
                client.execute_command("ACL SETUSER ada allchannels")
                await until_health(here, True)
                assert here.inbox.gaps == [ROOM]
                await here.subscribe(OTHER)
                await here.publish(OTHER, b"1")
                await here.inbox.until(lambda: here.inbox.data == [b"1"])

    asyncio.run(scenario())


def test_a_node_stops_while_it_is_connecting_again(server: ValkeyServer) -> None:
    """Nothing stays connected, nothing is tried again."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy:
            through = settings(f"redis://127.0.0.1:{proxy.port}/0", publish_timeout=30)
            async with redis_member(through, "a", settings(server.url)) as here:
                await here.subscribe(ROOM)
                here.broker.unsubscribe(ROOM)
                proxy.drop(b"SUBSCRIBE")
                with redis.Redis.from_url(server.url) as client:
                    kill_link(client, "gateway-a-subscribe")
                    async with asyncio.timeout(PATIENCE):
                        await until_health(here, False)
                        while not [each for each in client.client_list() if each["name"] == "gateway-a-subscribe"]:
                            await asyncio.sleep(0.01)
                    await here.broker.stop()
                    async with asyncio.timeout(PATIENCE):
                        while [each for each in client.client_list() if each["name"].startswith("gateway-a")]:
                            await asyncio.sleep(0.01)
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())
