"""The broker in the memory of one process: it delivers publications to the subscribers of this node."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from gateway.broker.base import Health, HistoryDone, PublishDone, Receiver, Standing, SubscribeDone
from gateway.broker.memory.memory_presence import MemoryPresence
from gateway.broker.memory.memory_streams import MemoryStreams
from gateway.control import Control, ControlResult, NodeId
from gateway.errors import BrokerUnavailable, RequestError
from gateway.guard import Guard
from gateway.messages import (
    PUBLISHED,
    Channel,
    Event,
    HistoryQuery,
    Latest,
    Publication,
    PublishOptions,
    PublishResult,
    Retention,
)
from gateway.metrics import Metrics

# Results of idempotent publishes that are kept; beyond that the oldest are dropped.
REMEMBERED = 100_000


class MemoryBroker:
    """Delivers on the next turn of the loop, together with everything else that was published in the same turn."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._guard = Guard(metrics.faults)
        self._clock = clock
        self._receiver: Receiver | None = None
        self._subscribed: set[Channel] = set()
        self._waiting: dict[Channel, list[Event]] = {}
        self._streams = MemoryStreams(clock)
        self.presence = MemoryPresence(self._send, metrics)
        self._unanswered: deque[tuple[PublishDone, PublishResult | RequestError]] = deque()
        # (channel, idempotency key) -> when it expires, and its result; in the order of publishing.
        self._seen: OrderedDict[tuple[Channel, str], tuple[float, PublishResult]] = OrderedDict()
        metrics.broker_up.read = lambda: float(self._receiver is not None)

    async def start(self, receiver: Receiver) -> None:
        await receiver.catch_up()
        self._receiver = receiver

    async def stop(self) -> None:
        self._receiver = None
        self.presence.stop()
        self._waiting.clear()
        # Some of these keys belong to publications that are no longer delivered.
        self._seen.clear()
        while self._unanswered:
            self._unanswered.popleft()[0](BrokerUnavailable("the broker is stopped"))

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        if self._receiver is None:
            self._metrics.publish_errors.add("stopped")
            done(BrokerUnavailable("the broker is stopped"))
            return
        self._metrics.published.add()
        key = (publication.channel, options.idempotency_key) if options.idempotency_key else None
        result: PublishResult | RequestError | None = self._known(key) if key is not None else None
        if result is None:
            result = self._accept(publication, options)
            if key is not None and isinstance(result, PublishResult):
                self._remember(key, self._clock() + options.idempotency_ttl, result)
        self._unanswered.append((done, result))
        asyncio.get_running_loop().call_soon(self._answer)

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        if self._receiver is None:
            done(BrokerUnavailable("the broker is stopped"))
            return
        done(self._streams.read(channel, history, query))

    def compare(self, standings: Sequence[Standing], elsewhere: Callable[[Standing], None]) -> None:
        for standing in standings:
            top = self._streams.read(standing.channel, standing.history, HistoryQuery()).top
            # Both 0: nothing was published, so the epochs do not matter.
            if top != standing.position and (top.offset or standing.position.offset):
                elsewhere(standing)

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        if self._receiver is None:
            done(BrokerUnavailable("the broker is stopped"))
            return
        done(self._streams.values(channel, latest))

    async def clear(self, channel: Channel) -> None:
        self._streams.clear(channel)

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        if self._receiver is None:
            done(BrokerUnavailable("the broker is stopped"))
            return
        self._subscribed.add(channel)
        done(None)

    def unsubscribe(self, channel: Channel) -> None:
        self._subscribed.discard(channel)

    async def control(self, message: Control) -> ControlResult:
        if self._receiver is None:
            raise BrokerUnavailable("the broker is stopped")
        return ControlResult.of(1, [self._receiver.on_control(message)])

    async def relay(self, node: NodeId, request: bytes, seconds: float) -> bytes | None:
        # This node is the only one, and passes nothing to itself.
        return None

    def lose_data(self) -> None:
        """For tests: what happens when a server of its own restarts without its data."""
        self._streams = MemoryStreams(self._clock)
        if self._receiver is not None:
            self._receiver.on_gap(list(self._subscribed))

    def health(self) -> Health:
        return Health(True) if self._receiver is not None else Health(False, "the broker is stopped")

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for channel, events in waiting.items():
            self._metrics.broker_messages.add(len(events))
            if self._receiver is not None and channel in self._subscribed:
                self._guard.call("bus", channel.name, self._receiver.on_events, channel, events)

    def _answer(self) -> None:
        """One completion per callback, so that a fault of one caller does not affect the others."""
        if self._unanswered:
            done, result = self._unanswered.popleft()
            done(result)

    def _accept(self, publication: Publication, options: PublishOptions) -> PublishResult | RequestError:
        """Store the publication in the stream, and send it to the subscribers."""
        result = PUBLISHED
        if options.latest is not None:
            try:
                publication = self._streams.set_value(publication, options.latest)
            except RequestError as error:
                return error.detach()
            result = PublishResult(publication.offset, publication.epoch)
        if options.history is not None:
            stored = self._streams.append(publication, options.history, options.version_epoch)
            result = PublishResult(*self._streams.top(publication.channel))
            if stored is None:
                return result
            publication = stored
        self._send(publication.channel, publication)
        return result

    def _send(self, channel: Channel, event: Event) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._waiting.setdefault(channel, []).append(event)

    def _known(self, key: tuple[Channel, str]) -> PublishResult | None:
        """The result of an earlier publish with this key, unless it has expired."""
        until, result = self._seen.get(key, (0.0, PUBLISHED))
        return result if until > self._clock() else None

    def _remember(self, key: tuple[Channel, str], until: float, result: PublishResult) -> None:
        self._seen.pop(key, None)
        self._seen[key] = (until, result)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
