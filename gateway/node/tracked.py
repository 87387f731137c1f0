"""Base of the channels that tell subscribers where they begin: their reads, checks and joiners."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from gateway.broker.base import HistoryDone, Standing
from gateway.channels import ChannelSpec
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.hub.budget import Holder
from gateway.hub.fanout import footprint
from gateway.messages import (
    Channel,
    Destination,
    Event,
    HistoryPage,
    HistoryQuery,
    Joined,
    Latest,
    Position,
    Publication,
    Retention,
)
from gateway.metrics import Metrics
from gateway.scheduler import Scheduler

# Seconds between attempts of a check that could not be completed.
FIRST_DELAY = 0.05
LAST_DELAY = 1.0
# Most bytes of publications kept during a read; beyond it the reads start over.
RECENT_LIMIT = 4 * 1024 * 1024

Changed = Callable[[RequestError | None], None]


class Surroundings(Protocol):
    """What a tracked channel needs from its node."""

    scheduler: Scheduler
    metrics: Metrics
    guard: Guard
    # The channels that hold bytes now.
    holders: set[Holder]
    # Bounds of one read.
    max_publications: int
    max_bytes: int

    def read(
        self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone, issued: Callable[[], None]
    ) -> None:
        """Queue a read; `issued` is called just before it is sent."""

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        """Queue a read of all latest values."""

    def retry(self, channel: Channel, delay: float, again: Callable[[], None], error: RequestError | None) -> None:
        """Call `again` after `delay` seconds, or later, once the broker is healthy."""

    def deliver(self, destination: Destination, events: Sequence[Event]) -> bool:
        """Write to all subscribers. False when some events could not be kept for later and were dropped."""

    def is_busy(self, destination: Destination) -> bool:
        """Whether something still has to be written."""

    def count(self, destination: Destination) -> int:
        """The number of subscribers."""

    def tell(self, destination: Destination, done: Callable[[], None]) -> None:
        """End all subscriptions, because they missed something."""


class Read:
    """A read, and the index in the channel's recent publications at which it was issued."""

    __slots__ = ("page", "start")

    def __init__(self) -> None:
        self.start: int | None = None
        self.page: HistoryPage | None = None


T = TypeVar("T", bound="TrackedChannel")


class Joiner(ABC, Generic[T]):
    """A subscriber that is joining. `changed` is called whenever it becomes ready, or with the error that ends it."""

    __slots__ = ("_changed", "_tracked")

    def __init__(self, tracked: T, changed: Changed) -> None:
        self._tracked = tracked
        self._changed = changed

    @property
    def lane(self) -> Destination:
        """The destination that it joins in the hub."""
        return self._tracked.channel

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether `finish` can be called now."""

    @abstractmethod
    def start(self) -> None:
        """Read what is needed. May call `changed` at once."""

    @abstractmethod
    def finish(self) -> Joined:
        """Join now, only when `ready`: the caller adds the subscriber to the hub's `lane` at once."""

    def cancel(self) -> None:
        """Stop joining; nobody waits for it any more."""
        self._end()

    # Called by the channel

    @abstractmethod
    def advance(self) -> None:
        """The channel has changed: tell when ready."""

    def fail(self, error: RequestError) -> None:
        """It cannot join."""
        self._end()
        self._tell(error)

    def _end(self) -> None:
        self._tracked.drop(self)

    def _tell(self, error: RequestError | None) -> None:
        """Call `changed`; one subscriber's fault must not keep the others from being called."""
        self._tracked.around.guard.call("joiner", self._tracked.channel.name, self._changed, error)


