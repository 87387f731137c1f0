"""What every engine guarantees (broker/base.py): memory, fakeredis over TCP, and a real server."""

import asyncio
import random

import pytest

from gateway.control import ControlResult, DisconnectUser, NodeId, Reloaded, ReloadSettings, SubscribeUser
from gateway.errors import BrokerUnavailable, RequestError
from gateway.messages import PUBLISHED, Channel, ClientInfo, Kind, Publication, PublishOptions
from tests.broker.members import Engine

ROOM = Channel("default", "chat:room")
OTHER = Channel("default", "chat:other")


def test_a_publication_arrives_as_it_was_published(engine: Engine) -> None:
    """All its fields, on another node, and bytes as they are."""
    publication = Publication(
        ROOM,
        bytes(range(256)),
        Kind.BINARY,
        time=1_700_000_000_000,
        event="said",
        tags={"a": "b", "ü": "\N{EARTH GLOBE EUROPE-AFRICA}"},
        info=ClientInfo("42", "c1", b'{"name":"Ada"}', b"[1]"),
        exclude_client="c2",
        version=7,
    )

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            await here.subscribe(ROOM)
            assert await there.start_publish(publication) == PUBLISHED
            await here.inbox.until(lambda: bool(here.inbox.publications))
            assert here.inbox.publications == [publication]

    asyncio.run(scenario())


def test_what_is_published_after_a_subscribe_completed_is_not_missed(engine: Engine) -> None:
    """`done` means: from now on."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            for number in range(50):
                channel = Channel("default", f"room{number}")
                await here.subscribe(channel)
                there.start_publish(Publication(channel, b"%d" % number))
            await here.inbox.until(lambda: len(here.inbox.data) == 50)
            assert sorted(here.inbox.data, key=int) == [b"%d" % number for number in range(50)]

    asyncio.run(scenario())


def test_every_node_sees_one_order_and_a_publisher_its_own(engine: Engine) -> None:
    """Three publishers at once, three receivers."""

    async def scenario() -> None:
        async with engine.members(3) as members:
            for member in dict.fromkeys(members):
                await member.subscribe(ROOM)
            futures = [
                member.start_publish(Publication(ROOM, b"[%d,%d]" % (sender, number)))
                for number in range(100)
                for sender, member in enumerate(members)
            ]
            assert set(await asyncio.gather(*futures)) == {PUBLISHED}
            for member in members:
                await member.inbox.until(lambda inbox=member.inbox: len(inbox.data) == 300)  # type: ignore[misc]
            first = members[0].inbox.data
            assert all(member.inbox.data == first for member in members)
            for sender in range(3):
                own = [data for data in first if data.startswith(b"[%d," % sender)]
                assert own == [b"[%d,%d]" % (sender, number) for number in range(100)]

    asyncio.run(scenario())


def test_nothing_of_other_channels_arrives(engine: Engine) -> None:
    """Nor of the same name in another app."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            await here.subscribe(ROOM)
            await there.publish(OTHER, b"1")
            await there.publish(Channel("another", ROOM.name), b"2")
            await there.publish(ROOM, b"3")
            await here.inbox.until(lambda: bool(here.inbox.data))
            assert here.inbox.data == [b"3"]

    asyncio.run(scenario())


def test_an_idempotency_key_makes_repeating_harmless(engine: Engine) -> None:
    """From any node; per channel; another key is another message."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            await here.subscribe(ROOM)
            await here.subscribe(OTHER)
            results = [
                await there.publish(ROOM, b"1", "key"),
                await here.publish(ROOM, b"2", "key"),
                await there.publish(ROOM, b"3", "another"),
                await there.publish(OTHER, b"4", "key"),
            ]
            assert results == [PUBLISHED] * 4
            await here.inbox.until(lambda: len(here.inbox.data) == 3)
            assert here.inbox.data == [b"1", b"3", b"4"]

    asyncio.run(scenario())


def test_a_key_is_forgotten_after_its_time(engine: Engine) -> None:
    """Which is given in seconds."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await member.subscribe(ROOM)
            options = PublishOptions("key", 1)
            await member.start_publish(Publication(ROOM, b"1"), options)
            async with asyncio.timeout(20):
                while len(member.inbox.data) < 2:
                    await member.start_publish(Publication(ROOM, b"2"), options)
                    await asyncio.sleep(0.05)
            assert member.inbox.data == [b"1", b"2"]

    asyncio.run(scenario())


