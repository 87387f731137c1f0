"""Every key and bus channel in Redis, built here and nowhere else.

    {prefix}:{{tag}}:{kind}:{length of app}:{app}:{rest}

The tag in braces is the hash tag of Redis Cluster. It stands for a partition: what belongs to one channel lies in one
slot, and the number of partitions bounds the number of slots that a node talks to. What there is one of per cluster has
the tag `home`, whatever the number of partitions. `rest` is the channel's name or a node's id and stands last, so that
with the length before `app` no two keys are equal; it may hold braces, since only the first pair counts. The prefix may
not (settings).
"""

from binascii import crc_hqx
from functools import lru_cache
from itertools import count
from typing import NewType

from gateway.control import NodeId
from gateway.messages import Channel

# What the entries of a node count under: its id and a generation, which grows when its lease has run out.
LeaseId = NewType("LeaseId", str)

# Channels whose bus channel and partition are remembered: those of a busy channel are found out once.
REMEMBERED = 16_384
# Hash slots of Redis Cluster.
SLOTS = 16_384
# The tag of what there is one of per cluster.
HOME = "home"


def slot(tag: str) -> int:
    """The hash slot of the keys with a tag: CRC-16/XMODEM, the function of Redis Cluster."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def partition_tags(partitions: int) -> list[str]:
    """The tag of each partition: a short number whose slot lies well inside the partition's own share of all slots.

    Where servers divide the slots evenly, no server has more than two partitions more than another, and none has more
    where the number of servers divides that of partitions. `partitions`: half of SLOTS at most.
    """
    tags = [""] * partitions
    missing = partitions
    for number in count():
        tag = str(number)
        partition, inside = divmod(slot(tag) * partitions, SLOTS)
        # The middle half: the shares of servers and of partitions do not end at the same slots.
        if not tags[partition] and SLOTS <= 4 * inside < 3 * SLOTS:
            tags[partition] = tag
            missing -= 1
            if not missing:
                break
    return tags


class Keys:
    """The names of one installation."""

    def __init__(self, prefix: str, partitions: int, database: int = 0) -> None:
        self.prefix = prefix
        # Keys of different databases are different keys; bus channels belong to the server.
        self._database = f"@{database}" if database else ""
        self.partitions = partitions
        self._tags = partition_tags(partitions)
        self.bus = lru_cache(maxsize=REMEMBERED)(self._bus)
        self.partition = lru_cache(maxsize=REMEMBERED)(self._partition)

    def _partition(self, channel: Channel) -> int:
        """The number of a channel's partition, from 0. `partition` remembers it."""
        return crc_hqx(f"{len(channel.app)}:{channel.app}:{channel.name}".encode(), 0) % self.partitions

    def _bus(self, channel: Channel) -> bytes:
        """The bus channel of a channel's publications. `bus` remembers it."""
        return self._of_channel(f"bus{self._database}", channel)

    def result(self, channel: Channel, idempotency_key: str) -> bytes:
        """The result of an idempotent publish."""
        name = f"{len(channel.name)}:{channel.name}:{idempotency_key}"
        return self._of_partition(self.partition(channel), "result", channel.app, name)

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
        return self._of_partition(partition, "held", app, lease)

    def leaving(self, partition: int, app: str) -> bytes:
        """A sorted set: users who have left a channel and may come back -> until when (Unix ms)."""
        return self._of_partition(partition, "leaving", app, "")

    def farewells(self, partition: int, app: str) -> bytes:
        """A hash: the same users -> what is told when they do not."""
        return self._of_partition(partition, "farewells", app, "")

    def reaper(self) -> bytes:
        """The lease of the node that cleans up after the others."""
        return self._key(HOME, "reaper", "", "")

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
        return self._of_partition(partition, "occupied", app, "")

    def lease(self, lease: LeaseId) -> bytes:
        """What a node says of itself; lives as long as its lease."""
        return self._key(HOME, "lease", "", lease)

    def leases(self) -> bytes:
        """A set: leases that live, or that nobody has cleaned up after."""
        return self._key(HOME, "leases", "", "")

    def revoked(self) -> bytes:
        """A hash: what is revoked."""
        return self._key(HOME, "revoked", "", "")

    def control(self) -> bytes:
        """The bus channel of control messages to all nodes."""
        return self._key(HOME, f"control{self._database}", "", "")

    def control_log(self) -> bytes:
        """A stream: the newest control messages to all nodes."""
        return self._key(HOME, "control-log", "", "")

    def node(self, uid: NodeId) -> bytes:
        """The bus channel of one node: its heartbeat, and answers to its control messages."""
        return self._key(HOME, f"node{self._database}", "", uid)

    def generation(self) -> bytes:
        """A hash: which generation of the server this is."""
        return self._key(HOME, "generation", "", "")

    def partition_count(self) -> bytes:
        """The number of partitions that this installation has; does not depend on it."""
        return self._key(HOME, "partitions", "", "")

    def _of_channel(self, kind: str, channel: Channel) -> bytes:
        return self._of_partition(self.partition(channel), kind, channel.app, channel.name)

    def _of_partition(self, partition: int, kind: str, app: str, rest: str) -> bytes:
        return self._key(self._tags[partition], kind, app, rest)

    def _key(self, tag: str, kind: str, app: str, rest: str) -> bytes:
        return f"{self.prefix}:{{{tag}}}:{kind}:{len(app)}:{app}:{rest}".encode()
