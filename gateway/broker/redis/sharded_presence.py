"""The Presence port over all shards: each keeps the members of its own channels."""

from gateway.broker.base import CountsDone, MembersDone
from gateway.broker.redis.shard import Shard
from gateway.broker.redis.topology import Topology
from gateway.messages import Channel, ClientId, ClientInfo, PresenceRules


class ShardedPresence:
    """Asks the shard of the channel."""

    def __init__(self, topology: Topology[Shard]) -> None:
        self._topology = topology

    def enter(self, channel: Channel, member: ClientInfo, rules: PresenceRules) -> None:
        self._topology.shard_of(channel).presence.enter(channel, member, rules)

    def leave(self, channel: Channel, client: ClientId) -> None:
        self._topology.shard_of(channel).presence.leave(channel, client)

    def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
        self._topology.shard_of(channel).presence.members(channel, limit, room, done)

    def counts(self, channel: Channel, done: CountsDone) -> None:
        self._topology.shard_of(channel).presence.counts(channel, done)

    def repeat(self) -> None:
        """Send all members of this node again: its lease had expired."""
        for shard in self._topology.all:
            shard.presence.repeat()
