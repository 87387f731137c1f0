"""The broker over Redis: one link that publishes, one that reads streams, one that is subscribed."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from gateway.broker import envelope
from gateway.broker.base import Health, HistoryDone, PublishDone, Receiver, Standing, SubscribeDone
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import generation, lua, stream_commands
from gateway.broker.redis.control_log import KEPT, ControlLog
from gateway.broker.redis.control_messages import REQUEST, ControlMessages, without_head
from gateway.broker.redis.generation import GenerationWatch
from gateway.broker.redis.heartbeat import HEARTBEAT, Heartbeat
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import Link, connect, pack
from gateway.broker.redis.reaper import Reaper
from gateway.broker.redis.redis_presence import RedisPresence
from gateway.broker.redis.redis_registry import RedisRegistry
from gateway.broker.redis.stream_reads import StreamReads
from gateway.broker.redis.subscriptions import Subscriptions
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings
from gateway.control import Control, ControlResult, NodeId
from gateway.errors import BrokerUnavailable, OutcomeUnknown, RequestError
from gateway.guard import Guard
from gateway.log import LogLimit
from gateway.messages import (
    PUBLISHED,
    Channel,
    Event,
    HistoryQuery,
    Latest,
    PresenceRules,
    Publication,
    PublishOptions,
    PublishResult,
    Retention,
    User,
)
from gateway.metrics import Metrics
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

# Seconds between warnings of messages that cannot be read; all are counted.
WARN_INTERVAL = 10.0
# What one user may have under way, of what is left for all. Alone it gets a fifth of the limit, for which the others
# wait; two get a sixth each.
SHARE = 0.25


def _no_rules(channel: Channel) -> PresenceRules:
    return PresenceRules()


class RedisBroker:
    """Standalone Redis or Valkey, over TCP, TLS or a Unix socket."""

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
        assert settings.url is not None
        self._target = Target.of(settings.url.get_secret_value())
        self._settings = settings
        self._uid = uid
        self._keys = keys
        self._registry = registry
        self._metrics = metrics
        self._guard = guard = Guard(metrics.faults)
        self._receiver: Receiver | None = None
        name = self._target.name
        self._publisher = KeptLink("publish", name, self._open_publisher, _ignore, metrics, guard)
        self._reader = KeptLink("read", name, self._open_reader, _ignore, metrics, guard)
        self._subscriber = KeptLink("subscribe", name, self._open_subscriber, self._cut, metrics, guard)
        self.presence = RedisPresence(self._reader, lambda: registry.lease, keys, metrics)
        registry.on_lapse = self.presence.repeat
        self._reads = StreamReads(self._reader, keys, self._after_error, self._warn)
        self._reaper = Reaper(registry, self.presence, keys, rules, guard)
        self._subscribed = False
        # Bytes of publishes by whose they are.
        self._under_way: dict[User | None, int] = {}
        self._unreadable_lines = LogLimit(WARN_INTERVAL)
        self._heartbeat = Heartbeat(
            self._publisher,
            keys.node(uid),
            settings.heartbeat_interval,
            lambda: self._subscriber.abort("this node does not hear itself"),
        )
        self._watch = GenerationWatch((self._publisher, self._reader), keys.generation(), self._server_changed)
        self._beating = Repeating(guard, "heartbeat", settings.heartbeat_interval, self._beat)
        self._control = ControlMessages(uid, self._reply)
        self._log = ControlLog(registry.client, keys.control_log(), self._on_control)
        metrics.broker_up.read = lambda: float(self.health().ok)
        metrics.broker_pending.read = lambda: self._publisher.current.pending_bytes if self._publisher.current else 0

    # Life

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._subscriptions = Subscriptions(self._settings.unsubscribe_linger, self._guard)
        self._own = (self._keys.control(), self._keys.node(self._uid))
        self._limit: float | None = self._settings.connect_timeout
        try:
            await self._publisher.start()
            await self._reader.start()
            await self._registry.start()
            await self._subscriber.start()
        except BaseException:
            await self.stop()
            raise
        self._limit = None
        self._beating.start()
        self._reaper.start()

    async def stop(self) -> None:
        await self._reaper.stop()
        await self._beating.stop()
        self.presence.flush()
        for link in (self._publisher, self._reader, self._subscriber):
            await link.stop()
        if self._receiver is not None:
            self._cut("the broker is stopped")
            self._subscriptions.stop()
        await self._registry.stop()

    def health(self) -> Health:
        for link, what in ((self._publisher, "published"), (self._reader, "read")):
            if link.current is None or not link.current.usable:
                return Health(False, f"nothing can be {what}: {link.trouble}")
        if not self._subscribed:
            return Health(False, f"nothing is received: {self._subscriber.trouble}")
        if silence := self._heartbeat.silence:
            return Health(False, f"this node has not heard itself through Redis for {silence:.1f} s")
        return Health(True)

    # Publish

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        link = self._publisher.current
        if link is None or not link.usable:
            self._refuse("unavailable", self._publisher.trouble, done)
            return
        payer = _payer(publication)
        if self._under_way.get(payer, 0) > SHARE * (self._settings.pending_limit - link.pending_bytes):
            self._refuse("overload", "too many publishes under way (redis.pending_limit)", done)
            return
        metrics = self._metrics
        started = self._loop.time()
        command = self._publish_command(publication, options, link)
        self._count(payer, len(command))

        def replied(reply: Any) -> None:
            self._count(payer, -len(command))
            if isinstance(reply, Exception):
                done(self._failure(reply))
                return
            if isinstance(reply, list) and (obstacle := stream_commands.obstacle(reply)) is not None:
                metrics.publish_errors.add("too many values")
                done(obstacle)
                return
            try:
                result = PublishResult(*stream_commands.position(reply)) if isinstance(reply, list) else PUBLISHED
            except EnvelopeError as error:
                self._warn(publication.channel, error)
                done(OutcomeUnknown(f"published, at a position that cannot be read: {error}"))
                return
            metrics.published.add()
            metrics.publish_latency.observe(self._loop.time() - started)
            done(result)

        link.send(command, replied)

    def _count(self, payer: User | None, size: int) -> None:
        if payer is None:
            return
        if under_way := self._under_way.get(payer, 0) + size:
            self._under_way[payer] = under_way
        else:
            del self._under_way[payer]

    def _publish_command(self, publication: Publication, options: PublishOptions, link: Link) -> bytes:
        if options.history is not None:
            return stream_commands.publish_command(self._keys, publication, options.history, options, link)
        if options.latest is not None:
            return stream_commands.latest_command(self._keys, publication, options.latest, options, link)
        bus = self._keys.bus(publication.channel)
        message = envelope.live(publication)
        if options.idempotency_key:
            result = self._keys.result(publication.channel, options.idempotency_key)
            return pack("EVALSHA", lua.PUBLISH_ONCE.sha, 1, result, bus, message, options.idempotency_ttl)
        return pack(b"PUBLISH", bus, message)

    def _refuse(self, reason: str, text: str, done: PublishDone) -> None:
        self._metrics.publish_errors.add(reason)
        done(BrokerUnavailable(text))

    def _failure(self, reply: Exception) -> RequestError:
        """What an error means for the publish it answers."""
        if isinstance(reply, BrokerUnavailable):
            self._metrics.publish_errors.add("unavailable")
            return reply
        if isinstance(reply, RequestError):
            self._metrics.publish_errors.add("unknown outcome")
            return reply
        text = str(reply)
        if text.startswith("UNSENT"):
            self._metrics.publish_errors.add("unknown outcome")
            return OutcomeUnknown(f"stored, and not sent to the subscribers: {text}")
        # An error of Redis itself (out of memory, read only, loading): the command was not carried out.
        self._metrics.publish_errors.add("refused by redis")
        self._after_error(self._publisher, text)
        return BrokerUnavailable(f"Redis refused the publish: {text}")

    def _after_error(self, link: KeptLink, text: str) -> None:
        """What an error of Redis says of the server behind the link."""
        if text.startswith(("READONLY", "STALE")):
            self._server_changed(text)
        elif text.startswith("NOSCRIPT") and link.current is not None:
            # SCRIPT FLUSH. This command has failed for certain.
            lua.reload(link.current)

    # Streams

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        self._reads.read(channel, history, query, done)

    def compare(self, standings: Sequence[Standing], elsewhere: Callable[[Standing], None]) -> None:
        self._reads.compare(standings, elsewhere)

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        self._reads.values(channel, latest, done)

    async def clear(self, channel: Channel) -> None:
        link = self._publisher.current
        if link is None:
            raise BrokerUnavailable(self._publisher.trouble)
        try:
            await link.ask("DEL", self._keys.stream(channel))
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"Redis refused to clear the stream: {error}") from None

    # Subscribe

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        if not self._subscribed:
            done(BrokerUnavailable(self._subscriber.trouble))
            return
        self._subscriptions.add(self._keys.bus(channel), channel, done)

    def unsubscribe(self, channel: Channel) -> None:
        self._subscriptions.remove(self._keys.bus(channel))

    def _on_messages(self, messages: list[tuple[bytes, bytes]]) -> None:
        """All messages of one read: publications are grouped, so that a channel's subscribers are written to once."""
        self._metrics.broker_messages.add(len(messages))
        receiver = self._receiver
        assert receiver is not None
        groups: dict[Channel, list[Event]] = {}
        unreadable: dict[Channel, None] = {}
        for bus, payload in messages:
            channel = self._subscriptions.channel(bus)
            try:
                if channel is None:
                    self._on_own(bus, payload)
                    continue
                if not self._subscribed:
                    # Behind a gap that nobody has been told of yet.
                    continue
                event = envelope.decode(channel, payload)
            except EnvelopeError as error:
                self._warn(channel, error)
                if channel is not None and envelope.lies_in_stream(payload):
                    unreadable[channel] = None
                continue
            except Exception:
                self._guard.failed("bus", channel.name if channel is not None else bus)
                continue
            group = groups.get(channel)
            if group is None:
                groups[channel] = [event]
            else:
                group.append(event)
        for channel, events in groups.items():
            self._guard.call("bus", channel.name, receiver.on_events, channel, events)
        if unreadable:
            self._guard.call("bus", "", receiver.on_unreadable, list(unreadable))

    def _warn(self, channel: Channel | None, error: EnvelopeError) -> None:
        self._metrics.broker_invalid.add()
        # While one version replaces another, there may be thousands a second.
        if (suppressed := self._unreadable_lines.passes()) is not None:
            where = {"channel": channel.name} if channel is not None else {}
            logger.warning("what another one wrote to Redis could not be read: %s", error, extra=suppressed | where)

    def _on_own(self, bus: bytes, payload: bytes) -> None:
        """Heartbeats and control messages. Raises EnvelopeError."""
        if bus == self._own[0]:
            self._log.take(without_head(payload, REQUEST))
        elif bus == self._own[1]:
            if payload == HEARTBEAT:
                self._heartbeat.heard()
            else:
                self._control.on_reply(payload)

    # Control

    async def control(self, message: Control) -> ControlResult:
        alive = {info.uid for info in await self._registry.nodes()}
        return await self._control.ask(message, alive | {self._uid}, self._publish_control)

    def _on_control(self, payload: bytes) -> None:
        assert self._receiver is not None
        try:
            self._control.on_request(payload, self._receiver)
        except EnvelopeError as error:
            self._warn(None, error)
        except Exception:
            self._guard.failed("control")

    async def _publish_control(self, payload: bytes) -> None:
        link = self._publisher.current
        if link is None:
            raise BrokerUnavailable(self._publisher.trouble)
        try:
            await link.ask(
                *("EVALSHA", lua.CONTROL.sha, 1, self._keys.control_log()), *(self._own[0], REQUEST, payload, KEPT)
            )
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"Redis refused the control message: {error}") from None

    def _reply(self, node: NodeId, payload: bytes) -> None:
        if self._publisher.current is not None:
            self._publisher.current.send(pack(b"PUBLISH", self._keys.node(node), payload), _ignore)

    # Links

    async def _open_publisher(self) -> Link:
        return await self._open_with_scripts("publish", lua.PUBLISHING)

    async def _open_reader(self) -> Link:
        link = await self._open_with_scripts("read", lua.READING)
        self._registry.server_is(link.generation)
        return link

    async def _open_with_scripts(self, name: str, scripts: tuple[lua.Script, ...]) -> Link:
        link = await connect(
            self._target,
            self._settings,
            lambda: Link(self._settings.publish_timeout, self._guard),
            f"gateway-{self._uid}-{name}",
        )
        try:
            # Before anything else is sent: no command may meet a server that does not know its script.
            await lua.load(link, *scripts)
            await generation.learn(link, self._keys.generation(), durable=self._settings.durable)
        except (hiredis.ReplyError, RequestError) as error:
            link.abort("not usable")
            detail = error.detail if isinstance(error, RequestError) else str(error)
            raise BrokerUnavailable(f"Redis at {self._target.name}: {detail}") from None
        except BaseException:
            link.abort("not usable")
            raise
        return link

    async def _open_subscriber(self) -> Link:
        """Returns when every channel is subscribed (again); the first time there is a limit."""
        link = await connect(
            self._target,
            self._settings,
            lambda: Link(self._settings.publish_timeout, self._guard, self._on_messages, self._subscriptions.confirmed),
            f"gateway-{self._uid}-subscribe",
        )
        settled = asyncio.Event()
        link.lost.add_done_callback(lambda _: settled.set())
        self._log.cut()
        self._subscriptions.restore(link, self._own, settled.set)
        try:
            async with asyncio.timeout(self._limit):
                await settled.wait()
        except TimeoutError:
            link.abort("it does not confirm subscriptions")
        except BaseException:
            link.abort("not subscribed")
            raise
        receiver = self._receiver
        assert receiver is not None
        if not link.lost.done():
            await self._catch_up(link, receiver)
        if link.lost.done():
            self._cut(link.lost.result())
            raise BrokerUnavailable(f"Redis at {self._target.name}: {link.lost.result()}")
        self._subscribed = True
        self._heartbeat.heard()
        # Before a publication is delivered: those that came meanwhile were not.
        if channels := self._subscriptions.channels():
            receiver.on_gap(channels)
        return link

    async def _catch_up(self, link: Link, receiver: Receiver) -> None:
        """Learn who may not be here any more before anything is delivered."""
        try:
            await receiver.catch_up()
            if not await self._log.catch_up():
                receiver.on_control_lost()
        except RequestError as error:
            link.abort(error.detail)
        except BaseException:
            link.abort("not caught up")
            raise

    def _cut(self, reason: str) -> None:
        """Nothing is received any more."""
        self._subscribed = False
        self._subscriptions.cut(reason)

    async def _beat(self) -> None:
        self._heartbeat.beat()
        if not self._settings.durable:
            self._watch.look()
        self.presence.repeat_if_behind()

    def _server_changed(self, reason: str) -> None:
        """The server is not the one it was: everything is done anew, on whatever is behind the address now."""
        for link in (self._publisher, self._reader, self._subscriber):
            link.abort(reason)


def _payer(publication: Publication) -> User | None:
    """Whose publishes under way count together; None for a backend's, which count for nobody.

    Connections without a user count one by one.
    """
    info = publication.info
    return User(publication.channel.app, info.user or info.client) if info is not None else None


def _ignore(reply: Any) -> None:
    pass
