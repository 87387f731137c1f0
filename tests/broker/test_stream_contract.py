"""What every engine guarantees of streams and latest values (broker/base.py)."""

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from gateway.broker.base import Standing
from gateway.broker.memory.memory_broker import MemoryBroker
from gateway.broker.memory.memory_streams import MemoryStreams
from gateway.epochs import continues
from gateway.errors import LIMIT_EXCEEDED, RequestError
from gateway.messages import (
    PUBLISHED,
    REMOVED,
    Channel,
    HistoryPage,
    HistoryQuery,
    Latest,
    Position,
    Publication,
    PublishOptions,
    PublishResult,
    Retention,
)
from tests.broker.members import PATIENCE, Engine, Member

ROOM = Channel("default", "chat:room")
OTHER = Channel("default", "chat:other")
KEPT = Retention(size=5, ttl=60, meta_ttl=600)
LATEST = Latest(tag="key", keys=2, ttl=60, interval=0.0)


async def publish(
    member: Member, data: str, channel: Channel = ROOM, history: Retention = KEPT, **options: Any
) -> PublishResult:
    version = options.pop("version", 0)
    publication = Publication(channel, data.encode(), time=1, version=version)
    outcome = await member.start_publish(publication, PublishOptions(history=history, **options))
    assert isinstance(outcome, PublishResult), outcome
    return outcome


async def read(member: Member, channel: Channel = ROOM, **query: Any) -> HistoryPage:
    future: asyncio.Future[HistoryPage | RequestError] = asyncio.get_running_loop().create_future()
    member.broker.read(channel, KEPT, HistoryQuery(**query), future.set_result)
    async with asyncio.timeout(PATIENCE):
        page = await future
    assert isinstance(page, HistoryPage), page
    return page


async def values(member: Member, channel: Channel = ROOM) -> HistoryPage:
    future: asyncio.Future[HistoryPage | RequestError] = asyncio.get_running_loop().create_future()
    member.broker.values(channel, LATEST, future.set_result)
    async with asyncio.timeout(PATIENCE):
        page = await future
    assert isinstance(page, HistoryPage), page
    return page


def data(publications: Sequence[Publication]) -> list[str]:
    return [publication.data.decode() for publication in publications]


def test_offsets_are_the_order_of_delivery(engine: Engine) -> None:
    """On every node, whoever published; the stream holds what was delivered, with all its fields."""

    async def scenario() -> None:
        async with engine.members(3) as members:
            for member in dict.fromkeys(members):
                await member.subscribe(ROOM)
            results = await asyncio.gather(
                *(publish(member, f"{sender}.{number}") for number in range(3) for sender, member in enumerate(members))
            )
            assert sorted(result.offset for result in results) == list(range(1, 10))
            assert len({result.epoch for result in results}) == 1
            for member in members:
                await member.inbox.until(lambda inbox=member.inbox: len(inbox.publications) == 9)  # type: ignore[misc]
                assert [each.offset for each in member.inbox.publications] == list(range(1, 10))
                assert {each.epoch for each in member.inbox.publications} == {results[0].epoch}
            page = await read(members[0], limit=-1)
            assert page.publications == members[1].inbox.publications[4:]
            assert page.top == (9, results[0].epoch)

    asyncio.run(scenario())


def test_a_page_is_what_was_asked_for(engine: Engine) -> None:
    """Limit, direction, start and bytes; the stream keeps the newest five."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            for number in range(1, 9):
                epoch = (await publish(here, str(number))).epoch
            for query, expected in (
                ({}, ""),
                ({"limit": -1}, "45678"),
                ({"limit": 2}, "45"),
                ({"limit": 2, "reverse": True}, "87"),
                ({"limit": 9, "since": Position(6, epoch)}, "78"),
                ({"limit": 1, "since": Position(6, epoch)}, "7"),
                ({"limit": 9, "since": Position(6, "")}, "78"),
                ({"limit": 9, "since": Position(6, epoch), "reverse": True}, "54"),
                ({"limit": 9, "since": Position(8, epoch)}, ""),
                ({"limit": 9, "since": Position(2**62, epoch)}, ""),
                ({"limit": 9, "since": Position(0, epoch)}, "45678"),
                ({"limit": 9, "since": Position(0, epoch), "reverse": True}, ""),
                ({"limit": 9, "since": Position(2**63 - 1, epoch), "reverse": True}, "87654"),
                ({"limit": 9, "since": Position(2**63 - 1, epoch)}, ""),
                ({"limit": 9, "since": Position(6, "another")}, ""),
            ):
                page = await read(there, **query)
                assert ("".join(data(page.publications)), page.top) == (expected, (8, epoch)), query

    asyncio.run(scenario())


def test_a_page_has_no_more_bytes_than_asked_for(engine: Engine) -> None:
    """It ends before the publication that would exceed them."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            for number in range(4):
                await publish(member, str(number + 1) * 1000)
            page = await read(member, limit=-1, max_bytes=2500)
            assert [each[0] for each in data(page.publications)] == ["1", "2"]
            page = await read(member, limit=-1, reverse=True, max_bytes=1500)
            assert [each[0] for each in data(page.publications)] == ["4"]
            assert (await read(member, limit=-1, max_bytes=0)).publications == []

    asyncio.run(scenario())


