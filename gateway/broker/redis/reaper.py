"""Cleans up after expired leases, and sends leaves of users who did not come back. One node at a time does it."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import ClusterDownError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from gateway.broker import envelope
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import lua
from gateway.broker.redis.election import Election
from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.broker.redis.ledger import Ledger
from gateway.broker.redis.link import pack
from gateway.broker.redis.publish_commands import REPLACED
from gateway.broker.redis.redis_presence import BATCH, END, decoded, user_of
from gateway.broker.redis.redis_registry import RedisRegistry, failing
from gateway.broker.redis.shard import Shard
from gateway.broker.redis.topology import Topology
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.messages import DEFAULT_APP, Channel, ClientId, ClientInfo, PresenceRules
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between rounds
# Leaves sent in one round, per partition.
FAREWELLS = 500


class Reaper:
    """Every node has one; the one of the elected node acts. If two act at once, everything still happens only once."""

    def __init__(
        self,
        registry: RedisRegistry,
        topology: Topology[Shard],
        keys: Keys,
        ledger: Ledger,
        rules: Callable[[Channel], PresenceRules],
        guard: Guard,
        explains: Callable[[], bool],
    ) -> None:
        """`rules` are those of the channel's namespace; `explains` is asked when a round has failed (see Repeating)."""
        self._registry = registry
        self._topology = topology
        self._keys = keys
        self._rules = rules
        self._guard = guard
        self._ledger = ledger
        self._election = Election(registry.client, keys.reaper())
        self._rounds = Repeating(guard, "reaper", INTERVAL, self._round, explains)
        self._client: Any = registry.client
        self._gone = registry.client.register_script(lua.PRESENCE_GONE.text)

    def start(self) -> None:
        self._rounds.start()

    async def stop(self) -> None:
        """Safe to call twice, and before start."""
        await self._rounds.stop()

    async def _round(self) -> None:
        async with failing("what nodes left behind that are gone was not removed"):
            if await self._election.is_won_by(self._registry.lease):
                await self._clean_up()

    async def _clean_up(self) -> None:
        leases = await self._registry.all_leases()
        values = await self._client.mget([self._keys.lease(lease) for lease in leases]) if leases else []
        for lease, value in zip(leases, values, strict=True):
            if value is None:
                await self._by_itself(lease, self._reap(lease))
        await self._tell_farewells()

    async def _by_itself(self, met: object, work: Awaitable[object]) -> bool:
        """Handle one entry, so that bad data in it does not prevent the others. False if there was an error.

        Raises errors that mean that Redis itself is not available.
        """
        try:
            await work
        except Exception as error:
            refused = isinstance(error, ResponseError) and not _is_replaced(error)
            if isinstance(error, RedisError | RequestError | OSError) and not refused:
                raise
            self._guard.failed("reaper", met)
            return False
        return True

    async def _reap(self, lease: LeaseId) -> None:
        """Clean up after one expired lease. If that fails, the lease stays for the next round."""
        is_clean = True
        for held in await self._filled(lambda partition: self._keys.held(partition, DEFAULT_APP, lease)):
            for name in await self._client.smembers(held):
                try:
                    channel = Channel(DEFAULT_APP, name.decode())
                except UnicodeDecodeError:
                    # Not the name of a channel.
                    await self._client.srem(held, name)
                else:
                    is_clean &= await self._by_itself(name, self._empty(channel, lease))
        is_clean &= await self._by_itself(lease, self._release(lease))
        is_clean &= await self._by_itself(lease, self._ledger.close_books(lease))
        if is_clean:
            logger.info("cleaned up after the expired lease %s", lease)
            await self._client.srem(self._keys.leases(), lease)

    async def _release(self, lease: LeaseId) -> None:
        """The lease occupies no watched channel any more."""
        for watched in await self._filled(lambda partition: self._keys.watched(partition, DEFAULT_APP, lease)):
            names = [name.decode(errors="replace") for name in await self._client.smembers(watched)]
            await self._registry.release(lease, [Channel(DEFAULT_APP, name) for name in names])
            await self._client.delete(watched)

    async def _filled(self, key: Callable[[int], bytes]) -> list[bytes]:
        """Those of these sets, one in each partition, that are not empty."""
        found = []
        for shard in self._topology.all:
            keys = [key(each) for each in self._topology.partitions_of(shard)]
            sizes = await shard.read_link.ask_all([pack("SCARD", key) for key in keys])
            found += [key for key, size in zip(keys, sizes, strict=True) if size != 0]
        return found

    async def _empty(self, channel: Channel, lease: LeaseId) -> None:
        """Remove the members of the lease from the channel."""
        batch: list[tuple[ClientId, ClientInfo]] = []
        head, rules = (lease + END).encode(), self._rules(channel)
        presence = self._topology.shard_of(channel).presence
        async for client, entry in self._client.hscan_iter(self._keys.presence(channel), count=BATCH):
            if not entry.startswith(head):
                continue
            try:
                batch.append((ClientId(client.decode()), decoded(entry)))
            except (EnvelopeError, UnicodeDecodeError):
                await self._remove(channel, lease, client, entry)
            if len(batch) == BATCH:
                await presence.leave_of(lease, channel, batch, rules, last=False)
                batch = []
        await presence.leave_of(lease, channel, batch, rules, last=True)

    async def _remove(self, channel: Channel, lease: LeaseId, client: bytes, entry: bytes) -> None:
        """Remove a member that another version wrote. Its leave cannot be sent, since its info cannot be read."""
        try:
            name = ClientId(client.decode())
            members = [(name, ClientInfo(user_of(entry), name))]
        except (EnvelopeError, UnicodeDecodeError):
            await self._client.hdel(self._keys.presence(channel), client)
        else:
            presence = self._topology.shard_of(channel).presence
            await presence.leave_of(lease, channel, members, PresenceRules(), last=False)

    async def _tell_farewells(self) -> None:
        now = int(time.time() * 1000)
        for shard in self._topology.all:
            partitions = self._topology.partitions_of(shard)
            keys = [self._keys.leaving(each, DEFAULT_APP) for each in partitions]
            commands = [pack("ZRANGEBYSCORE", key, "-inf", now, "LIMIT", 0, FAREWELLS) for key in keys]
            # Without redis-py, which would take milliseconds of the loop for so many commands.
            replies = await shard.read_link.ask_all(commands)
            for partition, reply in zip(partitions, replies, strict=True):
                if reply:
                    await self._by_itself(partition, self._tell_farewells_of(partition, reply, now))

    async def _tell_farewells_of(self, partition: int, due: list[bytes] | Exception, now: int) -> None:
        if isinstance(due, Exception):
            raise due
        for entry in due:
            await self._by_itself(entry, self._tell_farewell(partition, entry, now))

    async def _tell_farewell(self, partition: int, entry: bytes, now: int) -> None:
        leaving = self._keys.leaving(partition, DEFAULT_APP)
        try:
            length, _, rest = entry.decode().partition(":")
            channel, user = Channel(DEFAULT_APP, rest[: int(length)]), rest[int(length) + 1 :]
        except ValueError:
            # It cannot be read and would stay for ever, in the way of others.
            await self._client.zrem(leaving, entry)
            raise
        names = [
            self._keys.users(channel),
            leaving,
            self._keys.farewells(partition, DEFAULT_APP),
            self._keys.presence(channel),
        ]
        arguments = [self._keys.bus(channel), envelope.LEAVE, entry, user, now]
        untold = await self._gone(keys=names, args=arguments)
        self._topology.shard_of(channel).presence.count_untold(untold)


def _is_replaced(error: ResponseError) -> bool:
    """Whether the server refuses all such commands for now: it is no primary any more, or full."""
    return isinstance(error, ReadOnlyError | OutOfMemoryError | ClusterDownError) or str(error).startswith(REPLACED)
