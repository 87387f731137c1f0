"""What every Ledger and EventLog guarantees (broker/base.py): memory, fakeredis over TCP, and a real server."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from gateway.broker.base import Ending, Happening
from gateway.errors import BrokerUnavailable
from gateway.messages import Channel
from tests.broker.members import PATIENCE, Engine, Member

ROOM = Channel("default", "chat:room")
OTHER = Channel("default", "news")
GONE = Ending(3000, "connection closed")


async def taken(member: Member, count: int) -> list[Happening]:
    """The next so many, whoever reads until then."""
    found: list[Happening] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            # (While links are made anew, nothing can be read.)
            with suppress(BrokerUnavailable):
                found += await member.event_log.take(100, 100) or []
            await asyncio.sleep(0.01)
    assert len(found) == count
    return found


def ends(happenings: Sequence[Happening]) -> list[tuple[bytes, Ending | None]]:
    return [(each.about, each.ending) for each in happenings]


async def nothing(member: Member) -> None:
    await member.ledger.settle()
    assert await member.event_log.take(100, 100) == []


def watching(channel: Channel) -> bool:
    return channel == ROOM


def test_what_has_ended_is_told_once(engine: Engine) -> None:
    """In the order of the ends. Nothing that goes on is told, nor what was never noted."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            for key in ("a", "b", "c"):
                member.ledger.begin(key, key.upper().encode())
            member.ledger.end("b", GONE)
            member.ledger.end("a", Ending(3501, "bad request"))
            for key in ("a", "unknown"):
                member.ledger.end(key, GONE)
            happenings = await taken(member, 2)
            assert ends(happenings) == [(b"B", GONE), (b"A", Ending(3501, "bad request"))]
            assert len({each.id for each in happenings}) == 2
            await member.event_log.finish([each.id for each in happenings])
            await nothing(member)

    asyncio.run(scenario())


def test_many_at_once(engine: Engine) -> None:
    """More than one command of the engine holds, and more than one read."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            for number in range(1_050):
                member.ledger.begin(f"k{number}", b"%d" % number)
                if number % 2:
                    member.ledger.end(f"k{number}", GONE)
            assert [int(each.about) for each in await taken(member, 525)] == list(range(1, 1_050, 2))

    asyncio.run(scenario())


def test_occupancies_that_begin_and_end_are_told(engine: Engine) -> None:
    """Once for the cluster, and only of channels that are watched."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            for member in (here, there):
                member.registry.watches = watching
            here.registry.set_occupancy(ROOM, 1)
            here.registry.set_occupancy(OTHER, 1)
            (occupied,) = await taken(here, 1)
            assert (occupied.channel, occupied.is_occupied) == (ROOM, True)
            there.registry.set_occupancy(ROOM, 3)
            await _counted(here, 4 if engine.many else 3)
            here.registry.set_occupancy(ROOM, 0)
            await _counted(here, 3 if engine.many else 0)
            there.registry.set_occupancy(ROOM, 0)
            (vacated,) = await taken(here, 1)
            assert (vacated.channel, vacated.is_occupied) == (ROOM, False)
            assert vacated.time >= occupied.time
            await here.event_log.finish([occupied.id, vacated.id])
            await nothing(here)

    asyncio.run(scenario())


async def _counted(member: Member, subscriptions: int) -> None:
    """Until the registry has it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            page = await member.registry.channels("default", "", 100, "")
            if sum(each.num_clients for each in page.channels if each.name == ROOM.name) == subscriptions:
                return
            await asyncio.sleep(0.01)


def test_one_node_reads_and_another_takes_over(engine: Engine) -> None:
    """It gets all that was not finished."""
    if not engine.many:
        return

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            for member, key in ((here, "a"), (there, "b"), (here, "c")):
                member.ledger.begin(key, key.encode())
                member.ledger.end(key, GONE)
                await member.ledger.settle()
            first = await taken(here, 3)
            assert await there.event_log.take(100, 100) is None
            await here.event_log.finish([first[0].id])
            await here.broker.stop()
            second = await taken(there, 2)
            assert second == first[1:]

    asyncio.run(scenario())


def test_what_an_engine_tells_of_news(engine: Engine) -> None:
    """If it does, then at once."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            news = asyncio.Event()
            member.event_log.on_news = news.set
            member.ledger.begin("a", b"a")
            member.ledger.end("a", GONE)
            assert news.is_set() is not member.event_log.lasting

    asyncio.run(scenario())
