"""The channels with history or latest values that have subscribers on this node."""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from math import ceil
from typing import Any, NamedTuple, cast

from gateway.broker.base import Broker, HistoryDone, Standing
from gateway.channels import ChannelSpec
from gateway.errors import INTERNAL, RequestError
from gateway.guard import Guard
from gateway.hub.budget import Holder
from gateway.log import LogLimit
from gateway.messages import (
    Channel,
    Destination,
    Event,
    HistoryPage,
    HistoryQuery,
    Latest,
    Position,
    Publication,
    Retention,
)
from gateway.metrics import Metrics
from gateway.node.latest_channel import LatestChannel
from gateway.node.stream import Stream
from gateway.node.tracked import Changed, Joiner, TrackedChannel
from gateway.scheduler import Scheduler

logger = logging.getLogger(__name__)

# Most concurrent reads, each of up to `max_bytes`; also the most that are started, or retried, in one turn.
READS = 64
# Seconds between two looks whether the broker is healthy again, and between two log lines about failed reads.
LOOK_INTERVAL = 1.0
LOG_INTERVAL = 5.0
# Publications handed over per turn of the loop; writing one into an answer takes 2 to 3 us.
TURN_PUBLICATIONS = 1_000
# Seconds between comparisons of a quiet channel with the broker.
IDLE_INTERVAL = 30.0
# Least seconds between two ticks. With 100,000 channels, a tick looks at 834, which are compared together.
TICK = 0.25


def _nothing() -> None:
    pass


class _Read(NamedTuple):
    """Everyone who waits for the same read."""

    start: Callable[[HistoryDone], None]
    done: list[HistoryDone]
    issued: list[Callable[[], None]]


def _is_positioned(event: Event) -> bool:
    return event.offset > 0


