"""Nodes on a real server, quick to notice and to give up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from gateway.broker.base import Health
from gateway.broker.redis.keyspace import Keys
from gateway.config.settings import RedisSettings
from gateway.messages import Channel
from tests.broker.members import PATIENCE, Member, redis_member

ROOM = Channel("default", "room")
OTHER = Channel("default", "other")
KEYS = Keys(RedisSettings().prefix, RedisSettings().partitions)


def settings(url: str, **more: object) -> RedisSettings:
    quick = {"publish_timeout": 0.5, "heartbeat_interval": 0.1, "connect_timeout": 1.0}
    return RedisSettings.model_validate({"url": SecretStr(url), **quick, **more})


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[Member, Member]]:
    async with redis_member(settings(url), "a") as here, redis_member(settings(url), "b") as there:
        await here.subscribe(ROOM)
        yield here, there


async def until_health(member: Member, ok: bool) -> Health:
    """Wait for a change of health."""
    async with asyncio.timeout(PATIENCE):
        while member.broker.health().ok is not ok:
            await asyncio.sleep(0.01)
    return member.broker.health()
