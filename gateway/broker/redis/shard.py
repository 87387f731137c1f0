"""One Redis server, as one node uses it: the links to it, the subscriptions, the heartbeat and the generation.

A failure of the server affects only its own channels. While a link is down, operations over it are refused with the
reason. When the subscribe link is back, everything is subscribed again. Nothing is delivered before this node has
caught up and the subscribers of the shard's channels have been told about the gap. If the server was replaced (another
process, a promoted replica), all links are opened anew to whatever is behind the address now.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import hiredis

from gateway.broker import envelope
from gateway.broker.base import Health, Receiver, SubscribeDone
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import generation, lua
from gateway.broker.redis.diagnosis import diagnose
from gateway.broker.redis.generation import GenerationWatch
from gateway.broker.redis.heartbeat import HEARTBEAT, Heartbeat
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.broker.redis.link import Link, connect, why
from gateway.broker.redis.publish_commands import FORGOTTEN, REPLACED
from gateway.broker.redis.publisher import Publisher
from gateway.broker.redis.redis_presence import RedisPresence
from gateway.broker.redis.stream_reads import StreamReads
from gateway.broker.redis.subscriptions import Subscriptions
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings
from gateway.control import NodeId
from gateway.errors import BrokerUnavailable, RequestError
from gateway.guard import Guard
from gateway.messages import Channel, Event
from gateway.metrics import Metrics
from gateway.repeating import Repeating


class Shard:
    """Standalone Redis or Valkey, over TCP, TLS or a Unix socket."""

    def __init__(
        self,
        settings: RedisSettings,
        uid: NodeId,
        keys: Keys,
        metrics: Metrics,
        guard: Guard,
        *,
        lease: Callable[[], LeaseId],
        own: Mapping[bytes, Callable[[bytes], object]],
        unreadable: Callable[[Channel | None, EnvelopeError], None],
        learned: Callable[[str], None],
        cut: Callable[[], None],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        """`lease` returns the current lease of this node.

        `own`: bus channels that stay subscribed, with functions for their messages, which may raise EnvelopeError.
        `unreadable` gets data that cannot be read, `learned` the generation of the server with each connection.
        `cut` is called when the subscribe link is gone. `catch_up` runs when everything is subscribed again and before
        anything is delivered; if it raises a RequestError, the link is dropped.
        """
        assert settings.url is not None
        self._target = Target.of(settings.url.get_secret_value())
        self._settings = settings
        self._uid = uid
        self._keys = keys
        self._metrics = metrics
        self._guard = guard
        self._node_bus = keys.node(uid)
        self._own = own
        self._unreadable = unreadable
        self._learned = learned
        self._on_cut = cut
        self._catch_up = catch_up
        self._receiver: Receiver | None = None
        self._is_subscribed = False
        name = self._target.name
        self.publish_link = KeptLink("publish", name, self._open_publish_link, lambda reason: None, metrics, guard)
        self.read_link = KeptLink("read", name, self._open_read_link, lambda reason: None, metrics, guard)
        self._subscribe_link = KeptLink("subscribe", name, self._open_subscribe_link, self._cut, metrics, guard)
        self.publisher = Publisher(
            self.publish_link, settings.pending_limit, keys, metrics, self._refused, self._unreadable
        )
        self.reads = StreamReads(self.read_link, keys, self._refused, self._unreadable)
        self.presence = RedisPresence(self.read_link, lease, keys, metrics)
        self._heartbeat = Heartbeat(
            self.publish_link,
            self._node_bus,
            settings.heartbeat_interval,
            lambda: self._subscribe_link.abort("this node does not hear itself"),
        )
        self._watch = GenerationWatch((self.publish_link, self.read_link), keys.generation(), self._server_changed)
        self._beating = Repeating(guard, "heartbeat", settings.heartbeat_interval, self._beat)

    # Life

    async def connect(self, receiver: Receiver) -> None:
        """Open the links for commands. Raises BrokerUnavailable."""
        self._receiver = receiver
        self._subscriptions = Subscriptions(self._settings.unsubscribe_linger, self._guard)
        try:
            await self.publish_link.start()
            await self.read_link.start()
        except BrokerUnavailable as error:
            # Only now: a node that was connected has the right address, and should not lose time.
            if error.__cause__ is None:
                raise
            reason = await diagnose(error.__cause__, self._target, self._settings)
            raise BrokerUnavailable(f"Redis at {self._target.name}: {reason}" if reason else error.detail) from None

    async def listen(self) -> None:
        """Open the subscribe link, and keep it open. Raises BrokerUnavailable."""
        self._limit: float | None = self._settings.connect_timeout
        await self._subscribe_link.start()
        self._limit = None
        self._beating.start()

    async def stop(self) -> None:
        """Disconnect. Safe to call twice, and before `connect`."""
        await self._beating.stop()
        self.presence.flush()
        for link in (self.publish_link, self.read_link, self._subscribe_link):
            await link.stop()
        if self._receiver is not None:
            self._cut("the broker is stopped")
            self._subscriptions.stop()

    def health(self) -> Health:
        """Whether this node hears itself through this server."""
        for link, what in ((self.publish_link, "published"), (self.read_link, "read")):
            if link.current is None or not link.current.usable:
                return Health(False, f"nothing can be {what}: {link.trouble}")
        if not self._is_subscribed:
            return Health(False, f"nothing is received: {self._subscribe_link.trouble}")
        if silence := self._heartbeat.silence:
            return Health(False, f"this node has not heard itself through Redis for {silence:.1f} s")
        return Health(True)

    # Subscribe

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        """As in the port."""
        if not self._is_subscribed:
            done(BrokerUnavailable(self._subscribe_link.trouble))
            return
        self._subscriptions.add(self._keys.bus(channel), channel, done)

    def unsubscribe(self, channel: Channel) -> None:
        """As in the port."""
        self._subscriptions.remove(self._keys.bus(channel))

    def _on_messages(self, messages: list[tuple[bytes, bytes]]) -> None:
        """All messages of one read. Publications are grouped, so that the subscribers of a channel get one write."""
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
                if not self._is_subscribed:
                    # After a gap that the subscribers do not know of yet.
                    continue
                event = envelope.decode(channel, payload)
            except EnvelopeError as error:
                self._unreadable(channel, error)
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

    def _on_own(self, bus: bytes, payload: bytes) -> None:
        """Raises EnvelopeError."""
        if bus == self._node_bus and payload == HEARTBEAT:
            self._heartbeat.heard()
        elif (take := self._own.get(bus)) is not None:
            take(payload)

    # Links

    async def _open_publish_link(self) -> Link:
        return await self._open_with_scripts("publish", lua.PUBLISHING)

    async def _open_read_link(self) -> Link:
        link = await self._open_with_scripts("read", lua.READING)
        self._learned(link.generation)
        return link

    async def _open_with_scripts(self, name: str, scripts: tuple[lua.Script, ...]) -> Link:
        link = await connect(
            self._target,
            self._settings,
            lambda: Link(self._settings.publish_timeout, self._guard),
            f"gateway-{self._uid}-{name}",
        )
        try:
            # Before anything else is sent: no command may reach a server that does not have its script.
            await lua.load(link, *scripts)
            await generation.learn(link, self._keys.generation(), durable=self._settings.durable)
        except (hiredis.ReplyError, RequestError) as error:
            link.abort("not usable")
            raise BrokerUnavailable(f"Redis at {self._target.name}: {why(error)}") from None
        except BaseException:
            link.abort("not usable")
            raise
        return link

    async def _open_subscribe_link(self) -> Link:
        """Returns when every channel is subscribed (again); the first time within connect_timeout."""
        link = await connect(
            self._target,
            self._settings,
            lambda: Link(self._settings.publish_timeout, self._guard, self._on_messages, self._subscriptions.confirmed),
            f"gateway-{self._uid}-subscribe",
        )
        settled = asyncio.Event()
        link.lost.add_done_callback(lambda _: settled.set())
        self._subscriptions.restore(link, {self._node_bus, *self._own}, settled.set)
        try:
            async with asyncio.timeout(self._limit):
                await settled.wait()
        except TimeoutError:
            link.abort("it does not confirm subscriptions")
        except BaseException:
            link.abort("not subscribed")
            raise
        if not link.lost.done():
            await self._let_catch_up(link)
        if link.lost.done():
            self._cut(link.lost.result())
            raise BrokerUnavailable(f"Redis at {self._target.name}: {link.lost.result()}")
        self._is_subscribed = True
        self._heartbeat.heard()
        # Before the next publication is delivered: those that came meanwhile were dropped.
        if channels := self._subscriptions.channels():
            assert self._receiver is not None
            self._receiver.on_gap(channels)
        return link

    async def _let_catch_up(self, link: Link) -> None:
        try:
            await self._catch_up()
        except RequestError as error:
            link.abort(error.detail)
        except BaseException:
            link.abort("not caught up")
            raise

    def _cut(self, reason: str) -> None:
        """Nothing is received any more."""
        self._is_subscribed = False
        self._subscriptions.cut(reason)
        self._on_cut()

    async def _beat(self) -> None:
        self._heartbeat.beat()
        if not self._settings.durable:
            self._watch.look()
        self.presence.repeat_if_behind()

    def _refused(self, link: KeptLink, text: str) -> None:
        """React to an error reply that says something about the server."""
        if text.startswith(REPLACED):
            self._server_changed(text)
        elif text.startswith(FORGOTTEN) and link.current is not None:
            # SCRIPT FLUSH. This command has failed for certain.
            lua.reload(link.current)

    def _server_changed(self, reason: str) -> None:
        """The server was replaced: open all links anew, to whatever is behind the address now."""
        for link in (self.publish_link, self.read_link, self._subscribe_link):
            link.abort(reason)
