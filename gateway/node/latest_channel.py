"""Channels of which only the newest value of each key counts: what is read of them, and how often it is passed on."""

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

# Seconds after which a lane is looked at again that is still being written to.
BUSY_DELAY = 0.05
# What waits in a lane is so many times the keys of a channel at most: removals stand there too. It goes out before its
# time then, and always fits what the hub lets wait (5,000 keys and 1 MiB at most, by the settings).
MOST_WAITING = 2


class _Pace:
    """What those in one lane have not got yet, by key."""

    __slots__ = ("lane", "members", "next_at", "scheduled", "sent", "waiting")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.members = 0
        self.waiting: dict[str, Publication] = {}
        # What went out last, part of which the hub may still have to drop.
        self.sent: dict[str, Publication] = {}
        # When something may be written again.
        self.next_at = 0.0
        self.scheduled = False


class LatestJoiner(Joiner["LatestChannel"]):
    """It joins as soon as the values are read."""

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
        """With all current values.

        One that waits for the others comes to this subscriber twice: their interval is not over, and it should not
        wait.
        """
        self._end()
        return Joined(None, publications=self._tracked.current())

    def advance(self) -> None:
        if self.ready:
            self._tell(None)


class LatestChannel(TrackedChannel):
    """Its values are known from the first read on, which gives it its position."""

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
        """Whether some value may be too old by now: the values that are kept say so."""
        oldest = self._oldest(self.around.scheduler.time())
        return any(each.time < oldest for each in self._values.values())

    def receive(self, publications: Sequence[Publication]) -> None:
        self.active = True
        if self._reading:
            self._keep(publications)
        if self.position is not None:
            self._follow(publications)

    def _follow(self, publications: Sequence[Publication]) -> None:
        """Those that are newer, up to a hole."""
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
                # In the order of the newest: who derives one value from two sees the later one later.
                del each.waiting[key]
            each.waiting[key] = publication
            if len(each.waiting) > MOST_WAITING * self.latest.keys:
                self._flush(each)
            self._schedule(each)

    def _key(self, publication: Publication) -> str:
        return latest_key(publication, self.latest)

    def _oldest(self, now: float) -> float:
        """When a value that is just not too old was published, Unix time in milliseconds."""
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
        """Everything that waits: but not before what went out last is written, so that nothing piles up."""
        if not each.waiting:
            return
        if self.around.is_busy(each.lane):
            each.scheduled = True
            self.around.scheduler.call_later(BUSY_DELAY, partial(self._due, each))
            return
        each.sent, each.waiting = each.waiting, {}
        each.next_at = self.around.scheduler.now() + each.lane.interval
        # Offsets have holes here, which clients would take for gaps.
        self._deliver(each, [structs.replace(value, offset=0) for value in each.sent.values()])
        if not self.around.is_busy(each.lane):
            # It is written.
            each.sent = {}

    def _deliver(self, each: _Pace, events: Sequence[Event]) -> None:
        if not self.around.deliver(each.lane, events):
            # Nobody knows which: what is not overtaken goes out again.
            each.waiting = {key: value for key, value in each.sent.items() if key not in each.waiting} | each.waiting
            self._schedule(each)

    # Reads

    def look(self) -> Standing | None:
        """That something came says nothing of the age of the other values."""
        active, self.active = self.active, False
        if not active or self.is_aging:
            self.check()
        return None

    def _begin(self, read: Read, done: HistoryDone) -> None:
        read.start = len(self._recent)
        self._reading.add(read)
        self.around.values(self.channel, self.latest, done)

    def _conclude(self, read: Read, page: HistoryPage) -> None:
        """What was read, and what came meanwhile: those who have joined get what is newer."""
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
        """Pass on what is newer than what this node has; forget what is not there any more."""
        is_known = self.position is not None and page.top.epoch == self.position.epoch
        known = self.position.offset if self.position is not None and is_known else 0
        current = {self._key(each): each for each in page.publications}
        if not is_known:
            gone = [key for key in self._values if key not in current]
        else:
            # What came during the read may be newer than what was read.
            gone = [key for key, each in self._values.items() if key not in current and each.offset <= page.top.offset]
        for key in gone:
            self._remove(key)
        for publication in sorted(page.publications, key=lambda each: each.offset):
            if publication.offset > known:
                self._set(publication)
        self.position = Position(max(known, page.top.offset), page.top.epoch)

    def _remove(self, key: str) -> None:
        """Nobody said so: its time is over, or the message that said so was missed."""
        gone = structs.replace(self._values[key], data=b"null", tags={self.latest.tag: key, REMOVED: "true"})
        self._set(gone)


def _nothing() -> None:
    pass


def _with_age(publication: Publication, now: float) -> Publication:
    age = max(int(now * 1000) - publication.time, 0)
    return structs.replace(publication, offset=0, tags={**(publication.tags or {}), AGE: str(age)})
