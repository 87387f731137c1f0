"""Which server has which partition. Nothing above the broker knows whether there is one server or many."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from gateway.broker.redis.keyspace import Keys
from gateway.messages import Channel

S = TypeVar("S")


class Topology(Generic[S]):
    """Shards by partition: servers, as a node or a publisher uses them."""

    def __init__(self, keys: Keys, shards: Sequence[S]) -> None:
        """`shards`: one per partition; a shard may have many partitions."""
        self._keys = keys
        self._shards = shards
        # Different ones, in the order of their first partitions.
        self.all = list(dict.fromkeys(shards))
        # Has everything that exists once per cluster: control messages and their log, the registry, the reaper's lease.
        self.home = shards[0]

    def shard_of(self, channel: Channel) -> S:
        """The server of a channel."""
        return self._shards[self._keys.partition(channel)]

    def partitions_of(self, shard: S) -> list[int]:
        """The partitions that a server has."""
        return [partition for partition, each in enumerate(self._shards) if each is shard]
