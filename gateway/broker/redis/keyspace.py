"""Every key and bus channel in Redis, built here and nowhere else.

    {prefix}:{{partition}}:{kind}:{length of app}:{app}:{rest}

The partition in braces is the hash tag of Redis Cluster: what belongs to one channel lies in one slot, and the number
of partitions bounds the number of slots a node talks to. `rest` is the channel's name or a node's id and stands last,
so that with the length before `app` no two keys are equal; it may hold braces, since only the first pair counts. The
prefix may not (settings).
"""

from binascii import crc_hqx
from functools import lru_cache
from typing import NewType

from gateway.control import NodeId
from gateway.messages import Channel

# What the entries of a node count under: its id and a generation, which grows when its lease has run out.
LeaseId = NewType("LeaseId", str)

# Names of one app that are remembered: the key of a busy channel is built once.
REMEMBERED = 16_384


class Keys:
    """The names of one installation."""

    def __init__(self, prefix: str, partitions: int, database: int = 0) -> None:
        self.prefix = prefix
        # Keys of different databases are different keys; bus channels belong to the server.
        self._database = f"@{database}" if database else ""
        self.partitions = partitions
        self.bus = lru_cache(maxsize=REMEMBERED)(self._bus)

    def partition(self, channel: Channel) -> int:
        """CRC-16/XMODEM, the function of Redis Cluster itself."""
        return crc_hqx(f"{len(channel.app)}:{channel.app}:{channel.name}".encode(), 0) % self.partitions

    def _bus(self, channel: Channel) -> bytes:
        """The bus channel of a channel's publications. `bus` remembers it."""
        return self._of_channel(f"bus{self._database}", channel)

    def result(self, channel: Channel, idempotency_key: str) -> bytes:
        """The result of an idempotent publish."""
        name = f"{len(channel.name)}:{channel.name}:{idempotency_key}"
        return self._key(self.partition(channel), "result", channel.app, name)

    def meta(self, channel: Channel) -> bytes:
        """A hash: epoch, newest offset and newest version of a channel's stream."""
        return self._of_channel("meta", channel)

    def stream(self, channel: Channel) -> bytes:
        """A stream: the channel's newest publications."""
        return self._of_channel("stream", channel)

    def presence(self, channel: Channel) -> bytes:
        """A hash: client id -> its node, and who it is."""
        return self._of_channel("presence", channel)

    def users(self, channel: Channel) -> bytes:
        """A hash: user -> connections of the user in the channel."""
        return self._of_channel("users", channel)

    def held(self, partition: int, app: str, lease: LeaseId) -> bytes:
        """A set: names of the channels of a partition that have members under a lease."""
        return self._key(partition, "held", app, lease)

    def leaving(self, partition: int, app: str) -> bytes:
        """A sorted set: users who have left a channel and may come back -> until when (Unix ms)."""
        return self._key(partition, "leaving", app, "")

    def farewells(self, partition: int, app: str) -> bytes:
        """A hash: the same users -> what is told when they do not."""
        return self._key(partition, "farewells", app, "")

    def reaper(self) -> bytes:
        """The lease of the node that cleans up after the others."""
        return self._key(0, "reaper", "", "")

    def values(self, channel: Channel) -> bytes:
        """A hash: the newest value of each key of a channel."""
        return self._of_channel("values", channel)

    def times(self, channel: Channel) -> bytes:
        """A sorted set: the same keys -> when they were published (Unix ms)."""
        return self._of_channel("times", channel)

    def occupancy(self, channel: Channel) -> bytes:
        """A hash: lease -> subscriptions of the channel on its node."""
        return self._of_channel("occupancy", channel)

    def occupied(self, app: str, partition: int) -> bytes:
        """A sorted set, all scores zero: names of the occupied channels of a partition."""
        return self._key(partition, "occupied", app, "")

    def lease(self, lease: LeaseId) -> bytes:
        """What a node says of itself; lives as long as its lease."""
        return self._key(0, "lease", "", lease)

    def leases(self) -> bytes:
        """A set: leases that live, or that nobody has cleaned up after."""
        return self._key(0, "leases", "", "")

    def revoked(self) -> bytes:
        """A hash: what is revoked."""
        return self._key(0, "revoked", "", "")

    def control(self) -> bytes:
        """The bus channel of control messages to all nodes."""
        return self._key(0, f"control{self._database}", "", "")

    def control_log(self) -> bytes:
        """A stream: the newest control messages to all nodes."""
        return self._key(0, "control-log", "", "")

    def node(self, uid: NodeId) -> bytes:
        """The bus channel of one node: its heartbeat, and answers to its control messages."""
        return self._key(0, f"node{self._database}", "", uid)

    def generation(self) -> bytes:
        """A hash: which generation of the server this is."""
        return self._key(0, "generation", "", "")

    def partition_count(self) -> bytes:
        """The number of partitions that this installation has; does not depend on it."""
        return f"{self.prefix}:partitions".encode()

    def _of_channel(self, kind: str, channel: Channel) -> bytes:
        return self._key(self.partition(channel), kind, channel.app, channel.name)

    def _key(self, partition: int, kind: str, app: str, rest: str) -> bytes:
        return f"{self.prefix}:{{{partition}}}:{kind}:{len(app)}:{app}:{rest}".encode()