def test_a_long_stream_is_read_whole(engine: Engine) -> None:
    """Longer than what the server looks at in one go."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            history = structs.replace(KEPT, size=1000)
            for first in range(0, 350, 50):
                # Not all at once: fakeredis, in this process, would take longer than redis.publish_timeout.
                several = range(first, first + 50)
                await asyncio.gather(*(publish(member, str(number), history=history) for number in several))
            assert data((await read(member, limit=-1)).publications) == [str(number) for number in range(350)]
            assert len((await read(member, limit=250)).publications) == 250
            reverse = await read(member, limit=101, reverse=True)
            assert data(reverse.publications) == [str(number) for number in range(349, 248, -1)]

    asyncio.run(scenario())


def test_the_first_publication_begins_what_was_read_before(engine: Engine) -> None:
    """Who subscribed before it can tell that it missed nothing, whichever node it asked, and when."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            before = await read(here)
            assert before.publications == []
            assert before.top.offset == 0
            later = await read(there)
            assert continues(before.top.epoch, later.top.epoch, KEPT.meta_ttl)
            position = await publish(there, "1")
            assert position.offset == 1
            for early in (before, later):
                assert continues(early.top.epoch, position.epoch, KEPT.meta_ttl)
                page = await read(here, limit=-1, since=early.top)
                assert data(page.publications) == ["1"]
                assert page.top == Position(*position)
            assert await publish(here, "2") == (2, position.epoch)

    asyncio.run(scenario())


def test_repeating_a_publish_gives_its_first_position(engine: Engine) -> None:
    """Even when others came in between."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            first = await publish(here, "1", idempotency_key="k")
            await publish(here, "2")
            assert await publish(there, "again", idempotency_key="k") == first
            assert (await publish(there, "3", idempotency_key="other")).offset == 3
            assert data((await read(here, limit=-1)).publications) == ["1", "2", "3"]

    asyncio.run(scenario())


def test_a_key_is_one_publish_however_it_is_kept(engine: Engine) -> None:
    """A namespace may get a history, or lose it, between a publish and its repetition."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            assert await here.publish(ROOM, b"1", "passing") == PUBLISHED
            assert await publish(there, "again", idempotency_key="passing") == PUBLISHED
            kept = await publish(here, "2", idempotency_key="kept")
            assert kept.offset == 1
            assert await there.publish(ROOM, b"again", "kept") == kept
            assert data((await read(there, limit=-1)).publications) == ["2"]

    asyncio.run(scenario())


def test_older_versions_are_not_published(engine: Engine) -> None:
    """They are answered with where the stream ends; another epoch of versions begins anew; 0 is none."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            await here.subscribe(ROOM)
            assert (await publish(here, "2", version=2)).offset == 1
            assert (await publish(there, "1", version=1)).offset == 1
            assert (await publish(there, "22", version=2)).offset == 1
            assert (await publish(there, "0")).offset == 2
            assert (await publish(there, "3", version=3)).offset == 3
            assert (await publish(there, "4", version=1, version_epoch="b")).offset == 4
            await here.inbox.until(lambda: len(here.inbox.data) == 4)
            assert here.inbox.data == [b"2", b"0", b"3", b"4"]
            assert [each.version for each in here.inbox.publications] == [2, 0, 3, 1]

    asyncio.run(scenario())


def test_clearing_keeps_the_position(engine: Engine) -> None:
    """So that whoever missed something of it is told."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await publish(member, "1")
            await publish(member, "2")
            before = (await read(member)).top
            await member.broker.clear(ROOM)
            assert await read(member, limit=-1) == ([], before)
            assert (await publish(member, "3")).offset == 3
            assert data((await read(member, limit=-1)).publications) == ["3"]

    asyncio.run(scenario())