class Tracker:
    """Creates and forgets tracked channels, queues their reads, and checks the quiet ones."""

    def __init__(
        self,
        broker: Broker,
        scheduler: Scheduler,
        metrics: Metrics,
        guard: Guard,
        *,
        deliver: Callable[[Destination, Sequence[Event]], bool],
        is_busy: Callable[[Destination], bool],
        count: Callable[[Destination], int],
        tell: Callable[[Destination, Callable[[], None]], None],
        max_publications: int,
        max_bytes: int,
    ) -> None:
        """`deliver`, `is_busy`, `count` and `tell` as in the Surroundings; `max_*` bound one read."""
        self.scheduler = scheduler
        self.metrics = metrics
        self.guard = guard
        self.holders: set[Holder] = set()
        self.deliver = deliver
        self.is_busy = is_busy
        self.count = count
        self.tell = tell
        self._broker = broker
        self.max_publications = max_publications
        self.max_bytes = max_bytes
        self._tracked: dict[Channel, TrackedChannel] = {}
        # The number of reads in progress, and those that wait; equal requests that wait share one read.
        self._reads = 0
        # (OrderedDict: to find its first entry, a dict skips all those removed, possibly many thousands.)
        self._waiting: OrderedDict[tuple[Channel, HistoryQuery | Latest], _Read] = OrderedDict()
        self._issuing = False
        # Retries that wait until the broker is healthy.
        self._stranded: OrderedDict[Channel, Callable[[], None]] = OrderedDict()
        self._looking = False
        self._failures = LogLimit(LOG_INTERVAL, scheduler.now)
        # Answers that wait to be handed over, and how many publications this turn still has room for.
        self._answers: deque[tuple[_Read, HistoryPage | RequestError]] = deque()
        self._room = TURN_PUBLICATIONS
        self._turn_scheduled = False
        # All channels, in the order in which they are looked at.
        self._idle: deque[TrackedChannel] = deque()
        self._ticking = False

    def find(self, channel: Channel) -> TrackedChannel | None:
        return self._tracked.get(channel)

    def join(
        self, spec: ChannelSpec, since: Position | None, changed: Changed, *, interval: float | None = None
    ) -> Joiner[Any] | None:
        """As Messaging.prepare_join."""
        tracked = self._tracked.get(spec.channel)
        if tracked is None:
            if spec.latest is not None:
                tracked = LatestChannel(spec.channel, spec.latest, self)
            elif spec.history is not None:
                tracked = Stream(spec.channel, spec.history, self)
            else:
                return None
            self._add(tracked)
        return tracked.join(spec, since, changed, interval=interval)

    def _add(self, tracked: TrackedChannel) -> None:
        self._tracked[tracked.channel] = tracked
        self._idle.append(tracked)
        if not self._ticking:
            self._ticking = True
            self._tick_later()

    def forget(self, channel: Channel) -> None:
        """Forget a channel without subscribers, unless somebody is about to join."""
        tracked = self._tracked.get(channel)
        if tracked is not None and not tracked.is_used:
            del self._tracked[channel]
            self._stranded.pop(channel, None)
            tracked.close()

    def receive(self, tracked: TrackedChannel, events: Sequence[Event]) -> None:
        """Handle events from the bus; those without a position bypass the stream."""
        if all(map(_is_positioned, events)):
            tracked.receive(cast(Sequence[Publication], events))
            return
        for positioned, group in groupby(events, key=_is_positioned):
            if positioned:
                tracked.receive(cast(Sequence[Publication], tuple(group)))
            else:
                tracked.pass_on(tuple(group))

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        """As in Surroundings."""
        self._wait((channel, latest), partial(self._broker.values, channel, latest), done)

    def read(
        self,
        channel: Channel,
        history: Retention,
        query: HistoryQuery,
        done: HistoryDone,
        issued: Callable[[], None] = _nothing,
    ) -> None:
        """As in Surroundings."""
        self._wait((channel, query), partial(self._broker.read, channel, history, query), done, issued)

    def _wait(
        self,
        key: tuple[Channel, HistoryQuery | Latest],
        start: Callable[[HistoryDone], None],
        done: HistoryDone,
        issued: Callable[[], None] = _nothing,
    ) -> None:
        read = self._waiting.setdefault(key, _Read(start, [], []))
        read.done.append(done)
        read.issued.append(issued)
        self._issue_soon()

    def _issue_soon(self) -> None:
        """Issue reads in the next turn: equal requests share one, and a broker that refuses at once cannot recurse."""
        if self._waiting and not self._issuing:
            self._issuing = True
            self.scheduler.call_soon(self._issue)

    def _issue(self) -> None:
        self._issuing = False
        # (Bounded: a broker that refuses at once would otherwise be asked for all of them in one turn.)
        for _ in range(READS - self._reads):
            if not self._waiting:
                return
            _, read = self._waiting.popitem(last=False)
            self._reads += 1
            for issued in read.issued:
                issued()
            if not self.guard.call("read", "", read.start, partial(self._answered, read)):
                self._answered(read, RequestError(INTERNAL, "the read could not be started"))

    def _answered(self, read: _Read, outcome: HistoryPage | RequestError) -> None:
        self._answers.append((read, outcome))
        self._hand_over()

    def _hand_over(self) -> None:
        """Hand over answers while this turn of the loop has room; many reads may be answered at once."""
        while self._answers and self._room > 0:
            read, outcome = self._answers.popleft()
            self._reads -= 1
            self._issue_soon()
            # An empty answer costs something too.
            size = len(outcome.publications) if isinstance(outcome, HistoryPage) else 0
            self._room -= (1 + size) * len(read.done)
            for done in read.done:
                # One caller's fault must not keep the others waiting.
                self.guard.call("completion", "", done, outcome)
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self.scheduler.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_scheduled = False
        self._room = TURN_PUBLICATIONS
        if self._answers:
            self._hand_over()

    def retry(self, channel: Channel, delay: float, again: Callable[[], None], error: RequestError | None) -> None:
        """As in Surroundings. Without a broker, thousands of channels may ask: they wait for it together."""
        # (While the broker is not healthy, the log says so in general.)
        if error is not None and self._broker.health().ok and (suppressed := self._failures.passes()) is not None:
            logger.warning("channel %s could not be read: %s", channel.name, error.detail or error, extra=suppressed)
        self.scheduler.call_later(delay, partial(self._try_again, channel, again))

    def _try_again(self, channel: Channel, again: Callable[[], None]) -> None:
        if self._broker.health().ok:
            again()
        elif channel in self._tracked:
            self._stranded[channel] = again
            self._look_later(LOOK_INTERVAL)

    def _look_later(self, delay: float) -> None:
        if self._stranded and not self._looking:
            self._looking = True
            self.scheduler.call_later(delay, self._look)

    def _look(self) -> None:
        """Once the broker is healthy again, run the stranded retries, a few per turn."""
        self._looking = False
        if not self._broker.health().ok:
            self._look_later(LOOK_INTERVAL)
            return
        for _ in range(min(READS, len(self._stranded))):
            channel, again = self._stranded.popitem(last=False)
            self.guard.call("check", channel.name, again)
        self._look_later(0.0)

    def _stands_elsewhere(self, standing: Standing) -> None:
        tracked = self._tracked.get(standing.channel)
        if tracked is not None and tracked.position == standing.position:
            tracked.check()

    def _tick_later(self) -> None:
        self.scheduler.call_later(max(IDLE_INTERVAL / len(self._idle), TICK), self._tick)

    def _tick(self) -> None:
        """Look at a share of the channels, so that all are covered within the interval."""
        quiet: list[Standing] = []
        for _ in range(ceil(len(self._idle) * TICK / IDLE_INTERVAL)):
            tracked = self._idle.popleft()
            if self._tracked.get(tracked.channel) is not tracked:
                continue
            self._idle.append(tracked)
            try:
                standing = tracked.look()
            except Exception:
                self.guard.failed("check", tracked.channel.name)
                continue
            if standing is not None:
                quiet.append(standing)
        if quiet:
            self.guard.call("check", "", self._broker.compare, quiet, self._stands_elsewhere)
        self._ticking = bool(self._idle)
        if self._ticking:
            self._tick_later()
