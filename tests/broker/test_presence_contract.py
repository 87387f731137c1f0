"""What every engine guarantees of presence (broker/base.py)."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.broker.base import Presence
from gateway.errors import LIMIT_EXCEEDED, RequestError
from gateway.messages import Channel, ClientId, ClientInfo, MemberCounts, PresenceRules
from tests.broker.members import PATIENCE, Engine, Inbox, Member

ROOM = Channel("default", "who:room")
OTHER = Channel("default", "who:other")
SILENT = PresenceRules()
CLIENTS = PresenceRules("clients", limit=10)
USERS = PresenceRules("users", limit=10)


def info(client: str, user: str = "") -> ClientInfo:
    return ClientInfo(user, client, b'{"name":"x"}', b"[1]")


def presence(member: Member) -> Presence:
    return member.presence


async def members(member: Member, channel: Channel = ROOM) -> list[ClientInfo]:
    future: asyncio.Future[list[ClientInfo] | RequestError] = asyncio.get_running_loop().create_future()
    presence(member).members(channel, 0, 0, future.set_result)
    async with asyncio.timeout(PATIENCE):
        found = await future
    assert isinstance(found, list), found
    return sorted(found, key=lambda each: each.client)


async def counts(member: Member, channel: Channel = ROOM) -> MemberCounts:
    future: asyncio.Future[MemberCounts | RequestError] = asyncio.get_running_loop().create_future()
    presence(member).counts(channel, future.set_result)
    async with asyncio.timeout(PATIENCE):
        found = await future
    assert isinstance(found, MemberCounts), found
    return found


async def until(read: Callable[[], Awaitable[object]], expected: object) -> None:
    async with asyncio.timeout(PATIENCE):
        while await read() != expected:
            await asyncio.sleep(0.01)


def told(inbox: Inbox) -> list[tuple[str, str]]:
    return [("join" if each.joined else "leave", each.info.client) for each in inbox.memberships]


def test_all_nodes_see_the_same_members(engine: Engine) -> None:
    """With all that is known of them; users are counted once, anonymous connections are one."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            assert await members(here) == []
            assert await counts(there) == (0, 0)
            all_of_them = [info("a", "ann"), info("b", "bob"), info("c", "ann"), info("d"), info("e")]
            for index, each in enumerate(all_of_them):
                presence((here, there)[index % 2]).enter(ROOM, each, SILENT)
            for member in (here, there):
                await until(lambda member=member: members(member), all_of_them)  # type: ignore[misc]
                assert await counts(member) == (5, 3)
            presence(here).leave(ROOM, ClientId("a"))
            presence(here).leave(ROOM, ClientId("e"))
            assert await members(here) == [all_of_them[index] for index in (1, 2, 3)]
            assert await counts(here) == (3, 3)
            assert await members(here, OTHER) == []
            assert await members(here, Channel("another", ROOM.name)) == []

    asyncio.run(scenario())