def test_streams_are_apart(engine: Engine) -> None:
    """Channels, apps of the same channel name, and what is published without history."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await member.subscribe(ROOM)
            stranger = Channel("another", ROOM.name)
            assert (await publish(member, "1")).offset == 1
            assert (await publish(member, "2", OTHER)).offset == 1
            assert (await publish(member, "3", stranger)).offset == 1
            await member.publish(ROOM, b'"passing"')
            await member.inbox.until(lambda: len(member.inbox.data) == 2)
            assert [each.offset for each in member.inbox.publications] == [1, 0]
            assert data((await read(member, limit=-1)).publications) == ["1"]
            assert data((await read(member, stranger, limit=-1)).publications) == ["3"]

    asyncio.run(scenario())


def test_the_newest_value_of_each_key_is_kept(engine: Engine) -> None:
    """Up to a number of keys; removals are told and end a value; repeating with a key changes nothing."""

    async def set_value(
        member: Member, key: str, value: str, idempotency_key: str = "", **tags: str
    ) -> PublishResult | RequestError:
        publication = Publication(ROOM, value.encode(), time=1, tags={"key": key, **tags})
        return await member.start_publish(publication, PublishOptions(idempotency_key, latest=LATEST))

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            empty = await values(there)
            assert (empty.publications, empty.top.offset) == ([], 0)
            await there.subscribe(ROOM)
            first = await set_value(here, "a", "1", "once")
            assert isinstance(first, PublishResult)
            epoch = first.epoch
            assert first == (1, epoch)
            assert continues(empty.top.epoch, epoch, 60)
            assert await set_value(here, "b", "2") == (2, epoch)
            assert await set_value(there, "a", "3") == (3, epoch)
            assert await set_value(there, "a", "late", "once") == (1, epoch)
            refused = await set_value(here, "c", "4")
            assert isinstance(refused, RequestError)
            assert refused.error == LIMIT_EXCEEDED
            page = await values(here)
            found = sorted((each.offset, each.data.decode()) for each in page.publications)
            assert (found, page.top) == ([(2, "2"), (3, "3")], (3, epoch))
            assert await set_value(here, "b", "null", **{REMOVED: "true"}) == (4, epoch)
            assert await set_value(here, "c", "5") == (5, epoch)
            await there.inbox.until(lambda: len(there.inbox.data) == 5)
            assert [each.offset for each in there.inbox.publications] == [1, 2, 3, 4, 5]
            assert sorted(data((await values(there)).publications)) == ["3", "5"]

    asyncio.run(scenario())


def test_streams_are_compared_with_where_they_should_stand(engine: Engine) -> None:
    """Many at once; those that stand elsewhere are told, and those that are not there at all."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            channels = [Channel("default", f"chat:{number}") for number in range(40)]
            standings = []
            for number, channel in enumerate(channels):
                if number % 2:
                    await publish(there, "1", channel)
                standings.append(Standing(channel, KEPT, (await read(here, channel)).top))
            assert await elsewhere(here, standings) == []
            await publish(there, "2", channels[4])
            await publish(there, "2", channels[5])
            standings[9] = standings[9]._replace(position=Position(1, "other"))
            standings[11] = Standing(Channel("default", "chat:none"), KEPT, Position(1, "none"))
            found = await elsewhere(here, standings)
            assert sorted(standings.index(each) for each in found) == [4, 5, 9, 11]

    asyncio.run(scenario())


async def elsewhere(member: Member, standings: list[Standing]) -> list[Standing]:
    """Complete when a read that was asked for afterwards is answered."""
    found: list[Standing] = []
    member.broker.compare(standings, found.append)
    await read(member, OTHER)
    return found


def test_without_its_server_it_reads_nothing(engine: Engine) -> None:
    """The error comes at once, and never raises."""

    async def scenario() -> None:
        member = engine.new_member()
        outcomes: list[Any] = []
        member.broker.read(ROOM, KEPT, HistoryQuery(), outcomes.append)
        member.broker.values(ROOM, LATEST, outcomes.append)
        if not isinstance(member.broker, MemoryBroker):
            member.broker.compare([Standing(ROOM, KEPT, Position(1, "e"))], outcomes.append)
        assert [type(outcome).__name__ for outcome in outcomes] == ["BrokerUnavailable"] * 2

    asyncio.run(scenario())


# Time, where the clock can be moved


def test_streams_in_memory_end_with_time() -> None:
    """Publications after their ttl, the position after its own; what began later is another stream."""
    now = [0.0]
    streams = MemoryStreams(lambda: now[0])

    def append(text: str) -> Position:
        streams.append(Publication(ROOM, text.encode()), KEPT, "")
        return streams.top(ROOM)

    unused = streams.read(ROOM, KEPT, HistoryQuery()).top
    now[0] += 601
    first = append("1")
    assert not continues(unused.epoch, first.epoch, KEPT.meta_ttl)
    now[0] += 59
    assert len(streams.read(ROOM, KEPT, HistoryQuery(-1)).publications) == 1
    now[0] += 2
    assert streams.read(ROOM, KEPT, HistoryQuery(-1)) == ([], first)
    assert append("2") == (2, first.epoch)
    now[0] += 601
    second = append("3")
    assert second.epoch != first.epoch
    assert not continues(first.epoch, second.epoch, KEPT.meta_ttl)


def test_streams_in_memory_are_forgotten() -> None:
    """Channels that nobody publishes to any more do not stay for ever, those that nobody ever did not at all."""
    now = [0.0]
    streams = MemoryStreams(lambda: now[0])
    for number in range(500):
        streams.append(Publication(Channel("default", f"a{number}"), b"1"), KEPT, "")
    now[0] += 10_000
    for number in range(1_000):
        streams.read(Channel("default", f"b{number}"), KEPT, HistoryQuery(-1))
        streams.values(Channel("default", f"c{number}"), LATEST)
        streams.clear(Channel("default", f"d{number}"))
    assert len(streams._streams) == 0
