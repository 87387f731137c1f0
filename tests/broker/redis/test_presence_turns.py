"""Who comes and goes, where many do so at once: some of it in each turn of the loop, and no faster than Redis reads."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from gateway.broker.redis import lua
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.broker.redis.redis_presence import TURN_CHANNELS, RedisPresence
from gateway.messages import Channel, ClientId, ClientInfo, PresenceRules
from gateway.metrics import Metrics

RULES = PresenceRules("clients", limit=100)
MANY = [Channel("default", f"room{number}") for number in range(TURN_CHANNELS * 2 + 1)]


class Link:
    """One that takes all, and tells how many commands of a kind it got."""

    def __init__(self) -> None:
        self.writable = True
        self.sent: list[bytes] = []
        self.reason = self.trouble = ""

    @property
    def current(self) -> "Link":
        return self

    def send(self, command: bytes, done: Callable[[Any], object]) -> None:
        self.sent.append(command)
        done(0)

    def take(self) -> list[str]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return [next((name for name, sha in NAMES.items() if sha in command), "other") for command in sent]


NAMES = {"enter": lua.PRESENCE_ENTER.sha.encode(), "leave": lua.PRESENCE_LEAVE.sha.encode()}


def made() -> tuple[RedisPresence, Link]:
    link = Link()
    return RedisPresence(cast(KeptLink, link), lambda: LeaseId("n10000"), Keys("gw", 4), Metrics()), link


def enter(presence: RedisPresence, channel: Channel, *clients: str) -> None:
    for client in clients:
        presence.enter(channel, ClientInfo("ann", client), RULES)


def leave(presence: RedisPresence, channel: Channel, *clients: str) -> None:
    for client in clients:
        presence.leave(channel, ClientId(client))


def test_what_many_channels_have_to_hear_goes_out_in_turns() -> None:
    async def scenario() -> None:
        presence, link = made()
        for kind, change in (("enter", enter), ("leave", leave)):
            for channel in MANY:
                change(presence, channel, "a")
            for count in (TURN_CHANNELS, TURN_CHANNELS, 1, 0):
                assert link.take() == []
                await asyncio.sleep(0)
                assert link.take() == [kind] * count

    asyncio.run(scenario())


def test_what_changes_together_is_one_command_a_channel_in_order() -> None:
    async def scenario() -> None:
        presence, link = made()
        enter(presence, MANY[0], "a", "b", "c")
        leave(presence, MANY[0], "a", "b")
        enter(presence, MANY[0], "a")
        await asyncio.sleep(0)
        assert link.take() == ["enter", "leave", "enter"]

    asyncio.run(scenario())


def test_who_asks_gets_what_was_said_before() -> None:
    """Of that channel; the others have to wait for their turn all the same."""

    async def scenario() -> None:
        presence, link = made()
        for channel in MANY:
            enter(presence, channel, "a")
        presence.counts(MANY[-1], lambda outcome: None)
        assert link.take() == ["enter", "other", "other"]
        await asyncio.sleep(0)
        assert link.take() == ["enter"] * TURN_CHANNELS

    asyncio.run(scenario())


def test_it_waits_while_redis_does_not_read() -> None:
    """What the link refuses would have to be said again with all the rest."""

    async def scenario() -> None:
        presence, link = made()
        enter(presence, MANY[0], "a")
        link.writable = False
        await asyncio.sleep(0)
        assert link.take() == []
        link.writable = True
        while not (sent := link.take()):
            await asyncio.sleep(0)
        assert sent == ["enter"]

    asyncio.run(scenario())


def test_what_waits_is_said_when_the_node_ends() -> None:
    async def scenario() -> None:
        presence, link = made()
        for channel in MANY:
            enter(presence, channel, "a")
        presence.flush()
        assert link.take() == ["enter"] * len(MANY)

    asyncio.run(scenario())