def test_an_unsubscribed_channel_can_be_subscribed_again_at_once(engine: Engine) -> None:
    """Churn with a seed; in the end exactly what is wanted arrives."""

    async def scenario() -> None:
        chance = random.Random(7)
        channels = [Channel("default", f"room{number}") for number in range(20)]
        wanted: set[Channel] = set()
        async with engine.members(2) as (here, there):
            for _ in range(300):
                channel = chance.choice(channels)
                if channel in wanted:
                    here.broker.unsubscribe(channel)
                    wanted.remove(channel)
                else:
                    await here.subscribe(channel)
                    wanted.add(channel)
                if not chance.randrange(50):
                    await asyncio.sleep(0.2)
            assert wanted
            for channel in channels:
                await there.publish(channel, b'"%b"' % channel.name.encode())
            await here.inbox.until(lambda: {b'"%b"' % each.name.encode() for each in wanted} <= set(here.inbox.data))

    asyncio.run(scenario())


def test_a_channel_that_nobody_wants_falls_silent(engine: Engine) -> None:
    """After its linger; publications before that may still arrive."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            await here.subscribe(ROOM)
            await here.subscribe(OTHER)
            here.broker.unsubscribe(ROOM)
            async with asyncio.timeout(20):
                silent = False
                while not silent:
                    here.inbox.publications.clear()
                    await there.publish(ROOM, b'"nobody wants it"')
                    await there.publish(OTHER, b'"mark"')
                    await here.inbox.until(lambda: b'"mark"' in here.inbox.data)
                    silent = here.inbox.data == [b'"mark"']
                    await asyncio.sleep(0.05)

    asyncio.run(scenario())


# fakeredis answers the commands of one write one by one.
@pytest.mark.parametrize("engine", ["memory", "valkey"], indirect=True)
def test_what_is_published_together_is_delivered_together(engine: Engine) -> None:
    """Grouped by channel, so that a subscriber is written to once for many publications."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            await here.subscribe(ROOM)
            await here.subscribe(OTHER)
            futures = [there.start_publish(Publication((ROOM, OTHER)[n % 2], b"%d" % n)) for n in range(100)]
            await asyncio.gather(*futures)
            await here.inbox.until(lambda: len(here.inbox.data) == 100)
            assert len(here.inbox.batches) < 50
            for rest, channel in enumerate((ROOM, OTHER)):
                received = [each.data for each in here.inbox.publications if each.channel == channel]
                assert received == [b"%d" % n for n in range(rest, 100, 2)]

    asyncio.run(scenario())


def test_many_channels_are_subscribed_at_once(engine: Engine) -> None:
    """More than fit into one command; the same one several times over; each is complete when it says so."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            channels = [Channel("default", f"room{number}") for number in range(1500)]
            await asyncio.gather(*(here.subscribe(channel) for channel in [*channels, *channels[:100]]))
            for channel in (channels[0], channels[700], channels[-1]):
                await there.publish(channel, b'"%b"' % channel.name.encode())
            await here.inbox.until(lambda: len(here.inbox.data) == 3)
            assert sorted(here.inbox.data) == [b'"room0"', b'"room1499"', b'"room700"']

    asyncio.run(scenario())


def test_stopping_ends_what_is_under_way_first(engine: Engine) -> None:
    """Whoever waits has an outcome when it has stopped, and only one."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await member.subscribe(ROOM)
            outcomes: list[object] = []
            for key in ("", "key"):
                member.broker.publish(Publication(ROOM, b"1"), PublishOptions(key), outcomes.append)
            member.broker.subscribe(OTHER, outcomes.append)
            await member.broker.stop()
            assert len(outcomes) == 3
            await asyncio.sleep(0)
            assert len(outcomes) == 3

    asyncio.run(scenario())


