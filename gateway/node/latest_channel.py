"""Channels where only the newest value of each key counts: reading the values, and pacing their delivery."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import structs

from gateway.broker.base import HistoryDone, Standing
from gateway.channels import ChannelSpec
from gateway.messages import (
    AGE,
    REMOVED,
    Channel,
    Destination,
    Event,
    HistoryPage,
    Joined,
    Lane,
    Latest,
    Position,
    Publication,
    is_removal,
    latest_key,
)
from gateway.node.tracked import Changed, Joiner, Read, Surroundings, TrackedChannel

# Seconds before looking again at a lane that is still being written to.
BUSY_DELAY = 0.05
# Most entries that wait in a lane, as a multiple of the channel's key limit (removals wait too). Beyond it they are
# sent early, so they always fit the hub's backlog (the settings allow at most 5,000 keys and 1 MiB).
MOST_WAITING = 2


class _Pace:
    """The values that one lane's subscribers have not been sent yet, by key."""

    __slots__ = ("lane", "members", "next_at", "scheduled", "sent", "waiting")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.members = 0
        self.waiting: dict[str, Publication] = {}
        # The last batch sent, part of which the hub may still drop.
        self.sent: dict[str, Publication] = {}
        # When the lane may be written to again.
        self.next_at = 0.0
        self.scheduled = False


class LatestJoiner(Joiner["LatestChannel"]):
    """Joins as soon as the values have been read."""

    __slots__ = ("_interval",)

    def __init__(self, channel: "LatestChannel", interval: float, changed: Changed) -> None:
        super().__init__(channel, changed)
        self._interval = interval

    @property
    def ready(self) -> bool:
        return self._tracked.position is not None

    @property
    def lane(self) -> Lane:
        return Lane(*self._tracked.channel, self._interval)

    def start(self) -> None:
        self.advance()

    def finish(self) -> Joined:
        """Join with all current values.

        A value that still waits in the lane reaches this subscriber twice: it should not have to wait for the end of
        the lane's interval.
        """
        self._end()
        return Joined(None, publications=self._tracked.current())

    def advance(self) -> None:
        if self.ready:
            self._tell(None)


