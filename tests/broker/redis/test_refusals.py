"""Publishes that Redis itself refuses: certainly not carried out, and safe to repeat."""

import asyncio

import pytest
import redis

from gateway.errors import BrokerUnavailable
from tests.broker.redis.nodes import ROOM, two
from tests.servers import ValkeyServer


def test_a_flushed_script_is_loaded_again(server: ValkeyServer) -> None:
    """The publish that met it has failed for certain, and may be repeated."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            await there.publish(ROOM, b"1", "one")
            with redis.Redis.from_url(server.url) as client:
                client.script_flush()
            with pytest.raises(BrokerUnavailable, match="NOSCRIPT"):
                await there.publish(ROOM, b"2", "two")
            await there.publish(ROOM, b"2", "two")
            await here.inbox.until(lambda: here.inbox.data == [b"1", b"2"])

    asyncio.run(scenario())


def test_what_redis_refuses_is_told_with_its_reason(server: ValkeyServer) -> None:
    """Out of memory, for example. It was not carried out."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            with redis.Redis.from_url(server.url) as client:
                client.config_set("maxmemory", 1)
                with pytest.raises(BrokerUnavailable, match="OOM"):
                    await there.publish(ROOM, b"1", "key")
                assert there.metrics.publish_errors.values == {"refused by redis": 1}
                client.config_set("maxmemory", 0)
            await there.publish(ROOM, b"2", "key")
            await here.inbox.until(lambda: here.inbox.data == [b"2"])

    asyncio.run(scenario())
