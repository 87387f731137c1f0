"""The registry in Redis, when Redis or its data fails."""

import asyncio

import pytest
import redis

from gateway.broker.redis.keys import Keys
from gateway.errors import BrokerUnavailable
from gateway.messages import Revocation
from tests.broker.members import PATIENCE, Member, redis_member
from tests.broker.redis.nodes import ROOM, settings, two
from tests.servers import ValkeyServer


def test_a_stopped_node_registers_everything_again(server: ValkeyServer) -> None:
    """Its lease ran out and others cleaned up; or Redis lost its data."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            here.registry.set_occupancy(ROOM, 3)
            await _occupied(there, {ROOM.name: 3})
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            assert await there.registry.nodes() == []
            await _occupied(there, {})
            await here.announce("a")
            await _occupied(there, {ROOM.name: 3})
            with redis.Redis.from_url(server.url) as client:
                assert client.get(Keys("gw", 16).partition_count()) == b"16"

    asyncio.run(scenario())


async def _occupied(member: Member, expected: dict[str, int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            found: dict[str, int] = {}
            cursor, more = "", True
            while more:
                page = await member.registry.channels("default", "", 100, cursor)
                found.update(page.channels)
                cursor = page.cursor
                more = bool(cursor)
            if found == expected:
                return
            await asyncio.sleep(0.05)


def test_the_registry_says_that_redis_is_away(server: ValkeyServer) -> None:
    """Every question and every order."""

    async def scenario() -> None:
        async with two(server.url) as (here, _):
            server.kill()
            registry = here.registry
            for operation in (
                lambda: here.announce("a"),
                lambda: registry.withdraw(here.uid),
                registry.nodes,
                lambda: registry.channels("default", "", 10, ""),
                lambda: registry.revoke(Revocation("default", jti="t")),
                registry.revocations,
            ):
                with pytest.raises(BrokerUnavailable):
                    await operation()

    asyncio.run(scenario())


@pytest.mark.parametrize("cursor", ["nonsense", "-1:", "16:", ":", "x:y", "1e1:", "²:", "9" * 5000 + ":"])
def test_a_cursor_that_no_page_had_is_refused(server: ValkeyServer, cursor: str) -> None:
    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as member:
            with pytest.raises(Exception, match="cursor"):
                await member.registry.channels("default", "", 10, cursor)

    asyncio.run(scenario())
