"""A channel whose subscribers are told where they begin: what is read of it, and who is on the way in."""

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
# Bytes of publications that are kept while somebody reads; above it the reads are begun anew.
RECENT_LIMIT = 4 * 1024 * 1024

Changed = Callable[[RequestError | None], None]


class Surroundings(Protocol):
    """What such a channel needs of its node."""

    scheduler: Scheduler
    metrics: Metrics
    guard: Guard
    # Those that keep something.
    holders: set[Holder]
    # What one read may bring.
    max_publications: int
    max_bytes: int

    def read(
        self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone, issued: Callable[[], None]
    ) -> None:
        """Read when it is its turn; `issued` is called when the read is on its way."""

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        """Read all newest values when it is their turn."""

    def retry(self, channel: Channel, delay: float, again: Callable[[], None], error: RequestError | None) -> None:
        """Call `again` after `delay` seconds, and not before anything can be read at all."""

    def deliver(self, destination: Destination, events: Sequence[Event]) -> bool:
        """Write to all who have joined. False when some could not be kept for later, and were dropped."""

    def is_busy(self, destination: Destination) -> bool:
        """Whether something still has to be written."""

    def count(self, destination: Destination) -> int:
        """How many have joined."""

    def tell(self, destination: Destination, done: Callable[[], None]) -> None:
        """End the subscriptions of all who have joined: they missed something."""


class Read:
    """A read, and where in the channel's recent publications it was asked for."""

    __slots__ = ("page", "start")

    def __init__(self) -> None:
        self.start: int | None = None
        self.page: HistoryPage | None = None


T = TypeVar("T", bound="TrackedChannel")


class Joiner(ABC, Generic[T]):
    """A subscriber on its way in. `changed` is called whenever it has become ready, or with the error that ends it."""

    __slots__ = ("_changed", "_tracked")

    def __init__(self, tracked: T, changed: Changed) -> None:
        self._tracked = tracked
        self._changed = changed

    @property
    def lane(self) -> Destination:
        """What it joins in the hub."""
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
        """The subscriber joins now: whoever calls this adds it to the hub's `lane` at once. Only when `ready`."""

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._end()

    # What the channel calls

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
        """The fault of one subscriber must not keep the others waiting, who may hear of the same."""
        self._tracked.around.guard.call("joiner", self._tracked.channel.name, self._changed, error)


class TrackedChannel(ABC):
    """One such channel on this node: its joiners, its checks, and what arrives while something is read.

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
        # Up to where this node knows the channel; None while it knows nothing.
        self.position: Position | None = None
        # Something arrived since the owner looked last.
        self.active = True
        self._joiners: dict[Joiner[Any], None] = {}
        # What arrived since the oldest of the reads was asked for that look at it.
        self._recent: list[Publication] = []
        self._recent_bytes = 0
        self._reading: set[Read] = set()
        # The read that is under way, or is to be repeated; and whether another one has to follow.
        self._check: Read | None = None
        self._again = False
        self._delay = 0.0
        self._closed = False

    # Subscribers

    @abstractmethod
    def join(
        self, spec: ChannelSpec, since: Position | None, changed: Changed, *, interval: float | None
    ) -> Joiner[Any]:
        """Let a subscriber in, once it is started. The arguments are those of Messaging.prepare_join."""

    @property
    @abstractmethod
    def members(self) -> int:
        """Subscribers that have joined."""

    @abstractmethod
    def entered(self, lane: Destination) -> None:
        """One more has joined."""

    @abstractmethod
    def left(self, lane: Destination) -> None:
        """One less."""

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
        """Those who have joined (the lane, or any) have missed something: they are told."""

    def close(self) -> None:
        """Nobody is left."""
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
        """What the bus brought."""

    @abstractmethod
    def pass_on(self, events: Sequence[Event]) -> None:
        """What the bus brought that has no position."""

    def _keep(self, publications: Sequence[Publication]) -> None:
        self._recent.extend(publications)
        self._recent_bytes += sum(map(footprint, publications))
        self.around.holders.add(self)
        if self._recent_bytes > RECENT_LIMIT:
            self._drop_recent()

    def _drop_recent(self) -> None:
        """The reads are begun anew."""
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
        """What arrived since the read was asked for; None when that was too much to keep."""
        if read.start is None or read.start < 0:
            return None
        return self._recent[read.start :]

    @property
    def concerned(self) -> int:
        """Whoever has joined, and whoever is about to."""
        return self.members + len(self._joiners)

    @property
    def held(self) -> int:
        """As a Holder of the budget: what is kept while somebody reads."""
        return self._recent_bytes

    def shed(self) -> None:
        self._drop_recent()

    # Checks

    @abstractmethod
    def look(self) -> Standing | None:
        """Called now and then: check if that is needed, or return what is to be compared with the broker."""

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
        """A check has read what there is."""

    def end(self, read: Read) -> None:
        """Nobody looks any more at what arrived since the read."""
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
                # It was over, and what it brought has not reached the subscribers.
                self.lose()

    def _check_later(self, read: Read, error: RequestError | None = None) -> None:
        """What is asked again takes the place of `read`."""
        self.end(read)
        self._delay = min(max(self._delay * 2, FIRST_DELAY), LAST_DELAY)
        self.around.retry(self.channel, self._delay, partial(self._check_again, read), error)

    def _check_again(self, read: Read) -> None:
        if self._check is read:
            self._check = None
            self.check()
