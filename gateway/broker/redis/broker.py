"""The broker over Redis: one link that publishes, one that is subscribed."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import hiredis

from gateway.broker import envelope
from gateway.broker.base import Health, PublishDone, Receiver, SubscribeDone
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis.control import ControlMessages
from gateway.broker.redis.keys import Keys
from gateway.broker.redis.link import Link, Target, connect, pack
from gateway.broker.redis.registry import RedisRegistry
from gateway.broker.redis.subscriptions import Subscriptions
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable, ConfigError, RequestError
from gateway.messages import (
    PUBLISHED,
    Channel,
    Control,
    ControlResult,
    NodeId,
    Publication,
    PublishOptions,
)
from gateway.metrics import Metrics

logger = logging.getLogger(__name__)

# Seconds between attempts to connect: the first comes soon, all are jittered so that nodes do not come in step.
FIRST_DELAY = 0.1
LAST_DELAY = 1.0
# A node is deaf when it does not hear itself for so many heartbeats, and at least for so many seconds.
DEAF_HEARTBEATS = 3
DEAF_SECONDS = 3.0

HEARTBEAT = envelope.VERSION + b"h"

_PUBLISH_ONCE = files("gateway.broker.redis").joinpath("scripts", "publish_once.lua").read_text()


class RedisBroker:
    """Standalone Redis or Valkey, over TCP, TLS or a Unix socket."""

    def __init__(
        self, settings: RedisSettings, uid: NodeId, keys: Keys, registry: RedisRegistry, metrics: Metrics
    ) -> None:
        """The registry is started and stopped with the broker."""
        assert settings.url is not None
        try:
            self._target = Target.of(settings.url.get_secret_value())
        except ValueError as error:
            raise ConfigError(f"redis.url: {error}") from None
        self._settings = settings
        self._uid = uid
        self._keys = keys
        self._registry = registry
        self._metrics = metrics
        self._receiver: Receiver | None = None
        self._publisher: Link | None = None
        self._script = b""
        self._subscriber: Link | None = None
        self._subscribed = False
        self._heard_at = 0.0
        # Heartbeats that Redis took, and that have not come back.
        self._unheard = 0
        self._reason = "not started"
        self._tasks: list[asyncio.Task[None]] = []
        self._control = ControlMessages(uid, self._reply)
        metrics.broker_up.read = lambda: float(self.health().ok)
        metrics.broker_pending.read = lambda: self._publisher.pending_bytes if self._publisher else 0

    # Life

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._subscriptions = Subscriptions(self._settings.unsubscribe_linger)
        self._own = (self._keys.control(), self._keys.node(self._uid))
        try:
            self._publisher = await self._open_publisher()
            await self._registry.start()
            self._subscriber = await self._open_subscriber(self._settings.connect_timeout)
        except BaseException:
            await self.stop()
            raise
        self._tasks = [
            asyncio.create_task(self._keep("publish", self._publisher, self._open_publisher, self._publishing)),
            asyncio.create_task(self._keep("subscribe", self._subscriber, self._open_subscriber, self._subscribing)),
            asyncio.create_task(self._beat_forever()),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._reason = "stopped"
        for link in (self._publisher, self._subscriber):
            if link is not None:
                link.abort("the broker is stopped")
        if self._receiver is not None:
            self._subscriptions.cut("the broker is stopped")
            self._subscriptions.stop()
        self._publisher = self._subscriber = None
        self._subscribed = False
        await self._registry.stop()

    def health(self) -> Health:
        if self._publisher is None or not self._publisher.writable:
            return Health(False, f"nothing can be published: {self._trouble()}")
        if not self._subscribed:
            return Health(False, f"nothing is received: no connection to Redis: {self._reason}")
        silence = self._loop.time() - self._heard_at
        if silence > self._patience:
            return Health(False, f"this node has not heard itself through Redis for {silence:.1f} s")
        return Health(True)

    # Publish

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        link = self._publisher
        if link is None or not link.writable:
            self._refuse("unavailable", self._trouble(), done)
            return
        if link.pending_bytes > self._settings.pending_limit:
            self._refuse("overload", "too many publishes under way (redis.pending_limit)", done)
            return
        bus = self._keys.bus(publication.channel)
        message = envelope.live(publication)
        if options.idempotency_key:
            result = self._keys.result(publication.channel, options.idempotency_key)
            command = pack("EVALSHA", self._script, 1, result, bus, message, options.idempotency_ttl)
        else:
            command = pack(b"PUBLISH", bus, message)
        metrics = self._metrics
        started = self._loop.time()

        def replied(reply: Any) -> None:
            if not isinstance(reply, Exception):
                metrics.published.add()
                metrics.publish_latency.observe(self._loop.time() - started)
                done(PUBLISHED)
            else:
                done(self._failure(reply))

        link.send(command, replied)

    def _trouble(self) -> str:
        """Why the publish link takes nothing."""
        link = self._publisher
        return f"no connection to Redis: {self._reason}" if link is None else link.trouble

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
        # An error of Redis itself (out of memory, read only, loading): the command was not carried out.
        self._metrics.publish_errors.add("refused by redis")
        if str(reply).startswith("NOSCRIPT") and self._publisher is not None:
            # SCRIPT FLUSH. This one has failed for certain; later ones find the script again, and none overtakes.
            self._publisher.send(pack("SCRIPT", "LOAD", _PUBLISH_ONCE), _ignore)
        return BrokerUnavailable(f"Redis refused the publish: {reply}")

    # Subscribe

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        if not self._subscribed:
            done(BrokerUnavailable(f"no connection to Redis: {self._reason}"))
            return
        self._subscriptions.add(self._keys.bus(channel), channel, done)

    def unsubscribe(self, channel: Channel) -> None:
        self._subscriptions.remove(self._keys.bus(channel))

    def _on_messages(self, messages: list[tuple[bytes, bytes]]) -> None:
        """All messages of one read: publications are grouped, so that a channel's subscribers are written to once."""
        self._metrics.broker_messages.add(len(messages))
        receiver = self._receiver
        assert receiver is not None
        groups: dict[Channel, list[Publication]] = {}
        for bus, payload in messages:
            channel = self._subscriptions.channel(bus)
            try:
                if channel is None:
                    self._on_own(bus, payload, receiver)
                    continue
                if not self._subscribed:
                    # Behind a gap that nobody has been told of yet.
                    continue
                publication = envelope.decode(channel, payload)
            except EnvelopeError as error:
                self._metrics.broker_invalid.add()
                logger.warning("a message on the bus could not be read: %s", error)
                continue
            group = groups.get(channel)
            if group is None:
                groups[channel] = [publication]
            else:
                group.append(publication)
        for channel, publications in groups.items():
            receiver.on_publications(channel, publications)

    def _on_own(self, bus: bytes, payload: bytes, receiver: Receiver) -> None:
        """Heartbeats and control messages. Raises EnvelopeError."""
        if bus == self._own[0]:
            self._control.on_request(payload, receiver)
        elif bus == self._own[1]:
            if payload == HEARTBEAT:
                self._heard_at = self._loop.time()
                self._unheard = 0
            else:
                self._control.on_reply(payload)

    # Control

    async def control(self, message: Control) -> ControlResult:
        alive = {info.uid for info in await self._registry.nodes()}
        return await self._control.ask(message, alive | {self._uid}, self._publish_control)

    async def _publish_control(self, payload: bytes) -> None:
        link = self._publisher
        if link is None:
            raise BrokerUnavailable(f"no connection to Redis: {self._reason}")
        try:
            await link.ask(b"PUBLISH", self._own[0], payload)
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"Redis refused the control message: {error}") from None

    def _reply(self, node: NodeId, payload: bytes) -> None:
        if self._publisher is not None:
            self._publisher.send(pack(b"PUBLISH", self._keys.node(node), payload), _ignore)

    # Links

    @property
    def _patience(self) -> float:
        return max(DEAF_HEARTBEATS * self._settings.heartbeat_interval, DEAF_SECONDS)

    async def _open_publisher(self) -> Link:
        link = await connect(
            self._target,
            self._settings,
            lambda: Link(self._settings.publish_timeout),
            f"gateway-{self._uid}-publish",
        )
        try:
            # Before anything else is sent: no publish may meet a server that does not know the script.
            self._script = await link.ask("SCRIPT", "LOAD", _PUBLISH_ONCE)
        except (hiredis.ReplyError, RequestError) as error:
            link.abort("no script")
            raise BrokerUnavailable(f"Redis at {self._target.name}: {error}") from None
        return link

    async def _open_subscriber(self, limit: float | None = None) -> Link:
        """Returns when every channel is subscribed (again), within `limit` seconds."""
        link = await connect(
            self._target,
            self._settings,
            lambda: Link(self._settings.publish_timeout, self._on_messages, self._subscriptions.confirmed),
            f"gateway-{self._uid}-subscribe",
        )
        settled = asyncio.Event()
        link.lost.add_done_callback(lambda _: settled.set())
        self._subscriptions.restore(link, self._own, lambda: self._all_subscribed(settled))
        try:
            async with asyncio.timeout(limit):
                await settled.wait()
        except TimeoutError:
            link.abort("it does not confirm subscriptions")
        except BaseException:
            link.abort("not subscribed")
            raise
        if link.lost.done():
            self._subscribing(None)
            raise BrokerUnavailable(f"Redis at {self._target.name}: {link.lost.result()}")
        return link

    def _all_subscribed(self, settled: asyncio.Event) -> None:
        self._subscribed = True
        self._heard_at = self._loop.time()
        self._unheard = 0
        settled.set()
        # At once: the messages that come with the last confirmation are delivered after it.
        if self._receiver is not None and (channels := self._subscriptions.channels()):
            self._receiver.on_gap(channels)

    def _publishing(self, link: Link | None) -> None:
        self._publisher = link

    def _subscribing(self, link: Link | None) -> None:
        """The subscribe link was cut (None), or is there again."""
        self._subscriber = link
        if link is None:
            self._subscribed = False
            self._subscriptions.cut(self._reason)

    async def _keep(
        self,
        name: str,
        link: Link,
        reopen: Callable[[], Awaitable[Link]],
        changed: Callable[[Link | None], None],
    ) -> None:
        """Replace a link whenever it breaks."""
        while True:
            self._reason = await asyncio.shield(link.lost)
            self._metrics.broker_reconnects.add(name)
            logger.warning("Redis at %s: the %s link broke: %s", self._target.name, name, self._reason)
            changed(None)
            link = await self._reopen(reopen)
            changed(link)
            logger.warning("Redis at %s: the %s link is back", self._target.name, name)

    async def _reopen(self, reopen: Callable[[], Awaitable[Link]]) -> Link:
        delay = FIRST_DELAY
        while True:
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - jitter
            try:
                link = await reopen()
            except BrokerUnavailable as error:
                self._reason = error.detail
                delay = min(delay * 2, LAST_DELAY)
            else:
                return link

    async def _beat_forever(self) -> None:
        """Publish heartbeats to ourselves; a subscribe link on which they do not arrive is replaced.

        They are counted rather than timed: neither a publish link that was away nor a process that was held up says
        anything about the subscribe link.
        """
        interval = self._settings.heartbeat_interval
        while True:
            await asyncio.sleep(interval)
            if self._publisher is not None:
                self._publisher.send(pack(b"PUBLISH", self._own[1], HEARTBEAT), self._beaten)
            if self._unheard * interval > self._patience and self._subscriber is not None:
                self._subscriber.abort("this node does not hear itself")

    def _beaten(self, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._unheard += 1


def _ignore(reply: Any) -> None:
    pass
