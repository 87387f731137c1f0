"""Events in the streams of all servers, read by one node at a time."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gateway.broker.base import Ending, Happening
from gateway.broker.redis.election import Election
from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.broker.redis.link import pack
from gateway.broker.redis.redis_registry import RedisRegistry, failing
from gateway.broker.redis.shard import Shard
from gateway.broker.redis.topology import Topology
from gateway.errors import BrokerUnavailable
from gateway.messages import DEFAULT_APP, Channel

# Ids of streams are smaller than any entry's.
BEGINNING = "0-0"
# The stream of ends, in the ids of events.
HOME = "home"
# Separates the stream from the entry in the id of an event.
SEPARATOR = "/"


class RedisEventLog:
    """Implements the port. Every node with hooks for events has one; the one of the elected node reads."""

    lasting = True

    def __init__(self, registry: RedisRegistry, topology: Topology[Shard], keys: Keys) -> None:
        self._registry = registry
        self._topology = topology
        self._election = Election(registry.client, keys.teller())
        # Never called: other nodes write, so the log is looked at regularly.
        self.on_news: Callable[[], object] = lambda: None
        # By their names in the ids of events: the servers and keys, and up to where they were read.
        self._streams: dict[str, tuple[Shard, bytes]] = {HOME: (topology.home, keys.endings())}
        for shard in topology.all:
            for partition in topology.partitions_of(shard):
                self._streams[str(partition)] = (shard, keys.events(DEFAULT_APP, partition))
        self._read_to: dict[str, str] = {}
        self._is_elected = False
        # The one under which was read.
        self._lease = LeaseId("")

    async def take(self, ends: int, changes: int) -> Sequence[Happening] | None:
        lease = self._registry.lease
        async with failing("events for hooks could not be read"):
            self._is_elected = await self._election.is_won_by(lease)
        if not self._is_elected or lease != self._lease:
            # With a new lease, Redis may be another server or have lost data, and give ids again that were read.
            self._lease = lease
            was_reading = bool(self._read_to)
            self._read_to.clear()
            if was_reading or not self._is_elected:
                return None
        # At least one of each partition if any: which have some is not known.
        each_changes = -(-changes // (len(self._streams) - 1))
        found: list[Happening] = []
        trouble: Exception | None = None
        for shard in self._topology.all:
            streams = [name for name, (each, _) in self._streams.items() if each is shard]
            most = {name: ends if name == HOME else each_changes for name in streams}
            names = [name for name in streams if most[name]]
            commands = [self._read(name, most[name]) for name in names]
            replies = await shard.read_link.ask_all(commands)
            for name, reply in zip(names, replies, strict=True):
                if isinstance(reply, Exception):
                    trouble = reply
                    continue
                for number, fields in reply:
                    self._read_to[name] = number.decode()
                    found.append(_happening(f"{name}{SEPARATOR}{number.decode()}", fields))
        # What was read is not read again, so it counts even if other streams cannot be read.
        if trouble is not None and not found:
            raise BrokerUnavailable(f"events for hooks could not be read: {trouble}")
        # Those of one stream are in its order.
        found.sort(key=lambda happening: happening.time)
        return found

    def _read(self, name: str, most: int) -> bytes:
        return pack("XRANGE", self._streams[name][1], f"({self._read_to.get(name, BEGINNING)}", "+", "COUNT", most)

    async def finish(self, ids: Sequence[str]) -> None:
        by_stream: dict[str, list[str]] = {}
        for each in ids:
            name, _, number = each.partition(SEPARATOR)
            by_stream.setdefault(name, []).append(number)
        for name, numbers in by_stream.items():
            shard, key = self._streams[name]
            for reply in await shard.read_link.ask_all([pack("XDEL", key, *numbers)]):
                if isinstance(reply, Exception):
                    raise BrokerUnavailable(f"events that hooks have handled were not removed: {reply}")

    async def stop(self) -> None:
        """Let another node read at once. Safe to call twice, and before anything was read."""
        if self._is_elected:
            self._is_elected = False
            with suppress(BrokerUnavailable):
                async with failing("another node reads events later"):
                    await self._election.step_down(self._registry.lease)


def _happening(number: str, fields: list[bytes]) -> Happening:
    """An entry of a stream. One that no node has written has nothing to tell."""
    told: dict[bytes, Any] = dict(zip(fields[::2], fields[1::2], strict=True))
    time = int(number.partition(SEPARATOR)[2].partition("-")[0])
    if b"n" in told:
        channel = Channel(DEFAULT_APP, told[b"n"].decode(errors="replace"))
        return Happening(number, time, channel=channel, is_occupied=told.get(b"o") == b"1")
    code, reason = told.get(b"c", b""), told.get(b"r", b"").decode(errors="replace")
    return Happening(number, time, told.get(b"w", b""), Ending(int(code) if code.isdigit() else 0, reason))
