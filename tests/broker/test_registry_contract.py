"""What every registry guarantees (broker/base.py): memory, fakeredis over TCP, and a real server."""

import asyncio
import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.control import ChannelCount, Revocation
from gateway.messages import Channel
from tests.broker.members import Engine, Member, MemoryEngine

ROOM = Channel("default", "chat:room")
OTHER = Channel("default", "chat:other")


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
            await members[1].registry.withdraw()
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


@settings(derandomize=True, max_examples=30, deadline=None)
@given(pattern=st.text("ab*?[]!-^\\\\|&~ {}\n\ud800", max_size=12))
def test_any_pattern_finds_or_finds_nothing(pattern: str) -> None:
    """A glob has no wrong forms; what it means is the same in every engine, since it is never Redis that matches."""

    async def scenario() -> None:
        async with MemoryEngine().members(1) as (member,):
            for name in ("a", "ab", "a*", "[a]"):
                member.registry.set_occupancy(Channel("default", name), 1)
            for name, _ in await _channels(member, pattern, 2):
                assert fnmatchcase(name, pattern or "*")

    asyncio.run(scenario())


def test_pages_may_be_small_and_nothing_is_on_two(engine: Engine) -> None:
    """One name a page; channels that come and go between pages do no harm to the others."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            names = [f"room{number}" for number in range(12)]
            for name in names:
                member.registry.set_occupancy(Channel("default", name), 1)
            await _listed(member, dict.fromkeys(names, 1))
            page = await member.registry.channels("default", "", 1, "")
            found = [name for name, _ in page.channels]
            member.registry.set_occupancy(Channel("default", found[0] if found else "room99"), 0)
            while page.cursor:
                page = await member.registry.channels("default", "", 1, page.cursor)
                found += [name for name, _ in page.channels]
            assert sorted(found) == sorted(names)
            assert (await member.registry.channels("nobody's", "", 1, "")).channels == []

    asyncio.run(scenario())


@pytest.mark.parametrize("order", [1, -1])
def test_a_revocation_is_weakened_by_none(engine: Engine, order: int) -> None:
    """Whichever comes first, and whichever nodes store them at once."""
    soon = int(time.time()) + 600

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            kinds = (("17", "", ""), ("", "t1", ""), ("17", "", "$room:a#17"), ("a:\0b", "", "~" * 255))
            for user, jti, channel in kinds:
                forever = Revocation("default", user, jti, channel=channel)
                first, second = (forever, Revocation("default", user, jti, 9, soon, channel))[::order]
                await here.registry.revoke(first)
                await there.registry.revoke(second)
                assert Revocation("default", user, jti, 9, 0, channel) in await here.registry.revocations()
            assert len(await there.registry.revocations()) == len(kinds)
            later = [Revocation("default", "18", issued_before=n, expire_at=soon + 9 - n) for n in range(10)]
            await asyncio.gather(*(member.registry.revoke(each) for each in later for member in (here, there)))
            assert (
                Revocation("default", "18", issued_before=9, expire_at=soon + 9) in await there.registry.revocations()
            )

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
            # By the clock of the registry, unless the request says more.
            now = int(time.time())
            for issued_before, least in ((0, now + 6), (now + 1000, now + 1000)):
                revocation = Revocation("default", user="43", issued_before=issued_before)
                stored = await here.registry.revoke(revocation, ahead=6)
                assert least <= stored.issued_before <= least + 60
                assert stored in await there.registry.revocations()

    asyncio.run(scenario())


def test_each_revocation_of_a_user_covers_the_tokens_that_the_one_before_let_pass(engine: Engine) -> None:
    """Also in the same second, and while an earlier time from a clock that is ahead is in force."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            ahead = int(time.time()) + 1000
            for start, channel in ((0, ""), (ahead, ""), (0, "room"), (ahead, "room")):
                user = f"from {start} {channel}"
                revocation = Revocation("default", user, issued_before=start, channel=channel)
                first = await here.registry.revoke(revocation, ahead=6)
                second = await there.registry.revoke(revocation, ahead=6)
                assert second.issued_before > first.issued_before
                await here.registry.restore([first, second])
                stored = await there.registry.revocations()
                assert [each for each in stored if each.user == revocation.user] == [second]

    asyncio.run(scenario())
