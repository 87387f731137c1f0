"""Channels of which only the newest value of each key counts: what is read of them, and how often it is passed on."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from msgspec import structs

from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.hub.budget import Holder
from gateway.hub.fanout import footprint
from gateway.messages import (
    AGE,
    REMOVED,
    Channel,
    Event,
    HistoryPage,
    Joined,
    Latest,
    Position,
    Publication,
    is_removal,
    latest_key,
)
from gateway.metrics import Metrics
from gateway.node.joiner import Changed
from gateway.scheduler import Scheduler

# Seconds between attempts to read the values.
FIRST_DELAY = 0.05
LAST_DELAY = 1.0
# Seconds after which a lane is looked at again that is still being written to.
BUSY_DELAY = 0.05
# Bytes of publications that are kept during a read; above it another read follows.
RECENT_LIMIT = 4 * 1024 * 1024

# What waits in a lane is so many times the keys of a channel at most: removals stand there too. It goes out before its
# time then, and always fits what the hub lets wait (5,000 keys and 1 MiB at most, by the settings).
MOST_WAITING = 2

ValuesDone = Callable[[HistoryPage | RequestError], None]


class Surroundings(Protocol):
    """What such a channel needs of its node."""

    scheduler: Scheduler
    metrics: Metrics
    guard: Guard
    # Those that keep something.
    holders: set[Holder]

    def values(self, channel: Channel, latest: Latest, done: ValuesDone) -> object:
        """Read all values."""

    def retry(self, channel: Channel, delay: float, again: Callable[[], None], error: RequestError | None) -> None:
        """Call `again` after `delay` seconds, and not before anything can be read at all."""

    def deliver(self, channel: Channel, events: Sequence[Event]) -> bool:
        """Write to all who have joined a lane. False when some could not be kept for later, and were dropped."""

    def is_busy(self, channel: Channel) -> bool:
        """Whether something of a lane still has to be written."""


def lane_of(channel: Channel, interval: float) -> Channel:
    """What subscribers with one interval have joined in the hub. No channel's name holds a NUL."""
    return Channel(channel.app, f"{channel.name}\0{interval}")


def channel_of(lane: Channel) -> Channel:
    """The channel that a lane belongs to."""
    return Channel(lane.app, lane.name.partition("\0")[0])


def _interval_of(lane: Channel) -> float:
    return float(lane.name.rpartition("\0")[2])


class _Lane:
    """Subscribers with one interval: what they have not got yet, by key."""

    __slots__ = ("channel", "interval", "members", "next_at", "scheduled", "sent", "waiting")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.interval = _interval_of(channel)
        self.members = 0
        self.waiting: dict[str, Publication] = {}
        # What went out last, part of which the hub may still have to drop.
        self.sent: dict[str, Publication] = {}
        # When something may be written again.
        self.next_at = 0.0
        self.scheduled = False


class LatestJoiner:
    """A subscriber on its way in; as Joiner."""

    __slots__ = ("_changed", "_channel", "_interval")

    def __init__(self, channel: "LatestChannel", interval: float, changed: Changed) -> None:
        self._channel = channel
        self._interval = interval
        self._changed = changed

    @property
    def ready(self) -> bool:
        return self._channel.loaded

    @property
    def lane(self) -> Channel:
        return lane_of(self._channel.channel, self._interval)

    def start(self) -> None:
        self.advance(None)

    def finish(self) -> Joined:
        """All current values. Whoever calls this adds the subscriber to the hub's `lane` at once."""
        return self._channel.enter(self)

    def cancel(self) -> None:
        self._channel.drop(self)

    def advance(self, error: RequestError | None) -> None:
        """The values were read, or could not be. The fault of one subscriber must not keep the others waiting."""
        if error is not None:
            self._channel.drop(self)
        elif not self.ready:
            return
        self._channel.around.guard.call("joiner", self._channel.channel.name, self._changed, error)