def test_a_stopped_broker_starts_again(engine: Engine) -> None:
    """With its registry, and nothing of before: it subscribes to what it is asked for from now on."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await member.subscribe(OTHER)
            await member.broker.stop()
            await member.broker.start(member.inbox)
            await member.subscribe(ROOM)
            await member.publish(ROOM, b"1")
            await member.inbox.until(lambda: bool(member.inbox.data))
            member.registry.set_occupancy(ROOM, 1)
            async with asyncio.timeout(20):
                cursor = ""
                while not (page := await member.registry.channels("default", "", 10, cursor)).channels:
                    cursor = page.cursor
                    await asyncio.sleep(0.001)
            assert member.broker.health().ok
            assert member.inbox.gaps == []

    asyncio.run(scenario())


def test_a_broker_that_never_started_refuses_and_stops(engine: Engine) -> None:
    """It has a reason for its health, and nothing to close."""

    async def scenario() -> None:
        member = engine.new_member()
        assert not member.broker.health().ok
        for operation in (member.publish(ROOM, b"1"), member.subscribe(ROOM)):
            with pytest.raises(BrokerUnavailable):
                await operation
        await member.broker.stop()
        assert member.broker.health().reason

    asyncio.run(scenario())


def test_a_control_message_reaches_every_node_and_is_counted(engine: Engine) -> None:
    """The node that asks is one of them."""

    async def scenario() -> None:
        async with engine.members(3) as members:
            for member in members:
                member.inbox.affected = 2
            result = await members[0].broker.control(DisconnectUser("default", "42", reason="bye"))
            count = len(members) if engine.many else 1
            assert result == ControlResult(count, count, 2 * count)
            for member in members:
                assert member.inbox.controls == [DisconnectUser("default", "42", reason="bye")]

    asyncio.run(scenario())


def test_what_became_of_a_reload_comes_back(engine: Engine) -> None:
    """From each node that it was meant for."""

    async def scenario() -> None:
        async with engine.members(2) as members:
            told = [
                Reloaded(NodeId("a"), changed=["auth.hmac_secret"], needs_restart=["listen"]),
                Reloaded(NodeId("b"), error="not TOML: \N{EARTH GLOBE EUROPE-AFRICA}"),
            ][: len(members) if engine.many else 1]
            for member, reloaded in zip(members, told, strict=False):
                member.inbox.affected = reloaded
            result = await members[0].broker.control(ReloadSettings())
            assert (result.nodes, result.replies, result.affected) == (len(told), len(told), 0)
            assert sorted(result.reloaded, key=str) == sorted(told, key=str)
            members[0].inbox.affected = 0
            result = await members[0].broker.control(ReloadSettings(NodeId("b")))
            assert list(result.reloaded) == told[1:]

    asyncio.run(scenario())


def test_control_messages_under_way_together_keep_their_answers(engine: Engine) -> None:
    """Each is counted by itself."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            asked = [SubscribeUser("default", str(number), "news", data=b"{}") for number in range(20)]
            results = await asyncio.gather(*(here.broker.control(message) for message in asked))
            count = 2 if engine.many else 1
            assert results == [ControlResult(count, count, count)] * 20
            assert sorted(there.inbox.controls, key=str) == sorted(asked, key=str)

    asyncio.run(scenario())


def test_health_is_good_while_it_runs_and_not_afterwards(engine: Engine) -> None:
    async def scenario() -> None:
        async with engine.members(1) as (member,):
            assert member.broker.health().ok
            assert member.metrics.broker_up.read() == 1
        health = member.broker.health()
        assert not health.ok
        assert health.reason
        with pytest.raises(RequestError):
            await member.publish(ROOM, b"1")
        with pytest.raises(RequestError):
            await member.subscribe(ROOM)
        await member.broker.stop()  # a second time

    asyncio.run(scenario())


def test_requests_of_clients_are_passed_to_one_node(engine: Engine) -> None:
    """In order, each with its own answer; nobody answers for a node that is not there."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            assert await here.broker.relay(NodeId("f" * 16), b"nobody", 3.0) is None
            if not engine.many:
                return
            requests = [b"%d" % number for number in range(10, 60)]
            answers = await asyncio.gather(*(here.broker.relay(there.uid, request, 3.0) for request in requests))
            # The members of these tests answer with the bytes in reverse.
            assert answers == [request[::-1] for request in requests]
            assert there.inbox.relayed == requests
            assert here.inbox.relayed == []
            assert here.metrics.relayed.values == {"no such node": 1, "answered": 50}
            assert there.metrics.relayed.values == {}

    asyncio.run(scenario())
