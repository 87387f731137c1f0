"""The state of the cluster in Redis. All this is rare compared to messages, so it uses redis-py."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fnmatch import translate
from itertools import islice
from re import compile as compile_pattern
from typing import Any, NamedTuple

import msgspec
from msgspec import structs
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.broker.redis.lua import FORGET, OCCUPY, REVOKE
from gateway.broker.redis.settings_board import INTERVAL, SettingsBoard
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings, ServerSettings
from gateway.control import KEPT_BEYOND, ChannelCount, ChannelPage, NodeId, NodeInfo, Revocation
from gateway.errors import BAD_REQUEST, BrokerUnavailable, ConfigError, RequestError
from gateway.guard import Guard
from gateway.messages import Channel
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

LEASE = 10  # seconds; three announcements may be lost
FLUSH_INTERVAL = 1.0  # seconds between writes of changed occupancies
BATCH = 100  # commands in one pipeline: redis-py takes up to 60 us of the loop for each
SLICE = 100  # revocations read in one turn of the loop: each takes 10 to 20 us, and a backend may kick thousands
MOST_DIGITS = 10  # of subscriptions of one node
# Of one partition, that wait to be told; some hundred bytes each.
MOST_EVENTS = 10_000

# At most as many digits as the number of partitions (settings), and a name. JSON can contain half a surrogate pair,
# which no name has, since UTF-8 cannot encode it.
_CURSOR = compile_pattern("([0-9]{1,4}):([^\ud800-\udfff]*)")


class _Which(NamedTuple):
    """The tokens that a revocation means, as the name of its field in MessagePack. Without a channel it has three
    items."""

    app: str
    user: str
    jti: str
    channel: str = ""


class RedisRegistry:
    """Leases of nodes, occupancy of channels, revoked tokens."""

    def __init__(
        self,
        settings: RedisSettings,
        uid: NodeId,
        keys: Keys,
        guard: Guard,
        in_force: Callable[[], ServerSettings],
    ) -> None:
        """`in_force`: the settings of the node."""
        assert settings.url is not None
        self._settings = settings
        self._uid = uid
        self._keys = keys
        self.client = client_of(Target.of(settings.url.get_secret_value()), settings, f"gateway-{uid}-registry")
        self._occupy = self.client.register_script(OCCUPY.text)
        self._revoke = self.client.register_script(REVOKE.text)
        self._forget = self.client.register_script(FORGET.text)
        # Occupancy of this node, and the changes that were not written to Redis yet.
        self._occupied: dict[Channel, int] = {}
        self._changed: dict[Channel, int] = {}
        self._generation = 0
        self._has_lease = False
        # When the last successful renewal was sent (monotonic seconds).
        self._renewed_at = 0.0
        self._server = ""
        # The entries under the lease may not be those that this node has written.
        self._is_doubtful = False
        self._flushing = Repeating(guard, "registry", FLUSH_INTERVAL, self.flush, lambda: self.explains())
        # Channels whose occupancy is an event when it begins and ends.
        self.watches: Callable[[Channel], bool] = lambda channel: False
        # Gets the number of events that were dropped.
        self.dropped: Callable[[int], None] = lambda number: None
        self._board = SettingsBoard(self.client, keys, uid, in_force)
        self._posting = Repeating(guard, "settings", INTERVAL, self._board.renew, lambda: self.explains())
        # Asked when a flush has failed: whether the log says already why such work fails now.
        self.explains: Callable[[], bool] = lambda: False
        # Called after the lease had expired: all entries under it have to be written again.
        self.on_lapse: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Agree on the number of partitions. Raises ConfigError when others have another one, BrokerUnavailable."""
        async with failing("the registry could not start"):
            key = self._keys.partition_count()
            await self.client.set(key, self._keys.partitions, nx=True)
            known = int(await self.client.get(key) or 0)
        if known != self._keys.partitions:
            raise ConfigError(
                f"redis.partitions is {self._keys.partitions}, but this Redis is in use with {known} (key "
                f"{key.decode()}); set redis.partitions to {known}, or choose another redis.prefix"
            )
        await self._board.renew()
        self._flushing.start()
        self._posting.start()

    async def stop(self) -> None:
        """Close the connections. Safe to call twice, and before start."""
        await self._posting.stop()
        await self._flushing.stop()
        await self.client.aclose()

    @property
    def lease(self) -> LeaseId:
        """The current lease of this node."""
        return LeaseId(f"{self._uid}{self._generation:04x}")

    def server_is(self, generation: str) -> None:
        """Note the generation of Redis. A new one may have lost the latest writes, so everything is written again."""
        self._is_doubtful |= self._server not in ("", generation)
        self._server = generation

    async def announce(self, info: NodeInfo) -> bool:
        sent_at = time.monotonic()
        was_there = await self._renew(info)
        # The lease that was found may be a late renewal that was given up, after the lease had expired.
        has_lasted = was_there and time.monotonic() - self._renewed_at < LEASE
        self._renewed_at = sent_at
        if not self._has_lease or (has_lasted and not self._is_doubtful):
            self._has_lease = True
            return True
        # The lease had expired (this process was suspended, or Redis lost data). Others are cleaning up after it, so
        # everything is written again under a new lease.
        self._is_doubtful = True
        ended = self.lease
        self._generation += 1
        async with failing("the ended lease was not given up"), self.client.pipeline(transaction=False) as pipe:
            pipe.delete(self._keys.lease(ended))
            pipe.set(self._keys.partition_count(), self._keys.partitions, nx=True)
            await pipe.execute()
        await self._renew(info)
        self._is_doubtful = False
        self._changed.update(self._occupied)
        self.on_lapse()
        return False

    async def _renew(self, info: NodeInfo) -> bool:
        """Whether the lease was still there."""
        async with failing("this node's lease was not renewed"), self.client.pipeline(transaction=False) as pipe:
            pipe.set(self._keys.lease(self.lease), msgspec.msgpack.encode(info), ex=LEASE, get=True)
            pipe.sadd(self._keys.leases(), self.lease)
            before, _ = await pipe.execute()
        return before is not None

    async def withdraw(self) -> None:
        # It stays in the set, so that the reaper cleans up after it.
        async with failing("Redis did not take it"):
            await self.client.delete(self._keys.lease(self.lease))
        self._has_lease = False

    async def nodes(self) -> list[NodeInfo]:
        nodes = {info.uid: info for info in (await self._leases()).values()}
        return sorted(nodes.values(), key=lambda info: (info.name, info.uid))

    async def _leases(self) -> dict[LeaseId, NodeInfo]:
        """The live leases."""
        async with failing("the nodes could not be read"):
            leases = await self.all_leases()
            if not leases:
                return {}
            values = await self.client.mget([self._keys.lease(lease) for lease in leases])
        infos = {lease: _info(value) for lease, value in zip(leases, values, strict=True) if value is not None}
        return {lease: info for lease, info in infos.items() if info is not None}

    async def all_leases(self) -> list[LeaseId]:
        """The leases that live, and those that were not cleaned up yet. Raises errors of redis-py."""
        # Without entries that no node has written.
        leases = [lease for lease in await self.client.smembers(self._keys.leases()) if lease.isascii()]
        return [LeaseId(lease.decode()) for lease in leases]

    # Occupancy

    def set_occupancy(self, channel: Channel, subscriptions: int) -> None:
        if subscriptions:
            self._occupied[channel] = subscriptions
        else:
            self._occupied.pop(channel, None)
        self._changed[channel] = subscriptions

    async def flush(self) -> None:
        """Write changed occupancies. Raises BrokerUnavailable; those that were not written are kept for later."""
        refused: dict[Channel, int] = {}
        trouble: Exception | None = None
        while self._changed:
            batch = dict(islice(self._changed.items(), BATCH))
            for channel in batch:
                del self._changed[channel]
            try:
                async with (
                    failing("the subscribers of channels were not counted"),
                    self.client.pipeline(transaction=False) as pipe,
                ):
                    for channel, count in batch.items():
                        await self._write(pipe, channel, self.lease, count, watched=self.watches(channel))
                    replies = await pipe.execute(raise_on_error=False)
            except Exception:
                # Newer values win over these.
                self._changed = {**refused, **batch, **self._changed}
                raise
            # Somebody else's data under the keys of one channel do not hold up the others.
            errors = {
                channel: reply for channel, reply in zip(batch, replies, strict=True) if isinstance(reply, Exception)
            }
            refused |= {channel: batch[channel] for channel in errors}
            trouble = next(iter(errors.values()), trouble)
            self.dropped(sum(reply for reply in replies if not isinstance(reply, Exception)))
            if len(errors) == len(batch):
                break
        if refused:
            self._changed = {**refused, **self._changed}
            raise BrokerUnavailable(f"the subscribers of channels were not counted: {trouble}")

    async def release(self, lease: LeaseId, channels: Sequence[Channel]) -> None:
        """An expired lease occupies these watched channels no more. Raises errors of redis-py."""
        for start in range(0, len(channels), BATCH):
            async with self.client.pipeline(transaction=False) as pipe:
                for channel in channels[start : start + BATCH]:
                    await self._write(pipe, channel, lease, 0, watched=True)
                self.dropped(sum(await pipe.execute()))

    async def _write(self, client: Any, channel: Channel, lease: LeaseId, count: int, *, watched: bool) -> None:
        partition = self._keys.partition(channel)
        keys = [self._keys.occupancy(channel), self._keys.occupied(channel.app, partition)]
        if watched:
            keys += [
                self._keys.events(channel.app, partition),
                self._keys.watched(partition, channel.app, lease),
            ]
        await self._occupy(keys=keys, args=[channel.name, MOST_EVENTS, lease, count], client=client)

    async def channels(self, app: str, pattern: str, limit: int, cursor: str) -> ChannelPage:
        """The cursor is `PARTITION:LAST NAME`."""
        partition, after = _position(cursor, self._keys.partitions)
        matches = compile_pattern(translate(pattern)).match if pattern else bool
        async with failing("the channels could not be read"):
            names, following = await self._names(app, partition, after, limit)
            counts = await self._counts([Channel(app, name) for name in names if matches(name)])
        return ChannelPage(counts, following)

    async def _names(self, app: str, partition: int, after: str, limit: int) -> tuple[list[str], str]:
        """Up to `limit` names after `after` in a partition, going on to the next partitions, and the next cursor."""
        names: list[str] = []
        # Twice as many partitions each time. They hold about equally many channels, so little is read in vain.
        at_once = 1
        while partition < self._keys.partitions:
            some = range(partition, min(partition + at_once, self._keys.partitions))
            async with self.client.pipeline(transaction=False) as pipe:
                for number in some:
                    start = f"({after}" if after else "-"
                    pipe.zrangebylex(self._keys.occupied(app, number), start, "+", start=0, num=limit - len(names))
                    after = ""
                found = await pipe.execute()
            for number, part in zip(some, found, strict=True):
                names += [name.decode(errors="replace") for name in part[: limit - len(names)]]
                if len(names) == limit:
                    return names, f"{number}:{names[-1]}"
            partition, at_once = some.stop, min(2 * at_once, BATCH)
        return names, ""

    async def _counts(self, channels: list[Channel]) -> list[ChannelCount]:
        """Subscriptions on live nodes; entries of dead nodes are removed."""
        if not channels:
            return []
        async with self.client.pipeline(transaction=False) as pipe:
            for channel in channels:
                pipe.hgetall(self._keys.occupancy(channel))
            tables = await pipe.execute()
        # Read after the tables: a node has its lease before it has subscriptions.
        alive = await self._leases()
        counts = []
        for channel, table in zip(channels, tables, strict=True):
            of_nodes = {LeaseId(lease.decode(errors="replace")): _count(count) for lease, count in table.items()}
            for lease in of_nodes.keys() - alive:
                await self._write(self.client, channel, lease, 0, watched=self.watches(channel))
            total = sum(count for lease, count in of_nodes.items() if lease in alive)
            if total:
                counts.append(ChannelCount(channel.name, total))
        return counts

    # Revocations

    async def revoke(self, revocation: Revocation, *, ahead: int | None = None) -> Revocation:
        async with failing("the revocation was not stored"):
            before, expire_at = await self._store(self.client, revocation, ahead)
        return structs.replace(revocation, issued_before=before, expire_at=expire_at)

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        async with failing("revocations were not stored again"):
            for start in range(0, len(revocations), BATCH):
                async with self.client.pipeline(transaction=False) as pipe:
                    for revocation in revocations[start : start + BATCH]:
                        await self._store(pipe, revocation, None)
                    await pipe.execute()

    def _store(self, client: Any, revocation: Revocation, ahead: int | None) -> Any:
        which = _Which(revocation.app, revocation.user, revocation.jti, revocation.channel)
        field = msgspec.msgpack.encode(which if which.channel else which[:3])
        arguments = [field, revocation.issued_before, revocation.expire_at, "" if ahead is None else ahead]
        return self._revoke(keys=[self._keys.revoked()], args=arguments, client=client)

    async def revocations(self) -> list[Revocation]:
        async with failing("the revocations could not be read"):
            table = await self.client.hgetall(self._keys.revoked())
            known = {}
            for number, (field, value) in enumerate(table.items()):
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
                if (revocation := _revocation(field, value)) is not None:
                    known[field] = revocation
            now = time.time()
            over = [field for field, each in known.items() if each.is_over(now)]
            for start in range(0, len(over), BATCH):
                await self._forget(keys=[self._keys.revoked()], args=[KEPT_BEYOND, *over[start : start + BATCH]])
        for field in over:
            del known[field]
        return list(known.values())