class LatestChannel:
    """One such channel on this node."""

    def __init__(self, channel: Channel, latest: Latest, around: Surroundings) -> None:
        self.channel = channel
        self.latest = latest
        self.loaded = False
        # Something arrived since the owner looked last.
        self.active = True
        self.around = around
        self._position = Position(0, "")
        self._values: dict[str, Publication] = {}
        self._lanes: dict[Channel, _Lane] = {}
        self._joiners: dict[LatestJoiner, None] = {}
        # What arrived since the read that is under way was asked for.
        self._recent: list[Publication] | None = None
        self._recent_bytes = 0
        self._again = False
        self._delay = 0.0
        self._closed = False
        self.check()

    @property
    def is_used(self) -> bool:
        return bool(self._joiners) or self.members > 0

    @property
    def members(self) -> int:
        """Subscribers that have joined."""
        return sum(lane.members for lane in self._lanes.values())

    def join(self, interval: float, changed: Changed) -> LatestJoiner:
        """Let a subscriber in, once it is started, that gets at most one publication per key and interval (s)."""
        joiner = LatestJoiner(self, interval, changed)
        self._joiners[joiner] = None
        return joiner

    def enter(self, joiner: LatestJoiner) -> Joined:
        """Where the subscriber begins; it is counted when it has `entered`.

        A value that waits for the others comes to this one twice: their interval is not over, and it should not wait.
        """
        self.drop(joiner)
        now = self.around.scheduler.time()
        values = sorted(self._current(now), key=lambda each: each.offset)
        return Joined(None, publications=[_with_age(each, now) for each in values])

    def entered(self, lane: Channel) -> None:
        """One more in a lane."""
        if lane not in self._lanes:
            self._lanes[lane] = _Lane(lane)
        self._lanes[lane].members += 1

    def leave(self, lane: Channel) -> None:
        """One less in a lane."""
        left = self._lanes[lane]
        left.members -= 1
        if not left.members:
            del self._lanes[lane]

    def drop(self, joiner: LatestJoiner) -> None:
        self._joiners.pop(joiner, None)

    def close(self) -> None:
        """Nobody is left."""
        self._closed = True
        self.around.holders.discard(self)

    # What arrives

    @property
    def is_aging(self) -> bool:
        """Whether some value may be too old by now: the values that are kept say so."""
        oldest = self._oldest(self.around.scheduler.time())
        return any(each.time < oldest for each in self._values.values())

    def receive(self, publications: Sequence[Publication]) -> None:
        """What the bus brought."""
        self.active = True
        if self._recent is not None:
            self._keep(publications)
        if self.loaded:
            self._follow(publications)

    def _keep(self, publications: Sequence[Publication]) -> None:
        assert self._recent is not None
        self._recent.extend(publications)
        self._recent_bytes += sum(map(footprint, publications))
        self.around.holders.add(self)
        if self._recent_bytes > RECENT_LIMIT:
            self.shed()

    payer = None

    @property
    def concerned(self) -> int:
        """Whoever has joined, and whoever is about to."""
        return self.members + len(self._joiners)

    @property
    def held(self) -> int:
        """As a Holder of the budget: what is kept while the values are read."""
        return self._recent_bytes

    def shed(self) -> None:
        """Those who follow do not fit to what is read, and it is read again."""
        if self._recent is not None:
            self._recent.clear()
            self._again = True
        self._recent_bytes = 0

    def _follow(self, publications: Sequence[Publication]) -> None:
        """Those that are newer, up to a hole."""
        for publication in publications:
            if publication.epoch != self._position.epoch or publication.offset > self._position.offset + 1:
                self.check()
                return
            self._apply(publication)

    def pass_on(self, events: Sequence[Event]) -> None:
        """What the bus brought that has no position."""
        for each in list(self._lanes.values()):
            self._deliver(each, events)

    def _apply(self, publication: Publication) -> None:
        if publication.offset <= self._position.offset:
            return
        self._position = Position(publication.offset, publication.epoch)
        self._set(publication)

    def _set(self, publication: Publication) -> None:
        key = self._key(publication)
        if is_removal(publication):
            self._values.pop(key, None)
        else:
            self._values[key] = publication
        skipped = self.around.metrics.latest_skipped
        for each in self._lanes.values():
            if key in each.waiting:
                skipped.add(each.members)
                # In the order of the newest: who derives one value from two sees the later one later.
                del each.waiting[key]
            each.waiting[key] = publication
            if len(each.waiting) > MOST_WAITING * self.latest.keys:
                self._flush(each)
            self._schedule(each)

    def _key(self, publication: Publication) -> str:
        return latest_key(publication, self.latest)

    def _current(self, now: float) -> Iterable[Publication]:
        """Values that are not too old."""
        return [each for each in self._values.values() if each.time >= self._oldest(now)]

    def _oldest(self, now: float) -> float:
        """When a value that is just not too old was published, Unix time in milliseconds."""
        return (now - self.latest.ttl) * 1000

    # What goes out

    def _schedule(self, each: _Lane) -> None:
        if each.scheduled:
            return
        each.scheduled = True
        delay = max(each.next_at - self.around.scheduler.now(), 0.0)
        self.around.scheduler.call_later(delay, partial(self._due, each))

    def _due(self, each: _Lane) -> None:
        each.scheduled = False
        self.around.guard.call("latest", self.channel.name, self._flush, each)

    def _flush(self, each: _Lane) -> None:
        """Everything that waits: but not before what went out last is written, so that nothing piles up."""
        if not each.waiting:
            return
        if self.around.is_busy(each.channel):
            each.scheduled = True
            self.around.scheduler.call_later(BUSY_DELAY, partial(self._due, each))
            return
        each.sent, each.waiting = each.waiting, {}
        each.next_at = self.around.scheduler.now() + each.interval
        # Offsets have holes here, which clients would take for gaps.
        self._deliver(each, [structs.replace(value, offset=0) for value in each.sent.values()])
        if not self.around.is_busy(each.channel):
            # It is written.
            each.sent = {}

    def _deliver(self, each: _Lane, events: Sequence[Event]) -> None:
        if not self.around.deliver(each.channel, events):
            # Nobody knows which: what is not overtaken goes out again.
            each.waiting = {key: value for key, value in each.sent.items() if key not in each.waiting} | each.waiting
            self._schedule(each)

    # Reads

    def check(self) -> None:
        """Read all values again; those that are newer are passed on."""
        if self._closed:
            return
        if self._recent is not None:
            self._again = True
            return
        self._again = False
        self._recent = []
        self._recent_bytes = 0
        self.around.values(self.channel, self.latest, self._read)

    def _read(self, outcome: HistoryPage | RequestError) -> None:
        recent, self._recent = self._recent or [], None
        self._recent_bytes = 0
        self.around.holders.discard(self)
        if self._closed:
            return
        if isinstance(outcome, RequestError):
            self._check_later(outcome)
            for joiner in list(self._joiners):
                joiner.advance(outcome)
            return
        try:
            self._take(outcome, recent)
        except Exception:
            # Otherwise nobody would ever join.
            self.around.guard.failed("latest", self.channel.name)
            self._check_later()

    def _check_later(self, error: RequestError | None = None) -> None:
        self._delay = min(max(self._delay * 2, FIRST_DELAY), LAST_DELAY)
        self.around.retry(self.channel, self._delay, self.check, error)

    def _take(self, page: HistoryPage, recent: Sequence[Publication]) -> None:
        """What was read, and what came meanwhile."""
        self._replace(page)
        self.loaded = True
        self._follow(recent)
        self._delay = 0.0
        if self._again:
            self.check()
        for joiner in list(self._joiners):
            joiner.advance(None)

    def _replace(self, page: HistoryPage) -> None:
        """Pass on what is newer than what this node has; forget what is not there any more."""
        known = self._position.offset if page.top.epoch == self._position.epoch else 0
        current = {self._key(each): each for each in page.publications}
        if page.top.epoch != self._position.epoch:
            gone = [key for key in self._values if key not in current]
        else:
            # What came during the read may be newer than what was read.
            gone = [key for key, each in self._values.items() if key not in current and each.offset <= page.top.offset]
        for key in gone:
            self._remove(key)
        for publication in sorted(page.publications, key=lambda each: each.offset):
            if publication.offset > known:
                self._set(publication)
        self._position = Position(max(known, page.top.offset), page.top.epoch)

    def _remove(self, key: str) -> None:
        """Nobody said so: its time is over, or the message that said so was missed."""
        gone = structs.replace(self._values[key], data=b"null", tags={self.latest.tag: key, REMOVED: "true"})
        self._set(gone)


def _with_age(publication: Publication, now: float) -> Publication:
    age = max(int(now * 1000) - publication.time, 0)
    return structs.replace(publication, offset=0, tags={**(publication.tags or {}), AGE: str(age)})