class TrackedChannel(ABC):
    """One tracked channel on this node: its joiners, its checks, and what arrives during reads.

    A Holder of the budget.
    """

    __slots__ = (
        "_again",
        "_check",
        "_closed",
        "_delay",
        "_joiners",
        "_reading",
        "_recent",
        "_recent_bytes",
        "active",
        "around",
        "channel",
        "position",
    )

    payer = None

    def __init__(self, channel: Channel, around: Surroundings) -> None:
        self.channel = channel
        self.around = around
        # The position up to which this node knows the channel; None while unknown.
        self.position: Position | None = None
        # Whether something arrived since the last `look`.
        self.active = True
        self._joiners: dict[Joiner[Any], None] = {}
        # What arrived since the oldest read in progress was issued.
        self._recent: list[Publication] = []
        self._recent_bytes = 0
        self._reading: set[Read] = set()
        # The check's read, in progress or to be repeated; and whether another check has to follow.
        self._check: Read | None = None
        self._again = False
        self._delay = 0.0
        self._closed = False

    # Subscribers

    @abstractmethod
    def join(
        self, spec: ChannelSpec, since: Position | None, changed: Changed, *, interval: float | None
    ) -> Joiner[Any]:
        """Create a joiner, which the caller starts. The arguments are those of Messaging.prepare_join."""

    @property
    @abstractmethod
    def members(self) -> int:
        """Subscribers that have joined."""

    @abstractmethod
    def entered(self, lane: Destination) -> None:
        """A subscriber has joined."""

    @abstractmethod
    def left(self, lane: Destination) -> None:
        """A subscriber has left."""

    @property
    def is_used(self) -> bool:
        """Whether somebody has joined, or is about to."""
        return bool(self._joiners) or self.members > 0

    def waits_for(self, joiner: Joiner[Any]) -> bool:
        """Whether the joiner has neither finished nor given up."""
        return joiner in self._joiners

    def drop(self, joiner: Joiner[Any]) -> None:
        """The joiner has finished, or given up."""
        self._joiners.pop(joiner, None)

    @abstractmethod
    def lose(self, lane: Destination | None = None) -> None:
        """Tell the subscribers (of the lane, or all) that they have missed something."""

    def close(self) -> None:
        """Stop: no subscriber is left, nor about to join."""
        self._closed = True
        self._check = None
        self._reading.clear()
        self._forget_recent()

    def _wake(self) -> None:
        if self._joiners:
            for joiner in list(self._joiners):
                if joiner in self._joiners:
                    joiner.advance()

    # What arrives

    @abstractmethod
    def receive(self, publications: Sequence[Publication]) -> None:
        """Handle publications from the bus."""

    @abstractmethod
    def pass_on(self, events: Sequence[Event]) -> None:
        """Handle events from the bus that have no position."""

    def _keep(self, publications: Sequence[Publication]) -> None:
        self._recent.extend(publications)
        self._recent_bytes += sum(map(footprint, publications))
        self.around.holders.add(self)
        if self._recent_bytes > RECENT_LIMIT:
            self._drop_recent()

    def _drop_recent(self) -> None:
        """Forget what arrived: the reads in progress have to start over."""
        count = len(self._recent)
        self._recent = []
        self._recent_bytes = 0
        for read in self._reading:
            if read.start is not None:
                read.start -= count

    def _forget_recent(self) -> None:
        self._recent.clear()
        self._recent_bytes = 0
        if not self.held:
            self.around.holders.discard(self)

    def recent(self, read: Read) -> Sequence[Publication] | None:
        """What arrived since the read was issued; None when that was too much to keep."""
        if read.start is None or read.start < 0:
            return None
        return self._recent[read.start :]

    @property
    def concerned(self) -> int:
        """Subscribers that have joined or are about to."""
        return self.members + len(self._joiners)

    @property
    def held(self) -> int:
        """As a Holder of the budget: what is kept during reads."""
        return self._recent_bytes

    def shed(self) -> None:
        self._drop_recent()

    # Checks

    @abstractmethod
    def look(self) -> Standing | None:
        """Called periodically: check if needed, or return a position for the broker to compare."""

    def check(self) -> None:
        """Compare with what the broker keeps, and deliver what was missed."""
        if self._closed:
            return
        if self._check is not None:
            self._again = True
            return
        self._again = False
        read = self._check = Read()
        self._begin(read, partial(self._checked, read))

    @abstractmethod
    def _begin(self, read: Read, done: HistoryDone) -> None:
        """Start the read of a check."""

    @abstractmethod
    def _conclude(self, read: Read, page: HistoryPage) -> None:
        """Apply the result of a check's read."""

    def end(self, read: Read) -> None:
        """The read no longer needs what arrived since it was issued."""
        self._reading.discard(read)
        if not self._reading:
            self._forget_recent()

    def _checked(self, read: Read, outcome: HistoryPage | RequestError) -> None:
        if self._check is not read:
            return
        try:
            if isinstance(outcome, RequestError):
                self._check_later(read, outcome)
                for joiner in list(self._joiners):
                    joiner.fail(outcome)
            else:
                self._conclude(read, outcome)
        except Exception:
            self.around.guard.failed("check", self.channel.name)
            if self._check is read:
                self._check_later(read)
            else:
                # The check had ended, but its result did not reach the subscribers.
                self.lose()

    def _check_later(self, read: Read, error: RequestError | None = None) -> None:
        """Repeat the check after a delay; its new read replaces `read`."""
        self.end(read)
        self._delay = min(max(self._delay * 2, FIRST_DELAY), LAST_DELAY)
        self.around.retry(self.channel, self._delay, partial(self._check_again, read), error)

    def _check_again(self, read: Read) -> None:
        if self._check is read:
            self._check = None
            self.check()
