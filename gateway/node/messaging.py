"""Publish and subscribe: connects broker and hub. Knows clients, but no wire protocol."""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from gateway.broker.base import (
    Broker,
    CountsDone,
    HistoryDone,
    MembersDone,
    Presence,
    PublishDone,
    Registry,
    SubscribeDone,
)
from gateway.channels import Channels, ChannelSpec
from gateway.errors import UNSUBSCRIBED_INSUFFICIENT, RequestError
from gateway.guard import Guard
from gateway.hub.encoder import Encoder
from gateway.hub.fanout import Write
from gateway.hub.hub import Hub
from gateway.messages import (
    Channel,
    Destination,
    Event,
    HistoryQuery,
    Latest,
    Position,
    Publication,
    PublishOptions,
    Retention,
)
from gateway.metrics import Metrics
from gateway.node.clients import Client
from gateway.node.interests import Interests
from gateway.node.slices import in_slices
from gateway.node.tracked import Changed, Joiner
from gateway.node.tracker import Tracker
from gateway.scheduler import Scheduler

logger = logging.getLogger(__name__)


class Messaging:
    """Publishes, reads and subscribes for the clients and backends of a node. Does no I/O of its own.

    Implements the publication part of the broker's Receiver port.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        registry: Registry,
        presence: Presence,
        channels: Channels,
        scheduler: Scheduler,
        metrics: Metrics,
        max_publications: int,
        max_bytes: int,
    ) -> None:
        """`max_publications` and `max_bytes` bound one read of a stream, for a recovery or a refill."""
        self.hub: Hub[Client] = Hub(scheduler, metrics)
        self.hub.on_fault = self._missed
        self._broker = broker
        self._registry = registry
        self._presence = presence
        self._channels = channels
        self._scheduler = scheduler
        self._metrics = metrics
        self._guard = Guard(metrics.faults)
        self._interests = Interests(broker, self._guard)
        # Channels without a stream whose subscribers are being told that they missed something.
        self._telling: set[Channel] = set()
        self.tracker = Tracker(
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

    def limit_reads(self, max_publications: int, max_bytes: int) -> None:
        """Set the bounds of reads from now on."""
        self.tracker.max_publications = max_publications
        self.tracker.max_bytes = max_bytes

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        """As Broker.publish."""
        self._broker.publish(publication, options, done)

    # Subscribe

    def acquire(self, channel: Channel, done: SubscribeDone) -> None:
        """Let publications of the channel reach this node; `done` may be called at once. Pairs with `release`."""
        self._interests.acquire(channel, done)

    def release(self, channel: Channel) -> None:
        """Undo a successful `acquire`."""
        if not self.count(channel):
            self.tracker.forget(channel)
        self._interests.release(channel)

    def prepare_join(
        self, spec: ChannelSpec, since: Position | None, changed: Changed, *, interval: float | None
    ) -> Joiner[Any] | None:
        """A joiner for an acquired channel, or None if it can be joined right away.

        `since` is the position up to which the client has seen everything, if it says so. On a channel with latest
        values it gets at most one publication per key and `interval` (seconds; None: as configured). `changed` is
        called whenever the joiner becomes ready, or with the error that ends it.
        """
        return self.tracker.join(spec, since, changed, interval=interval)

    def join(self, channel: Channel, lane: Destination, client: Client, encoder: Encoder, write: Write) -> None:
        """Deliver the acquired channel to a client from now on; `lane` is its joiner's, or the channel without one."""
        self.hub.add(lane, client, encoder, write)
        tracked = self.tracker.find(channel)
        if tracked is not None:
            tracked.entered(lane)
        spec = self._spec(channel)
        if spec is not None and spec.presence is not None:
            self._presence.enter(channel, client.member(channel.name), spec.presence)
        self._registry.set_occupancy(channel, self.count(channel))

    def redirect(self, lane: Destination, client: Client, encoder: Encoder, write: Write) -> None:
        """Replace the `write` of a joined client, even in the middle of a delivery."""
        self.hub.redirect(lane, client, encoder, write)

    def count(self, channel: Channel) -> int:
        """Subscriptions to the channel on this node."""
        tracked = self.tracker.find(channel)
        return tracked.members if tracked is not None else self.hub.count(channel)

    def move(self, lane: Destination, client: Client, old: Encoder, new: Encoder, write: Write) -> None:
        """As in the hub."""
        self.hub.move(lane, client, old, new, write)

    def position(self, channel: Channel) -> Position | None:
        """Where those are who have got all publications; None on a channel without history."""
        tracked = self.tracker.find(channel)
        return tracked.position if tracked is not None else None

    def leave(self, channel: Channel, lane: Destination, client: Client, encoder: Encoder) -> None:
        """Undo `join` and its `acquire`."""
        self.hub.remove(lane, client, encoder)
        # Whatever the rules are by now: a client that never entered is ignored.
        self._presence.leave(channel, client.client)
        tracked = self.tracker.find(channel)
        if tracked is not None:
            tracked.left(lane)
        self._registry.set_occupancy(channel, self.count(channel))
        self.release(channel)

    # Read; `done` may be called at once, for example with BrokerUnavailable

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        """Read a stream, queued behind other reads."""
        self.tracker.read(channel, history, query, done)

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        """The newest values of a channel."""
        self.tracker.values(channel, latest, done)

    def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
        """As Presence.members."""
        self._presence.members(channel, limit, room, done)

    def member_counts(self, channel: Channel, done: CountsDone) -> None:
        """As Presence.counts."""
        self._presence.counts(channel, done)

    def clear(self, channel: Channel) -> Awaitable[None]:
        """As Broker.clear."""
        return self._broker.clear(channel)

    # Called by the broker

    def on_events(self, channel: Channel, events: Sequence[Event]) -> None:
        try:
            self._receive(channel, events)
        except Exception:
            self._guard.failed("delivery", channel.name)
            self._missed(channel)

    def _receive(self, channel: Channel, events: Sequence[Event]) -> None:
        tracked = self.tracker.find(channel)
        if tracked is not None:
            self.tracker.receive(tracked, events)
        elif self.hub.deliver(channel, events) and channel not in self._telling and self._announces_gaps(channel):
            self._telling.add(channel)
            self._tell(channel, partial(self._telling.discard, channel))

    def _missed(self, lane: Destination) -> None:
        """A fault kept something from a lane's subscribers: tell them, whatever the channel guarantees."""
        tracked = self.tracker.find(Channel(lane.app, lane.name))
        if tracked is not None:
            tracked.lose(lane)
        else:
            in_slices(self._told(lane), self._scheduler)

    def on_gap(self, channels: Sequence[Channel]) -> None:
        """Check tracked channels and tell the subscribers of the others; in slices, since it may be all."""
        logger.warning("publications may have been missed on %d channels", len(channels))
        in_slices(self._after_gap(channels), self._scheduler)

    def on_unreadable(self, channels: Sequence[Channel]) -> None:
        for channel in channels:
            if (tracked := self.tracker.find(channel)) is not None:
                tracked.check()

    def _after_gap(self, channels: Sequence[Channel]) -> Iterator[None]:
        """One channel or subscription per step: going through 100,000 channels takes half a second."""
        for channel in channels:
            try:
                tracked = self.tracker.find(channel)
                if tracked is not None:
                    tracked.check()
                elif self._announces_gaps(channel):
                    yield from self._told(channel)
            except Exception:
                self._guard.failed("gap", channel.name)
            yield

    def _announces_gaps(self, channel: Channel) -> bool:
        spec = self._spec(channel)
        return spec is None or spec.options.announce_gaps

    def _spec(self, channel: Channel) -> ChannelSpec | None:
        """None when a reload has removed the namespace since the channel was subscribed to."""
        try:
            return self._channels.resolve(channel.app, channel.name)
        except RequestError:
            return None

    def _told(self, lane: Destination) -> Iterator[None]:
        """Tell a lane's subscribers of a gap, one subscription per step."""
        for client in list(self.hub.subscribers(lane)):
            try:
                if client.unsubscribe_by_server(lane.name, UNSUBSCRIBED_INSUFFICIENT):
                    self._metrics.gaps.add()
            except Exception:
                client.fail("gap")
            yield

    def _tell(self, lane: Destination, done: Callable[[], None]) -> None:
        """As in Surroundings."""
        # Waiting events may come after the missed ones: a client that got them would resume from too late a position.
        self.hub.discard(lane)

        def steps() -> Iterator[None]:
            yield from self._told(lane)
            done()

        in_slices(steps(), self._scheduler)

    def _deliver(self, lane: Destination, events: Sequence[Event]) -> bool:
        """As in Surroundings."""
        return not self.hub.deliver(lane, events)
