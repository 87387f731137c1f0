"""The broker over Redis: each channel is handled by its shard, control messages by the home shard."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from gateway.broker.base import Health, HistoryDone, PublishDone, Receiver, Standing, SubscribeDone
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import lua, relay
from gateway.broker.redis.control_log import KEPT, ControlLog
from gateway.broker.redis.control_messages import REQUEST, ControlMessages, without_head
from gateway.broker.redis.event_log import RedisEventLog
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.ledger import Ledger
from gateway.broker.redis.link import pack
from gateway.broker.redis.outage import LOOK_INTERVAL, Outage
from gateway.broker.redis.reaper import Reaper
from gateway.broker.redis.redis_emitters import RedisEmitters
from gateway.broker.redis.redis_registry import RedisRegistry
from gateway.broker.redis.relay import Relay
from gateway.broker.redis.shard import Shard
from gateway.broker.redis.sharded_presence import ShardedPresence
from gateway.broker.redis.topology import Topology
from gateway.config.settings import EmitterSettings, RedisSettings
from gateway.control import Control, ControlResult, NodeId
from gateway.errors import BrokerUnavailable
from gateway.guard import Guard
from gateway.log import LogLimit
from gateway.messages import Channel, HistoryQuery, Latest, PresenceRules, Publication, PublishOptions, Retention
from gateway.metrics import Metrics
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

# Seconds between warnings of messages that cannot be read; all are counted.
WARN_INTERVAL = 10.0


def _no_rules(channel: Channel) -> PresenceRules:
    return PresenceRules()


class RedisBroker:
    """Implements the Broker port over the shards; today there is one."""

    def __init__(
        self,
        settings: RedisSettings,
        uid: NodeId,
        keys: Keys,
        registry: RedisRegistry,
        metrics: Metrics,
        rules: Callable[[Channel], PresenceRules] = _no_rules,
    ) -> None:
        """The registry is started and stopped with the broker. `rules`: of the channels' namespaces."""
        self._settings = settings
        self._uid = uid
        self._keys = keys
        self._registry = registry
        self._metrics = metrics
        self._guard = guard = Guard(metrics.faults)
        self._receiver: Receiver | None = None
        self._unreadable_lines = LogLimit(WARN_INTERVAL)
        self._control = ControlMessages(uid, self._reply)
        self._log = ControlLog(registry.client, keys.control_log(), self._on_control)
        shard = Shard(
            settings,
            uid,
            keys,
            metrics,
            guard,
            lease=lambda: registry.lease,
            own={keys.control(): self._on_request, keys.node(uid): self._on_told},
            unreadable=self._warn,
            learned=registry.server_is,
            cut=self._log.cut,
            catch_up=self._catch_up,
        )
        self.topology = topology = Topology(keys, [shard] * keys.partitions)
        self._shard_of = topology.shard_of
        self._relay = Relay(uid, keys, topology.home.publish_link, settings.pending_limit, metrics)
        self.presence = ShardedPresence(topology)
        outage = Outage(self.health)
        registry.explains = self._explains = outage.explains
        self.ledger = Ledger(
            topology.home.read_link, uid, lambda: registry.lease, keys, metrics, guard, outage.explains
        )
        self.event_log = RedisEventLog(registry, topology, keys)
        registry.on_lapse = self._lapsed
        registry.dropped = self.ledger.dropped
        self._outage = Repeating(guard, "outage", LOOK_INTERVAL, outage.look)
        self._reaper = Reaper(registry, topology, keys, self.ledger, rules, guard, outage.explains)
        metrics.broker_up.read = lambda: float(self.health().ok)
        metrics.broker_pending.read = lambda: sum(shard.publish_link.pending_bytes for shard in topology.all)

    # Life

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        try:
            for shard in self.topology.all:
                await shard.connect(receiver)
            await self._registry.start()
            for shard in self.topology.all:
                await shard.listen()
        except BaseException:
            await self.stop()
            raise
        self._reaper.start()
        self.ledger.start()
        self._outage.start()

    async def stop(self) -> None:
        await self._outage.stop()
        await self._reaper.stop()
        await self.ledger.stop()
        await self.event_log.stop()
        for shard in self.topology.all:
            await shard.stop()
        await self._registry.stop()

    def health(self) -> Health:
        return next((health for shard in self.topology.all if not (health := shard.health()).ok), Health(True))

    def _lapsed(self) -> None:
        """The lease of this node had expired: write everything again under the new one."""
        self.presence.repeat()
        self.ledger.claim()

    def emitters(self, names: EmitterSettings) -> RedisEmitters:
        """What services emit through the home shard. Starts and stops by itself, while the broker is started."""
        link = self.topology.home.publish_link
        return RedisEmitters(
            self._settings,
            names,
            self._uid,
            self._keys,
            self._registry,
            link,
            self._metrics,
            self._guard,
            self._explains,
        )

    # Channels

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        self._shard_of(publication.channel).publisher.publish(publication, options, done)

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        self._shard_of(channel).reads.read(channel, history, query, done)

    def compare(self, standings: Sequence[Standing], elsewhere: Callable[[Standing], None]) -> None:
        groups: dict[Shard, list[Standing]] = {}
        for standing in standings:
            groups.setdefault(self._shard_of(standing.channel), []).append(standing)
        for shard, group in groups.items():
            shard.reads.compare(group, elsewhere)

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        self._shard_of(channel).reads.values(channel, latest, done)

    async def clear(self, channel: Channel) -> None:
        try:
            await self._shard_of(channel).publish_link.ask("DEL", self._keys.stream(channel))
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"Redis refused to clear the stream: {error}") from None

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        self._shard_of(channel).subscribe(channel, done)

    def unsubscribe(self, channel: Channel) -> None:
        self._shard_of(channel).unsubscribe(channel)

    def _warn(self, channel: Channel | None, error: EnvelopeError) -> None:
        self._metrics.broker_invalid.add()
        # While one version replaces another, there may be thousands a second.
        if (suppressed := self._unreadable_lines.passes()) is not None:
            where = {"channel": channel.name} if channel is not None else {}
            logger.warning("data in Redis could not be read: %s", error, extra=suppressed | where)

    # Control messages, through the home shard

    async def control(self, message: Control) -> ControlResult:
        alive = {info.uid for info in await self._registry.nodes()}
        return await self._control.ask(message, alive | {self._uid}, self._publish_control)

    async def relay(self, node: NodeId, request: bytes, seconds: float) -> bytes | None:
        return await self._relay.ask(node, request, seconds)

    def _on_told(self, payload: bytes) -> None:
        """Something came for this node alone. Raises EnvelopeError."""
        assert self._receiver is not None
        if payload.startswith(relay.REQUEST):
            self._relay.on_request(payload, self._receiver)
        elif payload.startswith(relay.ANSWER):
            self._relay.on_answer(payload)
        else:
            self._control.on_reply(payload)

    async def _publish_control(self, payload: bytes) -> None:
        command = ("EVALSHA", lua.CONTROL.sha, 1, self._keys.control_log(), self._keys.control(), REQUEST)
        try:
            await self.topology.home.publish_link.ask(*command, payload, KEPT)
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"Redis refused the control message: {error}") from None

    def _on_request(self, payload: bytes) -> None:
        """A control message came over the bus. Raises EnvelopeError."""
        self._log.take(without_head(payload, REQUEST))

    def _on_control(self, payload: bytes) -> None:
        assert self._receiver is not None
        try:
            self._control.on_request(payload, self._receiver)
        except EnvelopeError as error:
            self._warn(None, error)
        except Exception:
            self._guard.failed("control")

    def _reply(self, node: NodeId, payload: bytes) -> None:
        link = self.topology.home.publish_link.current
        if link is not None:
            link.send(pack(b"PUBLISH", self._keys.node(node), payload), _ignore)

    async def _catch_up(self) -> None:
        """Learn about revocations and disconnects before anything is delivered."""
        assert self._receiver is not None
        await self._receiver.catch_up()
        if not await self._log.catch_up():
            self._receiver.on_control_lost()


def _ignore(reply: Any) -> None:
    pass
