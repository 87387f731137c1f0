"""The local subscribers of channels, and the delivery of events to them without blocking the loop."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic

from gateway.guard import Guard
from gateway.hub.corks import Corks
from gateway.hub.encoder import Encoder
from gateway.hub.fanout import Fanout, S, Write, Written
from gateway.messages import Destination, Event
from gateway.metrics import Metrics
from gateway.scheduler import Scheduler

# Writes per turn of the event loop. A write is 3 to 8 us of system call: a turn takes a few milliseconds.
TURN_WRITES = 500
# Bytes of events that may wait in one channel while a fan-out is in progress.
WAITING_LIMIT = 4 * 1024 * 1024


class _Behind(Generic[S]):
    """What waits in one channel. A Holder of the budget."""

    __slots__ = ("_fanout", "_hub")

    def __init__(self, hub: "Hub[S]", fanout: Fanout[S]) -> None:
        self._hub = hub
        self._fanout = fanout

    payer = None

    @property
    def held(self) -> int:
        return self._fanout.waiting_bytes

    @property
    def concerned(self) -> int:
        return self._fanout.size

    def shed(self) -> None:
        """Drop what waits, and tell the subscribers."""
        self._hub.discard(self._fanout.destination)
        self._hub.on_fault(self._fanout.destination)


class Hub(Generic[S]):
    """Subscribers by channel, or by lane of one. Order is kept within a channel, but not between channels."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics) -> None:
        self._scheduler = scheduler
        self._metrics = metrics
        self._guard = Guard(metrics.faults)
        # The subscribers' corks, pulled before a delivery is written.
        self.corks = Corks(scheduler)
        # Called with a channel whose subscribers missed events that had been accepted for delivery.
        self.on_fault: Callable[[Destination], object] = lambda destination: None
        self._fanouts: dict[Destination, Fanout[S]] = {}
        # Fan-outs with something left to write, in order; a fan-out stands here at most once.
        self._queue: deque[Fanout[S]] = deque()
        self._budget = TURN_WRITES
        self._turn_scheduled = False
        self._subscriptions = 0
        metrics.subscriptions.read = lambda: self._subscriptions
        metrics.channels.read = lambda: len(self._fanouts)
        metrics.fanout_waiting.read = lambda: sum(fanout.waiting_bytes for fanout in self._queue)

    def behind(self) -> Iterator[_Behind[S]]:
        """What waits, by channel. (Without channels that everybody has left: their events drain in the next turns.)"""
        return (_Behind(self, fanout) for fanout in self._queue if self._fanouts.get(fanout.destination) is fanout)

    @property
    def num_subscriptions(self) -> int:
        return self._subscriptions

    @property
    def num_channels(self) -> int:
        return len(self._fanouts)

    def add(self, destination: Destination, subscriber: S, encoder: Encoder, write: Write) -> None:
        """Pass every block of the channel, as encoded by `encoder`, to `write` from now on."""
        fanout = self._fanouts.get(destination)
        if fanout is None:
            fanout = self._fanouts[destination] = Fanout(destination)
        fanout.add(subscriber, encoder, write)
        self._subscriptions += 1

    def remove(self, destination: Destination, subscriber: S, encoder: Encoder) -> None:
        """The subscriber gets nothing more of the channel."""
        fanout = self._fanouts[destination]
        fanout.remove(subscriber, encoder)
        self._subscriptions -= 1
        if not fanout.size:
            del self._fanouts[destination]

    def redirect(self, destination: Destination, subscriber: S, encoder: Encoder, write: Write) -> None:
        """Replace a subscriber's `write`, even in the middle of a delivery."""
        self._fanouts[destination].redirect(subscriber, encoder, write)

    def move(self, destination: Destination, subscriber: S, old: Encoder, new: Encoder, write: Write) -> None:
        """Replace a subscriber's encoder and `write`; what it has not got yet comes in the new encoding."""
        self._count(self._fanouts[destination].move(subscriber, old, new, write))

    def subscribers(self, destination: Destination) -> Iterator[S]:
        """The subscribers, which must not change while iterating."""
        fanout = self._fanouts.get(destination)
        return fanout.subscribers() if fanout is not None else iter(())

    def count(self, destination: Destination) -> int:
        """Subscriptions to the channel on this node."""
        fanout = self._fanouts.get(destination)
        return fanout.size if fanout is not None else 0

    def deliver(self, destination: Destination, events: Sequence[Event]) -> int:
        """Write events of one channel to its subscribers: now if this turn has room, else in coming turns.

        Returns how many were dropped because too much waits.
        """
        fanout = self._fanouts.get(destination)
        if fanout is None:
            return 0
        self._schedule_turn()
        cost = fanout.cost(events)
        if fanout.busy or cost > self._budget:
            was_busy = fanout.busy
            dropped = fanout.wait(events, WAITING_LIMIT)
            if fanout.busy and not was_busy:
                self._queue.append(fanout)
            self._metrics.fanout_dropped.add(dropped)
            return dropped
        self._budget -= cost
        self._observe(events)
        self.corks.pull()
        self._count(fanout.write_all(events))
        return 0

    def is_busy(self, destination: Destination) -> bool:
        """Whether something of the channel still has to be written."""
        fanout = self._fanouts.get(destination)
        return fanout is not None and fanout.busy

    def discard(self, destination: Destination) -> None:
        """Drop what waits for the subscribers of a channel."""
        fanout = self._fanouts.get(destination)
        if fanout is not None and (dropped := fanout.discard()):
            self._metrics.fanout_dropped.add(dropped)
            if not fanout.running:
                self._queue.remove(fanout)

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._scheduler.call_soon(self._turn)

    def _turn(self) -> None:
        """A new turn of the loop: a fresh budget, spent on the queue first."""
        self._turn_scheduled = False
        self._budget = TURN_WRITES
        while self._queue and self._budget > 0:
            self.corks.pull()
            fanout = self._queue.popleft()
            try:
                self._go_on(fanout)
            except Exception:
                # A fault must not stop the other channels.
                self._guard.failed("fan-out", fanout.destination.name)
                fanout.give_up()
                self._scheduler.call_soon(partial(self.on_fault, fanout.destination))
            if fanout.busy:
                self._queue.append(fanout)
        if self._queue:
            self._schedule_turn()

    def _go_on(self, fanout: Fanout[S]) -> None:
        """Write more of what waits in one channel."""
        if not fanout.running:
            self._observe(fanout.begin())
        used, written = fanout.advance(self._budget)
        # At least 1: even a block that nobody gets takes time.
        self._budget -= max(used, 1)
        self._count(written)

    def _count(self, written: Written) -> None:
        self._metrics.deliveries.add(written.deliveries)
        self._metrics.delivered_bytes.add(written.size)

    def _observe(self, events: Sequence[Event]) -> None:
        # One observation per batch, of its oldest message: the histogram must not cost more than a delivery.
        age = self._scheduler.time() - events[0].time / 1000
        self._metrics.delivery_latency.observe(max(age, 0.0), len(events))
