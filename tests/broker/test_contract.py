"""What every engine guarantees (broker/base.py): memory, fakeredis over TCP, and a real server."""

import asyncio
import random

import pytest

from gateway.errors import RequestError
from gateway.messages import (
    PUBLISHED,
    Channel,
    ChannelCount,
    ClientInfo,
    DisconnectUser,
    Kind,
    Publication,
    PublishOptions,
    Revocation,
    SubscribeUser,
)
from tests.broker.members import Engine, Member

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
                member.start_publish(Publication(ROOM, b"%d %d" % (sender, number)))
                for number in range(100)
                for sender, member in enumerate(members)
            ]
            assert set(await asyncio.gather(*futures)) == {PUBLISHED}
            for member in members:
                await member.inbox.until(lambda inbox=member.inbox: len(inbox.data) == 300)  # type: ignore[misc]
            first = members[0].inbox.data
            assert all(member.inbox.data == first for member in members)
            for sender in range(3):
                own = [data for data in first if data.startswith(b"%d " % sender)]
                assert own == [b"%d %d" % (sender, number) for number in range(100)]

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
                await there.publish(channel, channel.name.encode())
            await here.inbox.until(lambda: {each.name.encode() for each in wanted} <= set(here.inbox.data))

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
                    await there.publish(ROOM, b"nobody wants it")
                    await there.publish(OTHER, b"mark")
                    await here.inbox.until(lambda: b"mark" in here.inbox.data)
                    silent = here.inbox.data == [b"mark"]
                    await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_a_control_message_reaches_every_node_and_is_counted(engine: Engine) -> None:
    """The node that asks is one of them."""

    async def scenario() -> None:
        async with engine.members(3) as members:
            for member in members:
                member.inbox.affected = 2
            result = await members[0].broker.control(DisconnectUser("default", "42", reason="bye"))
            count = len(members) if engine.many else 1
            assert result == (count, count, 2 * count)
            for member in members:
                assert member.inbox.controls == [DisconnectUser("default", "42", reason="bye")]

    asyncio.run(scenario())


def test_control_messages_under_way_together_keep_their_answers(engine: Engine) -> None:
    """Each is counted by itself."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            asked = [SubscribeUser("default", str(number), "news", data=b"{}") for number in range(20)]
            results = await asyncio.gather(*(here.broker.control(message) for message in asked))
            count = 2 if engine.many else 1
            assert results == [(count, count, count)] * 20
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


# The registry


def test_nodes_are_those_whose_leases_live(engine: Engine) -> None:
    """In the order of their names."""

    async def scenario() -> None:
        async with engine.members(2) as members:
            await members[0].announce("b")
            if not engine.many:
                assert [info.name for info in await members[0].registry.nodes()] == ["b"]
                return
            await members[1].announce("a")
            assert [info.name for info in await members[0].registry.nodes()] == ["a", "b"]
            await members[1].registry.withdraw(members[1].uid)
            assert [info.name for info in await members[0].registry.nodes()] == ["b"]

    asyncio.run(scenario())


def test_occupancy_is_the_sum_over_the_nodes(engine: Engine) -> None:
    """And a channel without subscriptions is not listed."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            here.registry.set_occupancy(ROOM, 2)
            here.registry.set_occupancy(OTHER, 1)
            there.registry.set_occupancy(ROOM, 3)
            expected = {ROOM.name: 5 if engine.many else 3, OTHER.name: 1}
            await _listed(here, expected)
            here.registry.set_occupancy(OTHER, 0)
            await _listed(there, {ROOM.name: expected[ROOM.name]})

    asyncio.run(scenario())


async def _listed(member: Member, expected: dict[str, int]) -> None:
    """Wait until the channels are these: they are written in batches."""
    async with asyncio.timeout(20):
        while dict(await _channels(member, "", 100)) != expected:
            await asyncio.sleep(0.05)


async def _channels(member: Member, pattern: str, limit: int) -> list[ChannelCount]:
    """All pages."""
    found, cursor, more = [], "", True
    while more:
        page = await member.registry.channels("default", pattern, limit, cursor)
        assert len(page.channels) <= limit
        found += page.channels
        cursor = page.cursor
        more = bool(cursor)
    return found


def test_channels_are_paged_and_matched(engine: Engine) -> None:
    """Every channel on exactly one page; `*`, `?` and `[...]` as in shells; apps apart."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            names = [f"chat:{number}" for number in range(60)] + ["news", "a*b", "a{0}b"]
            for name in names:
                member.registry.set_occupancy(Channel("default", name), 1)
            member.registry.set_occupancy(Channel("another", "secret"), 1)
            await _listed(member, dict.fromkeys(names, 1))
            chats = [name for name, _ in await _channels(member, "chat:*", 7)]
            assert sorted(chats) == sorted(name for name in names if name.startswith("chat:"))
            assert await _channels(member, "a[*]b", 7) == [("a*b", 1)]

    asyncio.run(scenario())


def test_revocations_are_there_for_every_node_until_they_expire(engine: Engine) -> None:
    """Also for a node that starts later."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            by_user = Revocation("default", user="42", issued_before=100)
            by_token = Revocation("default", jti="t1", expire_at=2**40)
            expired = Revocation("default", jti="t2", expire_at=1)
            for revocation in (by_user, by_token, expired):
                await here.registry.revoke(revocation)
            found = await there.registry.revocations()
            assert sorted(found, key=str) == sorted([by_user, by_token], key=str)
            later = Revocation("default", user="42", issued_before=200)
            await here.registry.revoke(later)
            assert later in await there.registry.revocations()

    asyncio.run(scenario())
