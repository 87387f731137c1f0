"""Cleans up after leases that have ended, and tells that users have left for good. One node at a time does it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.broker import envelope
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import lua
from gateway.broker.redis.keys import Keys, LeaseId
from gateway.broker.redis.presence import BATCH, END, RedisPresence, decoded, user_of
from gateway.broker.redis.registry import RedisRegistry, failing
from gateway.errors import RequestError
from gateway.messages import DEFAULT_APP, Channel, ClientId, ClientInfo, PresenceRules

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between rounds
# Seconds for which a node that did a round does the next one too.
TERM = 5
# Users told of in one round, per partition.
FAREWELLS = 500


class Reaper:
    """Part of every node; acts on the one that is elected. Whatever two of them do at once happens once."""

    def __init__(
        self,
        registry: RedisRegistry,
        presence: RedisPresence,
        keys: Keys,
        rules: Callable[[Channel], PresenceRules],
    ) -> None:
        """`rules` are those of the channel's namespace."""
        self._registry = registry
        self._presence = presence
        self._keys = keys
        self._rules = rules
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._client: Any = registry.client
        self._gone = registry.client.register_script(lua.PRESENCE_GONE.text)

    def start(self) -> None:
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Safe to call twice, and before start."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while not self._stopping:
            await asyncio.sleep(INTERVAL)
            try:
                async with failing("cleaning up failed"):
                    if await self._is_elected():
                        await self._round()
            except RequestError as error:
                logger.warning("%s", error)

    async def _is_elected(self) -> bool:
        key, lease = self._keys.reaper(), self._registry.lease
        if await self._client.set(key, lease, nx=True, ex=TERM):
            return True
        if await self._client.get(key) != lease.encode():
            return False
        return bool(await self._client.expire(key, TERM))

    async def _round(self) -> None:
        leases = [LeaseId(lease.decode()) for lease in await self._client.smembers(self._keys.leases())]
        values = await self._client.mget([self._keys.lease(lease) for lease in leases]) if leases else []
        for lease, value in zip(leases, values, strict=True):
            if value is None:
                await self._reap(lease)
        await self._tell_farewells()

    async def _reap(self, lease: LeaseId) -> None:
        """Everything under one ended lease."""
        count = 0
        for partition in range(self._keys.partitions):
            names = await self._client.smembers(self._keys.held(partition, DEFAULT_APP, lease))
            for name in names:
                async for batch in self._members(Channel(DEFAULT_APP, name.decode()), lease):
                    count += len(batch)
        logger.info("cleaned up after the ended lease %s: %d members", lease, count)
        await self._client.srem(self._keys.leases(), lease)

    async def _members(self, channel: Channel, lease: LeaseId) -> AsyncIterator[list[tuple[ClientId, ClientInfo]]]:
        """Takes those under the lease out of the channel, and yields them."""
        batch: list[tuple[ClientId, ClientInfo]] = []
        head, rules = (lease + END).encode(), self._rules(channel)
        async for client, entry in self._client.hscan_iter(self._keys.presence(channel), count=BATCH):
            if not entry.startswith(head):
                continue
            try:
                batch.append((ClientId(client.decode()), decoded(entry)))
            except EnvelopeError:
                await self._remove(channel, lease, client, entry)
            if len(batch) == BATCH:
                await self._presence.leave_of(lease, channel, batch, rules, last=False)
                yield batch
                batch = []
        await self._presence.leave_of(lease, channel, batch, rules, last=True)
        yield batch

    async def _remove(self, channel: Channel, lease: LeaseId, client: bytes, entry: bytes) -> None:
        """A member of a version that is not known here: it goes, and nobody can be told who it was."""
        name = ClientId(client.decode())
        try:
            members = [(name, ClientInfo(user_of(entry), name))]
        except EnvelopeError:
            await self._client.hdel(self._keys.presence(channel), client)
        else:
            await self._presence.leave_of(lease, channel, members, PresenceRules(), last=False)

    async def _tell_farewells(self) -> None:
        now = int(time.time() * 1000)
        partitions = range(self._keys.partitions)
        async with self._client.pipeline(transaction=False) as pipe:
            for partition in partitions:
                key = self._keys.leaving(partition, DEFAULT_APP)
                pipe.zrangebyscore(key, "-inf", now, start=0, num=FAREWELLS)
            found = await pipe.execute()
        for partition, entries in zip(partitions, found, strict=True):
            for entry in entries:
                length, _, rest = entry.decode().partition(":")
                channel, user = Channel(DEFAULT_APP, rest[: int(length)]), rest[int(length) + 1 :]
                names = [
                    self._keys.users(channel),
                    self._keys.leaving(partition, DEFAULT_APP),
                    self._keys.farewells(partition, DEFAULT_APP),
                    self._keys.presence(channel),
                ]
                arguments = [self._keys.bus(channel), envelope.LEAVE, entry, user, now]
                self._presence.count_untold(await self._gone(keys=names, args=arguments))
