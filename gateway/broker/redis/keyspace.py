"""Every key and bus channel in Redis, built here and nowhere else.

    {prefix}:{{tag}}:{kind}:{length of app}:{app}:{rest}

The tag in braces is the hash tag of Redis Cluster and stands for a partition: all keys of a channel are in one slot,
and a node uses at most as many slots as there are partitions. Keys that exist once per cluster have the tag `home`,
whatever the number of partitions. `rest` is the name of a channel or the id of a node. It comes last, so that with the
length before `app` all keys are different. It may contain braces, since only the first pair counts; the prefix may not
(settings).
"""

from binascii import crc_hqx
from functools import lru_cache
from itertools import count
from typing import NewType

from gateway.control import NodeId
from gateway.messages import Channel

# The id of a lease: that of its node and a generation, which grows when a lease of the node has expired.
LeaseId = NewType("LeaseId", str)

# Channels whose bus channel and partition are cached, so that those of a busy channel are computed once.
REMEMBERED = 16_384
# Hash slots of Redis Cluster.
SLOTS = 16_384
# The tag of keys that exist once per cluster.
HOME = "home"


def slot(tag: str) -> int:
    """The hash slot of the keys with a tag: CRC-16/XMODEM, the function of Redis Cluster."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def partition_tags(partitions: int) -> list[str]:
    """The tag of each partition: a short number whose slot lies well inside the partition's own share of all slots.

    If servers divide the slots evenly, they differ by at most two partitions; they do not differ at all if the number
    of servers divides the number of partitions. `partitions`: at most half of SLOTS.
    """
    tags = [""] * partitions
    missing = partitions
    for number in count():
        tag = str(number)
        partition, inside = divmod(slot(tag) * partitions, SLOTS)
        # The middle half, since the shares of servers and of partitions end at different slots.
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
        # Databases separate keys, but not bus channels, which belong to the server.
        self._database = f"@{database}" if database else ""
        self.partitions = partitions
        self._tags = partition_tags(partitions)
        # One entry per channel: on a node with many channels the entries are a tenth of its memory.
        self._place = lru_cache(maxsize=REMEMBERED)(self._find_place)

    def _find_place(self, channel: Channel) -> tuple[int, bytes]:
        """The number of a channel's partition, and the bus channel of its publications."""
        partition = crc_hqx(f"{len(channel.app)}:{channel.app}:{channel.name}".encode(), 0) % self.partitions
        return partition, self._of_partition(partition, f"bus{self._database}", channel.app, channel.name)

    def partition(self, channel: Channel) -> int:
        """The number of a channel's partition, from 0."""
        return self._place(channel)[0]

    def bus(self, channel: Channel) -> bytes:
        """The bus channel of a channel's publications."""
        return self._place(channel)[1]

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
        """A hash: client id -> the lease of its node, and its info."""
        return self._of_channel("presence", channel)

    def users(self, channel: Channel) -> bytes:
        """A hash: user -> connections of the user in the channel."""
        return self._of_channel("users", channel)

    def held(self, partition: int, app: str, lease: LeaseId) -> bytes:
        """A set: names of the channels of a partition that have members under a lease."""
        return self._of_partition(partition, "held", app, lease)

    def leaving(self, partition: int, app: str) -> bytes:
        """A sorted set: users who have left a channel and may come back -> deadline (Unix ms)."""
        return self._of_partition(partition, "leaving", app, "")

    def farewells(self, partition: int, app: str) -> bytes:
        """A hash: the same users -> the leave that is sent if they do not."""
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

    def watched(self, partition: int, app: str, lease: LeaseId) -> bytes:
        """A set: names of the channels of a partition that have an occupancy under a lease, and are watched."""
        return self._of_partition(partition, "watched", app, lease)

    def events(self, app: str, partition: int) -> bytes:
        """A stream: occupancies of channels of a partition that have begun or ended, until they have been told."""
        return self._of_partition(partition, "events", app, "")

    def endings(self) -> bytes:
        """A stream: connections and subscriptions that have ended, until they have been told."""
        return self._key(HOME, "endings", "", "")

    def ledger(self, uid: NodeId) -> bytes:
        """A hash: connections and subscriptions of a node -> whose they are; "" -> the newest generation of its lease
        that has written it."""
        return self._key(HOME, "ledger", "", uid)

    def closed_books(self, uid: NodeId) -> bytes:
        """There if another node has ended something in the ledger of this one."""
        return self._key(HOME, "closed-books", "", uid)

    def teller(self) -> bytes:
        """The lease of the node that tells the application of events."""
        return self._key(HOME, "teller", "", "")

    def listener(self) -> bytes:
        """The lease of the node that listens to services that emit."""
        return self._key(HOME, "listener", "", "")

    def listened(self) -> bytes:
        """A hash: until when such a node listened, and whom the last one has handed over to."""
        return self._key(HOME, "listened", "", "")

    def listening(self) -> bytes:
        """The bus channel of the marks that such nodes hear between what is emitted."""
        return self._key(HOME, f"listening{self._database}", "", "")

    def lease(self, lease: LeaseId) -> bytes:
        """The description of a node, which expires with its lease."""
        return self._key(HOME, "lease", "", lease)

    def leases(self) -> bytes:
        """A set: leases that live, or that have not been cleaned up yet."""
        return self._key(HOME, "leases", "", "")

    def revoked(self) -> bytes:
        """A hash: revocations."""
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
        """A hash: the generation of this server."""
        return self._key(HOME, "generation", "", "")

    def settings(self) -> bytes:
        """A hash: the settings that publishers need. The key itself does not depend on the number of partitions."""
        return self._key(HOME, "settings", "", "")

    def partition_count(self) -> bytes:
        """The number of partitions of this installation. The key itself does not depend on that number."""
        return self._key(HOME, "partitions", "", "")

    def _of_channel(self, kind: str, channel: Channel) -> bytes:
        return self._of_partition(self.partition(channel), kind, channel.app, channel.name)

    def _of_partition(self, partition: int, kind: str, app: str, rest: str) -> bytes:
        return self._key(self._tags[partition], kind, app, rest)

    def _key(self, tag: str, kind: str, app: str, rest: str) -> bytes:
        return f"{self.prefix}:{{{tag}}}:{kind}:{len(app)}:{app}:{rest}".encode()
