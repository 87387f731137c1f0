"""Publish, subscribe, control: broker and hub together. Knows clients, and no wire protocol."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, repeat
from typing import TypeVar, assert_never

from msgspec import structs

from gateway import __version__
from gateway.auth.revocations import Revocations
from gateway.broker.base import Broker, Health, Presence, PublishDone, Registry, SubscribeDone
from gateway.broker.envelope import VERSION
from gateway.channels import Channels, ChannelSpec
from gateway.control import (
    Answer,
    ChannelPage,
    Control,
    ControlResult,
    DisconnectUser,
    DrainNode,
    LearnRevocations,
    NodeId,
    NodeInfo,
    RefreshUser,
    Reloaded,
    ReloadSettings,
    Revocation,
    RevokeTokens,
    SubscribeUser,
    UnsubscribeUser,
)
from gateway.errors import (
    INSUFFICIENT_STATE,
    UNSUBSCRIBED_BY_SERVER,
    UNSUBSCRIBED_INSUFFICIENT,
    BrokerUnavailable,
    CloseCode,
    ConfigError,
    RequestError,
)
from gateway.guard import Guard
from gateway.hub.encoder import Encoder
from gateway.hub.fanout import Write
from gateway.hub.hub import Hub
from gateway.messages import (
    Channel,
    ClientInfo,
    Event,
    HistoryPage,
    HistoryQuery,
    Latest,
    MemberCounts,
    Publication,
    PublishOptions,
    PublishResult,
    Retention,
    User,
)
from gateway.metrics import Metrics
from gateway.node.announcements import Announcements
from gateway.node.clients import Client, Clients
from gateway.node.interests import Interests
from gateway.node.latest import LatestChannel, channel_of
from gateway.node.stream import Stream
from gateway.node.streams import Streams
from gateway.node.vitals import LoopLag, cpu_seconds, resident_bytes
from gateway.scheduler import Scheduler

logger = logging.getLogger(__name__)

# Seconds between attempts to join the cluster, and attempts between two lines about it.
JOIN_DELAY = 1.0
TELL_EVERY = 30
# Channels looked at, and subscriptions told, in one turn of the loop after a gap.
GAP_SLICE = 200


class Node:
    """One server process. Implements the broker's Receiver port."""

    def __init__(
        self,
        uid: NodeId,
        name: str,
        *,
        broker: Broker,
        registry: Registry,
        presence: Presence,
        channels: Channels,
        revocations: Revocations,
        scheduler: Scheduler,
        metrics: Metrics,
        max_publications: int,
        max_bytes: int,
    ) -> None:
        """`max_publications` and `max_bytes` bound what is read of a stream at once: one recovery, one refill."""
        self.uid = uid
        self.name = name
        self.url = ""
        self.internal_address = ""
        self.clients = Clients(scheduler.now)
        self.hub: Hub[Client] = Hub(scheduler, metrics)
        self._broker = broker
        self._registry = registry
        self.presence = presence
        self._channels = channels
        self._revocations = revocations
        self._scheduler = scheduler
        self._metrics = metrics
        self._guard = Guard(metrics.faults)
        self.hub.on_fault = self._missed
        # What a reload does, and what of the settings all nodes have to agree in; set by who knows the settings.
        self.on_reload: Callable[[], Reloaded] = lambda: Reloaded(self.uid, "this node cannot read its settings again")
        self.settings: Mapping[str, str] = {}
        # What a drain of this node does; set by who knows the listeners.
        self.on_drain: Callable[[], None] = lambda: None
        self.draining = False
        self._interests = Interests(broker, self._guard)
        # Channels without a stream whose subscribers are being told that they missed something.
        self._telling: set[Channel] = set()
        self.streams = Streams(
            broker,
            scheduler,
            metrics,
            self._guard,
            deliver=self._deliver,
            is_busy=self.hub.is_busy,
            count=self.hub.count,
            tell=self._tell,
            max_publications=max_publications,
            max_bytes=max_bytes,
        )
        self._started_at = int(time.time())
        self._announcements = Announcements(
            registry, revocations, self.info, self._learned, lambda: self.control(LearnRevocations()), self._guard
        )
        self._lag: LoopLag | None = None
        self._joining: asyncio.Task[None] | None = None
        # Why it is not part of the cluster yet, empty once it is.
        self._unjoined = "not started"

    # Life

    async def start(self) -> None:
        """Join the cluster; where the broker is not to be had, as soon as it is. Raises ConfigError."""
        self._lag = LoopLag(self._metrics)
        if not await self._is_joined():
            self._joining = asyncio.create_task(self._join_later())

    async def _is_joined(self) -> bool:
        try:
            await self._broker.start(self)
            try:
                await self._announcements.start()
            except BaseException:
                await self._broker.stop()
                raise
        except BrokerUnavailable as error:
            self._unjoined = error.detail
            return False
        self._unjoined = ""
        return True

    async def _join_later(self) -> None:
        """A service may be started before its Redis, and Redis may be loading: nobody has to start this one again."""
        attempts = 0
        while True:
            if attempts % TELL_EVERY == 0:
                logger.warning("not ready, trying again: %s (setting redis.url)", self._unjoined)
            attempts += 1
            await asyncio.sleep(JOIN_DELAY)
            try:
                if await self._is_joined():
                    break
            except ConfigError as error:
                # Somebody else came first, with other settings.
                self._unjoined = str(error)
        logger.warning("joined the cluster after %d attempts", attempts)

    async def stop(self) -> None:
        """Leave the cluster. The clients are gone by now; Redis is left last."""
        if self._lag is not None:
            self._lag.stop()
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.gather(self._joining, return_exceptions=True)
        if not self._unjoined:
            await self._announcements.stop()
        await self._broker.stop()

    def health(self) -> Health:
        """Whether this node can serve: readiness."""
        return Health(False, self._unjoined) if self._unjoined else self._broker.health()

    def info(self) -> NodeInfo:
        """What this node says of itself."""
        return NodeInfo(
            uid=self.uid,
            name=self.name,
            version=__version__,
            started_at=self._started_at,
            url=self.url,
            internal_address=self.internal_address,
            num_clients=len(self.clients),
            num_users=self.clients.num_users,
            num_subs=self.hub.num_subscriptions,
            num_channels=self.hub.num_channels,
            draining=self.draining,
            bus=int.from_bytes(VERSION),
            settings=dict(self.settings),
            cpu_seconds=cpu_seconds(),
            rss=resident_bytes(),
        )

    # Publish and subscribe

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        """As Broker.publish."""
        self._broker.publish(publication, options, done)

    async def publish_and_wait(self, publication: Publication, options: PublishOptions) -> PublishResult:
        """Publish and wait for the broker's acceptance. Raises BrokerUnavailable or OutcomeUnknown."""
        return await _outcome(partial(self._broker.publish, publication, options))

    def acquire(self, channel: Channel, done: SubscribeDone) -> None:
        """Let publications of the channel reach this node; `done` may be called at once. Pairs with `release`."""
        self._interests.acquire(channel, done)

    def release(self, channel: Channel) -> None:
        """End what `acquire` began successfully."""
        if not self.count(channel):
            self.streams.forget(channel)
        self._interests.release(channel)

    def join(self, channel: Channel, lane: Channel, client: Client, encoder: Encoder, write: Write) -> None:
        """Deliver the acquired channel to a client from now on; `lane` as its joiner says, else the channel."""
        self.hub.add(lane, client, encoder, write)
        stream = self.streams.find(channel)
        if isinstance(stream, LatestChannel):
            stream.entered(lane)
        spec = self._spec(channel)
        if spec is not None and spec.presence is not None:
            self.presence.enter(channel, client.member(channel.name), spec.presence)
        self._registry.set_occupancy(channel, self.count(channel))

    def count(self, channel: Channel) -> int:
        """Subscriptions to the channel on this node."""
        stream = self.streams.find(channel)
        return stream.members if isinstance(stream, LatestChannel) else self.hub.count(channel)

    def leave(self, channel: Channel, lane: Channel, client: Client, encoder: Encoder) -> None:
        """End what `join` and its `acquire` began."""
        self.hub.remove(lane, client, encoder)
        # Whatever the rules are by now: who was never entered is ignored.
        self.presence.leave(channel, client.client)
        stream = self.streams.find(channel)
        if isinstance(stream, LatestChannel):
            stream.leave(lane)
        self._registry.set_occupancy(channel, self.count(channel))
        self.release(channel)

    async def read(self, channel: Channel, history: Retention, query: HistoryQuery) -> HistoryPage:
        """Read a stream. Raises BrokerUnavailable."""
        return await _outcome(partial(self.streams.read, channel, history, query))

    async def members(self, channel: Channel) -> list[ClientInfo]:
        """Who is in a channel, however many. Raises BrokerUnavailable."""
        return await _outcome(partial(self.presence.members, channel, 0, 0))

    async def member_counts(self, channel: Channel) -> MemberCounts:
        """How many are in a channel. Raises BrokerUnavailable."""
        return await _outcome(partial(self.presence.counts, channel))

    async def values(self, channel: Channel, latest: Latest) -> HistoryPage:
        """The newest values of a channel. Raises BrokerUnavailable."""
        return await _outcome(partial(self.streams.values, channel, latest))

    async def clear(self, channel: Channel) -> None:
        """As Broker.clear."""
        await self._broker.clear(channel)

    # Receiver

    def on_events(self, channel: Channel, events: Sequence[Event]) -> None:
        try:
            self._receive(channel, events)
        except Exception:
            self._guard.failed("delivery", channel.name)
            self._missed(channel)

    def _receive(self, channel: Channel, events: Sequence[Event]) -> None:
        stream = self.streams.find(channel)
        if stream is not None:
            self.streams.receive(stream, events)
        elif self.hub.deliver(channel, events) and channel not in self._telling and self._announces_gaps(channel):
            self._telling.add(channel)
            self._tell(channel, partial(self._telling.discard, channel))

    def _missed(self, lane: Channel) -> None:
        """A fault kept something from those who have joined a lane: they are told, whatever the channel promises."""
        channel = channel_of(lane)
        stream = self.streams.find(channel)
        if isinstance(stream, Stream):
            stream.lose()
        else:
            self._go_on(self._told(lane, channel.name))

    async def catch_up(self) -> None:
        await self._announcements.learn()

    def on_control_lost(self) -> None:
        """Nobody knows any more who was to be disconnected: everybody is, and whoever may comes back."""
        logger.warning("this node was cut off for too long to know what was said to it: its clients have to come back")

        self._go_on(_ended(self.clients, INSUFFICIENT_STATE))

    def on_gap(self, channels: Sequence[Channel]) -> None:
        """Compare with the streams, and tell the subscribers of live channels; in slices, since it may be all."""
        logger.warning("publications may have been missed on %d channels", len(channels))
        self._go_on(self._after_gap(channels))

    def on_unreadable(self, channels: Sequence[Channel]) -> None:
        for channel in channels:
            if (stream := self.streams.find(channel)) is not None:
                stream.check()

    def on_control(self, message: Control) -> Answer:
        match message:
            case DrainNode():
                return self._drain(message)
            case LearnRevocations():
                self._announcements.learn_soon()
                return 0
            case ReloadSettings():
                return self.reload() if message.uid in ("", self.uid) else 0
            case DisconnectUser():
                return self._disconnect(message)
            case SubscribeUser():
                return _each(self._meant(message), lambda client: client.subscribe_by_server(message))
            case UnsubscribeUser():
                name, code = message.channel, UNSUBSCRIBED_BY_SERVER
                return _each(self._meant(message), lambda client: client.unsubscribe_by_server(name, code))
            case RefreshUser():
                expired, expire_at = message.expired, message.expire_at
                return _each(
                    self._meant(message), lambda client: client.refresh_by_server(expired=expired, expire_at=expire_at)
                )
            case RevokeTokens():
                return self._revoke(message)
            case _:
                assert_never(message)

    def _after_gap(self, channels: Sequence[Channel]) -> Iterator[None]:
        """A channel or a subscription a step: to look at 100,000 channels takes half a second."""
        for channel in channels:
            try:
                stream = self.streams.find(channel)
                if stream is not None:
                    stream.check()
                elif self._announces_gaps(channel):
                    yield from self._told(channel, channel.name)
            except Exception:
                self._guard.failed("gap", channel.name)
            yield

    def _announces_gaps(self, channel: Channel) -> bool:
        spec = self._spec(channel)
        return spec is None or spec.options.announce_gaps

    def _spec(self, channel: Channel) -> ChannelSpec | None:
        """None when a reload has taken the namespace away since the channel was subscribed to."""
        try:
            return self._channels.resolve(channel.app, channel.name)
        except RequestError:
            return None

    def _told(self, lane: Channel, name: str) -> Iterator[None]:
        """Tells those in a lane of a gap in the channel `name`, a subscription a step."""
        for client in list(self.hub.subscribers(lane)):
            try:
                if client.unsubscribe_by_server(name, UNSUBSCRIBED_INSUFFICIENT):
                    self._metrics.gaps.add()
            except Exception:
                client.fail("gap")
            yield

    def _tell(self, channel: Channel, done: Callable[[], None]) -> None:
        """As in Surroundings."""
        # What waits may stand behind what was missed: a client that has it would go on from there.
        self.hub.discard(channel)

        def steps() -> Iterator[None]:
            yield from self._told(channel, channel.name)
            done()

        self._go_on(steps())

    def _deliver(self, channel: Channel, events: Sequence[Event]) -> bool:
        """As in Surroundings."""
        return not self.hub.deliver(channel, events)

    def _go_on(self, steps: Iterator[None]) -> None:
        """A slice of the steps now, the rest in the next turns of the loop."""
        if sum(1 for _ in islice(steps, GAP_SLICE)) == GAP_SLICE:
            self._scheduler.call_soon(lambda: self._go_on(steps))

    def reload(self) -> Reloaded:
        """Read the settings again, and let the others know by which ones this node runs."""
        reloaded = self.on_reload()
        self._announcements.announce_soon()
        return reloaded

    def _drain(self, message: DrainNode) -> int:
        if message.uid != self.uid or self.draining:
            return 0
        self.draining = True
        logger.warning("draining: the clients are sent to other nodes", extra={"connections": len(self.clients)})
        self.on_drain()
        return len(self.clients)

    def _learned(self, revoked: Revocation) -> None:
        """A revocation that this node did not know: it was cut off when it came, or started without the cluster."""
        self._close_revoked(RevokeTokens(revoked.app, revoked.user, revoked.jti, revoked.issued_before))

    def _meant(self, message: DisconnectUser | SubscribeUser | UnsubscribeUser | RefreshUser) -> Iterable[Client]:
        """The clients of this node that a message is about."""
        return self.clients.select(User(message.app, message.user), message.client)

    def _disconnect(self, message: DisconnectUser) -> int:
        code = CloseCode(message.code, message.reason)
        chosen = [client for client in self._meant(message) if client.client not in message.whitelist]
        self._go_on(_ended(chosen, code))
        return len(chosen)

    def _revoke(self, message: RevokeTokens) -> int:
        self._revocations.add(
            Revocation(message.app, message.user, message.jti, message.issued_before, message.expire_at)
        )
        if message.user:
            # All that live on this node now, whatever the clocks of signers and of the node that was asked say.
            now = max(message.issued_before, int(self._scheduler.time()))
            message = structs.replace(message, issued_before=now)
        return self._close_revoked(message)

    def _close_revoked(self, message: RevokeTokens) -> int:
        chosen = self.clients.select(User(message.app, message.user), "") if message.user else self.clients
        return _each(chosen, lambda client: client.revoke(message))

    # The cluster

    async def control(self, message: Control) -> ControlResult:
        """Carry out a control message on every node. Raises BrokerUnavailable or OutcomeUnknown."""
        return await self._broker.control(message)

    async def revoke(self, revocation: Revocation) -> ControlResult:
        """Refuse the tokens from now on, on every node, and close what lives on them.

        Those of a user are all that were issued by now, whatever `issued_before` says.
        """
        revocation = await self._registry.revoke(revocation, now=bool(revocation.user))
        return await self._broker.control(
            RevokeTokens(
                revocation.app, revocation.user, revocation.jti, revocation.issued_before, revocation.expire_at
            )
        )

    async def nodes(self) -> list[NodeInfo]:
        """All live nodes."""
        return await self._registry.nodes()

    async def occupied_channels(self, app: str, pattern: str, limit: int, cursor: str) -> ChannelPage:
        """As Registry.channels."""
        return await self._registry.channels(app, pattern, limit, cursor)


def _ended(clients: Iterable[Client], code: CloseCode) -> Iterator[None]:
    """Disconnects them, a step for each and for each of its channels: to leave one takes 8 us."""
    for client in clients:
        channels = client.num_channels
        try:
            client.disconnect(code)
        except Exception:
            client.fail("control")
        yield from repeat(None, 1 + channels)


def _each(clients: Iterable[Client], act: Callable[[Client], object]) -> int:
    """Act on each by itself; the number of those for which that did not return False."""
    count = 0
    for client in clients:
        try:
            count += act(client) is not False
        except Exception:
            client.fail("control")
    return count


T = TypeVar("T")


async def _outcome(start: Callable[[Callable[[T | RequestError], None]], None]) -> T:
    """Start something that is told when it is done, and wait for it. Raises what it ends with."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(outcome: T | RequestError) -> None:
        if future.done():
            return  # the waiter was cancelled
        if isinstance(outcome, RequestError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    start(done)
    return await future
