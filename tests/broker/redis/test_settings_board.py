"""Whose settings count for publishers while nodes disagree."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.broker.redis import settings_board
from gateway.broker.redis.posted_settings import read
from gateway.broker.redis.settings_board import SettingsBoard
from gateway.config.settings import ServerSettings
from gateway.control import NodeId
from gateway.errors import BrokerUnavailable
from tests.broker.members import PATIENCE
from tests.broker.redis.nodes import KEYS
from tests.servers import ValkeyServer


def sized(size: int) -> ServerSettings:
    """Settings that one can tell apart."""
    return ServerSettings.model_validate({"limits": {"message_size": size}})


class Board:
    """A node that has settings of some size."""

    def __init__(self, client: Any, name: str, size: int) -> None:
        self.settings = sized(size)
        self._board = SettingsBoard(client, KEYS, NodeId(name), lambda: self.settings)

    async def renew(self) -> None:
        await self._board.renew()

    async def reload(self, size: int) -> None:
        self.settings = sized(size)
        await self._board.renew()


async def counts(client: Any) -> int:
    """The size in the settings that publishers see."""
    return read(await client.hget(KEYS.settings(), "document")).limits.message_size


def run(server: ValkeyServer, scenario: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    async def on_empty() -> None:
        async with Redis.from_url(server.url) as client, asyncio.timeout(PATIENCE):
            await client.flushall()
            await scenario(client)

    asyncio.run(on_empty())


def test_the_last_start_or_reload_counts(server: ValkeyServer) -> None:
    async def scenario(client: Any) -> None:
        old, new = Board(client, "old", 1), Board(client, "new", 2)
        await old.renew()
        await new.renew()
        for each in (old, new, old):
            await each.renew()
            assert await counts(client) == 2
        await old.reload(3)
        await new.renew()
        assert await counts(client) == 3

    run(server, scenario)


def test_lost_settings_come_back_and_the_same_ones_count_again(server: ValkeyServer) -> None:
    """Also if a node that started earlier is the first to write its own."""

    async def scenario(client: Any) -> None:
        old, new = Board(client, "old", 1), Board(client, "new", 2)
        await old.renew()
        await new.renew()
        await client.flushall()
        await old.renew()
        assert await counts(client) == 1
        await new.renew()
        await old.renew()
        assert await counts(client) == 2
        # A node that starts now comes after them, though the last number was lost.
        await client.flushall()
        await Board(client, "latest", 3).renew()
        await new.renew()
        assert await counts(client) == 3

    run(server, scenario)


def test_settings_of_a_node_that_is_gone_do_not_count(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial on one node that was given up. Of the others, again the last counts."""

    async def scenario(client: Any) -> None:
        oldest, old, trial = (Board(client, str(size), size) for size in (1, 2, 3))
        for each in (oldest, old, trial, oldest, old):
            await each.renew()
        assert await counts(client) == 3
        monkeypatch.setattr(settings_board, "GONE", -1)
        await oldest.renew()
        assert await counts(client) == 1
        monkeypatch.setattr(settings_board, "GONE", 600)
        await old.renew()
        await oldest.renew()
        assert await counts(client) == 2

    run(server, scenario)


def test_a_clock_that_was_set_back_keeps_no_dead_node(server: ValkeyServer) -> None:
    """Its last renewal is then in the future."""

    async def scenario(client: Any) -> None:
        living, dead = Board(client, "living", 1), Board(client, "dead", 2)
        await living.renew()
        await dead.renew()
        await client.hincrby(KEYS.settings(), "renewed", 3_600_000)
        await living.renew()
        assert await counts(client) == 1

    run(server, scenario)


def test_a_server_that_is_away_is_named() -> None:
    async def scenario() -> None:
        async with Redis.from_url("redis://127.0.0.1:1") as client:
            with pytest.raises(BrokerUnavailable, match="settings for publishers"):
                await Board(client, "a", 1).renew()

    asyncio.run(scenario())