class LatestChannel(TrackedChannel):
    """The current values of a channel; the first read brings them, and sets the position."""

    __slots__ = ("_paces", "_values", "latest")

    def __init__(self, channel: Channel, latest: Latest, around: Surroundings) -> None:
        super().__init__(channel, around)
        self.latest = latest
        self._values: dict[str, Publication] = {}
        self._paces: dict[Destination, _Pace] = {}
        self.check()

    @property
    def members(self) -> int:
        return sum(pace.members for pace in self._paces.values())

    def join(
        self, spec: ChannelSpec, since: Position | None, changed: Changed, *, interval: float | None
    ) -> Joiner[Any]:
        assert spec.latest is not None
        # A reload may have changed it.
        self.latest = spec.latest
        joiner = LatestJoiner(self, self.latest.interval if interval is None else interval, changed)
        self._joiners[joiner] = None
        return joiner

    def current(self) -> Sequence[Publication]:
        """All values that are not too old, with their age."""
        now = self.around.scheduler.time()
        oldest = self._oldest(now)
        values = sorted((each for each in self._values.values() if each.time >= oldest), key=lambda each: each.offset)
        return [_with_age(each, now) for each in values]

    def entered(self, lane: Destination) -> None:
        assert isinstance(lane, Lane)
        if lane not in self._paces:
            self._paces[lane] = _Pace(lane)
        self._paces[lane].members += 1

    def left(self, lane: Destination) -> None:
        pace = self._paces[lane]
        pace.members -= 1
        if not pace.members:
            del self._paces[lane]

    def lose(self, lane: Destination | None = None) -> None:
        for each in [lane] if lane in self._paces else list(self._paces):
            self.around.tell(each, _nothing)

    # What arrives

    @property
    def is_aging(self) -> bool:
        """Whether any of the values kept is too old by now."""
        oldest = self._oldest(self.around.scheduler.time())
        return any(each.time < oldest for each in self._values.values())

    def receive(self, publications: Sequence[Publication]) -> None:
        self.active = True
        if self._reading:
            self._keep(publications)
        if self.position is not None:
            self._follow(publications)

    def _follow(self, publications: Sequence[Publication]) -> None:
        """Apply the publications that are newer than the position, up to the first gap."""
        assert self.position is not None
        for publication in publications:
            offset, epoch = self.position
            if publication.epoch != epoch or publication.offset > offset + 1:
                self.check()
                return
            if publication.offset > offset:
                self.position = Position(publication.offset, epoch)
                self._set(publication)

    def pass_on(self, events: Sequence[Event]) -> None:
        for each in list(self._paces.values()):
            self._deliver(each, events)

    def _set(self, publication: Publication) -> None:
        key = self._key(publication)
        if is_removal(publication):
            self._values.pop(key, None)
        else:
            self._values[key] = publication
        skipped = self.around.metrics.latest_skipped
        for each in self._paces.values():
            if key in each.waiting:
                skipped.add(each.members)
                # Order by newest value: a client that derives one value from two must see the later one last.
                del each.waiting[key]
            each.waiting[key] = publication
            if len(each.waiting) > MOST_WAITING * self.latest.keys:
                self._flush(each)
            self._schedule(each)

    def _key(self, publication: Publication) -> str:
        return latest_key(publication, self.latest)

    def _oldest(self, now: float) -> float:
        """The time of publication before which a value is too old, Unix time in milliseconds."""
        return (now - self.latest.ttl) * 1000

    # What goes out

    def _schedule(self, each: _Pace) -> None:
        if each.scheduled:
            return
        each.scheduled = True
        delay = max(each.next_at - self.around.scheduler.now(), 0.0)
        self.around.scheduler.call_later(delay, partial(self._due, each))

    def _due(self, each: _Pace) -> None:
        each.scheduled = False
        self.around.guard.call("latest", self.channel.name, self._flush, each)

    def _flush(self, each: _Pace) -> None:
        """Send everything that waits, but only once the last batch has been written, so that nothing piles up."""
        if not each.waiting:
            return
        if self.around.is_busy(each.lane):
            each.scheduled = True
            self.around.scheduler.call_later(BUSY_DELAY, partial(self._due, each))
            return
        each.sent, each.waiting = each.waiting, {}
        each.next_at = self.around.scheduler.now() + each.lane.interval
        # Without offsets: skipped values leave holes, which clients would take for gaps.
        self._deliver(each, [structs.replace(value, offset=0) for value in each.sent.values()])
        if not self.around.is_busy(each.lane):
            # The batch has been written.
            each.sent = {}

    def _deliver(self, each: _Pace, events: Sequence[Event]) -> None:
        if not self.around.deliver(each.lane, events):
            # Which events were dropped is unknown: send the last batch again, except for values replaced since.
            each.waiting = {key: value for key, value in each.sent.items() if key not in each.waiting} | each.waiting
            self._schedule(each)

    # Reads

    def look(self) -> Standing | None:
        """Check a quiet channel; also an active one if some value is too old, as new values do not show that."""
        active, self.active = self.active, False
        if not active or self.is_aging:
            self.check()
        return None

    def _begin(self, read: Read, done: HistoryDone) -> None:
        read.start = len(self._recent)
        self._reading.add(read)
        self.around.values(self.channel, self.latest, done)

    def _conclude(self, read: Read, page: HistoryPage) -> None:
        """Apply what was read and what arrived meanwhile; subscribers get what is newer."""
        recent = self.recent(read)
        self._replace(page)
        self._follow(recent or ())
        self._check = None
        self.end(read)
        self._delay = 0.0
        if self._again or recent is None:
            self.check()
        self._wake()

    def _replace(self, page: HistoryPage) -> None:
        """Pass on values newer than this node's, and remove those that no longer exist."""
        is_known = self.position is not None and page.top.epoch == self.position.epoch
        known = self.position.offset if self.position is not None and is_known else 0
        current = {self._key(each): each for each in page.publications}
        if not is_known:
            gone = [key for key in self._values if key not in current]
        else:
            # What arrived during the read may be newer than its result.
            gone = [key for key, each in self._values.items() if key not in current and each.offset <= page.top.offset]
        for key in gone:
            self._remove(key)
        for publication in sorted(page.publications, key=lambda each: each.offset):
            if publication.offset > known:
                self._set(publication)
        self.position = Position(max(known, page.top.offset), page.top.epoch)

    def _remove(self, key: str) -> None:
        """Remove a value without a removal message: its ttl is over, or the message was missed."""
        gone = structs.replace(self._values[key], data=b"null", tags={self.latest.tag: key, REMOVED: "true"})
        self._set(gone)


def _nothing() -> None:
    pass


def _with_age(publication: Publication, now: float) -> Publication:
    age = max(int(now * 1000) - publication.time, 0)
    return structs.replace(publication, offset=0, tags={**(publication.tags or {}), AGE: str(age)})