@asynccontextmanager
async def failing(what: str) -> AsyncIterator[None]:
    """Turns errors of redis-py into BrokerUnavailable."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(f"{what}: {error}") from None


def _count(text: bytes) -> int:
    """A number of subscriptions as nodes write it; 0 for anything else."""
    return int(text) if text.isdigit() and len(text) < MOST_DIGITS else 0


def _info(value: bytes) -> NodeInfo | None:
    """The description of a node in its lease; None if another version wrote it and it cannot be read."""
    try:
        return msgspec.msgpack.decode(value, type=NodeInfo)
    except (ValueError, RecursionError):
        return None


def _revocation(field: bytes, value: bytes) -> Revocation | None:
    """A stored revocation; None if this version cannot read it, so that it is not in force here."""
    try:
        which = msgspec.msgpack.decode(field, type=_Which)
        issued_before, expire_at = map(int, value.split())
        return msgspec.convert({**which._asdict(), "issued_before": issued_before, "expire_at": expire_at}, Revocation)
    except (ValueError, RecursionError) as error:
        logger.warning("a revocation could not be read and is not in force on this node: %s", error)
        return None


def _position(cursor: str, partitions: int) -> tuple[int, str]:
    """Raises RequestError."""
    if not cursor:
        return 0, ""
    found = _CURSOR.fullmatch(cursor)
    if found is None or int(found[1]) >= partitions:
        raise RequestError(BAD_REQUEST, "cursor: not from an earlier answer")
    return int(found[1]), found[2]


def client_of(target: Target, settings: RedisSettings, name: str) -> Any:
    """A client of redis-py for a server; it connects when it is first used."""
    return Redis(
        host=target.host,
        port=target.port,
        unix_socket_path=target.path or None,
        username=target.username or None,
        password=target.password or None,
        db=target.database,
        ssl=target.tls,
        ssl_ca_certs=str(settings.tls_ca_file) if settings.tls_ca_file is not None else None,
        socket_connect_timeout=settings.connect_timeout,
        socket_timeout=settings.publish_timeout,
        # One retry, for a pooled connection that a restarted Redis has closed; after that the caller tries again later.
        retry=Retry(NoBackoff(), 1),
        client_name=name,
    )