def test_one_node_s_calls_happen_in_their_order(engine: Engine) -> None:
    """In one turn of the loop: entered and left; twice entered; unknown ones."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await member.subscribe(ROOM)
            of = presence(member)
            of.enter(ROOM, info("a", "ann"), CLIENTS)
            of.leave(ROOM, ClientId("a"))
            of.enter(ROOM, info("b", "ann"), CLIENTS)
            of.enter(ROOM, info("b", "ann"), CLIENTS)
            of.leave(ROOM, ClientId("never"))
            of.leave(OTHER, ClientId("b"))
            assert await members(member) == [info("b", "ann")]
            assert await counts(member) == (1, 1)
            await member.inbox.until(lambda: len(member.inbox.memberships) == 3)
            assert told(member.inbox) == [("join", "a"), ("leave", "a"), ("join", "b")]
            assert member.inbox.memberships[2].info == info("b", "ann")

    asyncio.run(scenario())


def test_every_connection_is_told(engine: Engine) -> None:
    """To subscribers on all nodes, once."""

    async def scenario() -> None:
        async with engine.members(2) as nodes:
            for member in dict.fromkeys(nodes):
                await member.subscribe(ROOM)
            here, there = nodes
            presence(here).enter(ROOM, info("a", "ann"), CLIENTS)
            await there.inbox.until(lambda: len(there.inbox.memberships) == 1)
            presence(there).enter(ROOM, info("b", "ann"), CLIENTS)
            await here.inbox.until(lambda: len(here.inbox.memberships) == 2)
            presence(here).leave(ROOM, ClientId("a"))
            for member in nodes:
                await member.inbox.until(lambda inbox=member.inbox: len(inbox.memberships) == 3)  # type: ignore[misc]
                assert told(member.inbox) == [("join", "a"), ("join", "b"), ("leave", "a")]

    asyncio.run(scenario())


def test_users_are_told_by_their_first_and_last_connection(engine: Engine) -> None:
    """Wherever these are."""

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            await here.subscribe(ROOM)
            presence(here).enter(ROOM, info("a1", "ann"), USERS)
            await until(lambda: counts(here), (1, 1))
            presence(there).enter(ROOM, info("a2", "ann"), USERS)
            await until(lambda: counts(there), (2, 1))
            presence(here).leave(ROOM, ClientId("a1"))
            await until(lambda: counts(here), (1, 1))
            presence(there).leave(ROOM, ClientId("a2"))
            await here.inbox.until(lambda: len(here.inbox.memberships) == 2)
            assert told(here.inbox) == [("join", "a1"), ("leave", "a2")]

    asyncio.run(scenario())


def test_who_comes_back_in_time_has_never_left(engine: Engine) -> None:
    """On another node too; who does not is told once."""
    patient = PresenceRules("users", limit=10, grace=0.3)

    async def scenario() -> None:
        async with engine.members(2) as (here, there):
            await here.subscribe(ROOM)
            presence(here).enter(ROOM, info("a1", "ann"), patient)
            presence(here).enter(ROOM, info("b1", "bob"), patient)
            await here.inbox.until(lambda: len(here.inbox.memberships) == 2)
            presence(here).leave(ROOM, ClientId("a1"))
            presence(here).leave(ROOM, ClientId("b1"))
            await until(lambda: counts(here), (0, 0))
            presence(there).enter(ROOM, info("a2", "ann"), patient)
            await here.inbox.until(lambda: len(here.inbox.memberships) == 3)
            # Ann's own end, if it came, would come before that of a third one.
            presence(here).enter(ROOM, info("c1", "carl"), patient)
            presence(here).leave(ROOM, ClientId("c1"))
            await here.inbox.until(lambda: len(here.inbox.memberships) == 5)
            assert told(here.inbox) == [
                ("join", "a1"), ("join", "b1"), ("leave", "b1"), ("join", "c1"), ("leave", "c1"),
            ]  # fmt: skip
            assert await members(here) == [info("a2", "ann")]

    asyncio.run(scenario())


def test_in_a_crowd_nothing_is_told(engine: Engine) -> None:
    """It would cost members squared; counted, and told again when there are fewer."""
    few = PresenceRules("clients", limit=3)

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await member.subscribe(ROOM)
            for number in range(6):
                presence(member).enter(ROOM, info(f"c{number}"), few)
            await until(lambda: counts(member), (6, 1))
            for number in range(6):
                presence(member).leave(ROOM, ClientId(f"c{number}"))
            await member.inbox.until(lambda: len(member.inbox.memberships) == 6)
            joins, leaves = told(member.inbox)[:3], told(member.inbox)[3:]
            assert joins == [("join", f"c{number}") for number in range(3)]
            assert leaves == [("leave", f"c{number}") for number in range(3, 6)]

    asyncio.run(scenario())


def test_in_a_crowd_no_farewell_is_told(engine: Engine) -> None:
    """The limit counts when it would be told, not when the user left."""
    few = PresenceRules("users", limit=2, grace=0.1)

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await member.subscribe(ROOM)
            for number in range(5):
                presence(member).enter(ROOM, info(f"c{number}", f"u{number}"), few)
            await until(lambda: counts(member), (5, 5))
            presence(member).leave(ROOM, ClientId("c0"))
            presence(member).leave(ROOM, ClientId("c1"))
            await until(lambda: untold(member), 3 + 2)
            presence(member).leave(ROOM, ClientId("c2"))
            await member.inbox.until(lambda: len(member.inbox.memberships) == 3)
            assert told(member.inbox) == [("join", "c0"), ("join", "c1"), ("leave", "c2")]

    asyncio.run(scenario())


async def untold(member: Member) -> float:
    return member.metrics.memberships_untold.value


def test_an_answer_has_no_more_members_and_bytes_than_asked_for(engine: Engine) -> None:
    """A crowd is no answer, and neither are few who tell much of themselves."""

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            for number in range(3):
                member_info = ClientInfo("ann", f"c{number}", b'"%b"' % (b"x" * 1000), b'"%b"' % (b"y" * 1000))
                presence(member).enter(ROOM, member_info, CLIENTS)
            for limit, room, setting in (
                (2, 0, "limits.presence"),
                (3, 6000, "limits.outbox"),
                (2, 6000, "limits.presence"),
                (3, 7000, ""),
                (0, 0, ""),
            ):
                outcomes: asyncio.Future[list[ClientInfo] | RequestError] = asyncio.get_running_loop().create_future()
                presence(member).members(ROOM, limit, room, outcomes.set_result)
                async with asyncio.timeout(PATIENCE):
                    outcome = await outcomes
                if setting:
                    assert isinstance(outcome, RequestError)
                    assert (outcome.error, outcome.setting) == (LIMIT_EXCEEDED, setting)
                else:
                    assert isinstance(outcome, list)
                    assert len(outcome) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["a{b}c:d", "x" * 255, "ns:r:1:2", "{}"])
def test_any_name_will_do(engine: Engine, name: str) -> None:
    """Also where a user has left and may come back."""
    channel = Channel("default", name)

    async def scenario() -> None:
        async with engine.members(1) as (member,):
            await member.subscribe(channel)
            presence(member).enter(channel, info("a", "u:1:{x}"), PresenceRules("users", limit=10, grace=0.05))
            presence(member).leave(channel, ClientId("a"))
            await member.inbox.until(lambda: len(member.inbox.memberships) == 2)
            assert told(member.inbox) == [("join", "a"), ("leave", "a")]

    asyncio.run(scenario())


def test_without_its_server_nobody_is_known(engine: Engine) -> None:
    """An error, at once; in memory there is no server to miss."""

    async def scenario() -> None:
        member = engine.new_member()
        outcomes: list[object] = []
        presence(member).members(ROOM, 0, 0, outcomes.append)
        presence(member).counts(ROOM, outcomes.append)
        if engine.many:
            assert [type(outcome).__name__ for outcome in outcomes] == ["BrokerUnavailable"] * 2
        else:
            assert outcomes == [[], (0, 0)]

    asyncio.run(scenario())
