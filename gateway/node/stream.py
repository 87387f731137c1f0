"""One channel with history on this node: where its subscribers stand, and how others join them."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.hub.budget import Holder
from gateway.hub.fanout import footprint
from gateway.messages import Channel, Event, HistoryPage, HistoryQuery, Position, Publication, Retention
from gateway.metrics import Metrics
from gateway.node.joiner import Changed, Joiner, PageDone, Read
from gateway.node.recovery import Failure, Merged, following, is_one_stream, merge
from gateway.scheduler import Scheduler

logger = logging.getLogger(__name__)

# Seconds between attempts of a check that could not be completed.
FIRST_DELAY = 0.05
LAST_DELAY = 1.0
# Seconds for the bus to bring what a joiner has already seen in the stream.
CATCH_UP = 1.0
# Bytes of publications that are kept while somebody reads; above it the reads are begun anew.
RECENT_LIMIT = 4 * 1024 * 1024
# Of the time for which positions are kept, the part after which the position of an unused channel is looked up again.
LOOK_AGAIN = 0.25
# Bytes of events without a position that wait for the end of a check; above it the subscribers are told.
HELD_LIMIT = 4 * 1024 * 1024


class Surroundings(Protocol):
    """What a stream needs of its node."""

    scheduler: Scheduler
    metrics: Metrics
    guard: Guard
    # Those that keep something.
    holders: set[Holder]
    # What one read may bring.
    max_publications: int
    max_bytes: int

    def read(
        self, channel: Channel, history: Retention, query: HistoryQuery, done: PageDone, issued: Callable[[], None]
    ) -> None:
        """Read when it is its turn; `issued` is called when the read is on its way."""

    def retry(self, channel: Channel, delay: float, again: Callable[[], None], error: RequestError | None) -> None:
        """Call `again` after `delay` seconds, and not before anything can be read at all."""

    def deliver(self, channel: Channel, events: Sequence[Event]) -> bool:
        """Write to all who have joined. False when some could not be kept for later, and were dropped."""

    def count(self, channel: Channel) -> int:
        """How many have joined."""

    def tell(self, channel: Channel, done: Callable[[], None]) -> None:
        """End the subscriptions of all who have joined: they missed something."""


class Stream:
    """The subscribers who have joined all stand at `position`. While it is not `live` nothing is delivered."""

    __slots__ = (
        "_again",
        "_check",
        "_closed",
        "_delay",
        "_held",
        "_held_bytes",
        "_joiners",
        "_looked_at",
        "_reading",
        "_recent",
        "_recent_bytes",
        "_telling",
        "active",
        "around",
        "channel",
        "history",
        "position",
    )

    def __init__(self, channel: Channel, history: Retention, around: Surroundings) -> None:
        self.channel = channel
        self.history = history
        self.around = around
        self.position: Position | None = None
        # Something arrived since the owner looked last.
        self.active = True
        self._joiners: dict[Joiner, None] = {}
        self._recent: list[Publication] = []
        self._recent_bytes = 0
        # What has no position, and came during a check.
        self._held: list[Event] = []
        self._held_bytes = 0
        # Reads that look at what is recent.
        self._reading: set[Read] = set()
        self._check: Read | None = None
        self._again = False
        self._telling = False
        self._delay = 0.0
        # When it was last known where the stream stands.
        self._looked_at = 0.0
        self._closed = False
        self.check()

    @property
    def live(self) -> bool:
        """Whether the subscribers get what comes."""
        return self._check is None and not self._telling and self.position is not None

    @property
    def is_aging(self) -> bool:
        """Whether nothing was published to the channel for so long that its position would be too old some day."""
        if self.position is None or self.position.offset:
            return False
        return self.around.scheduler.now() - self._looked_at > self.history.meta_ttl * LOOK_AGAIN

    @property
    def is_used(self) -> bool:
        """Whether somebody is about to join."""
        return bool(self._joiners)

    def waits_for(self, joiner: Joiner) -> bool:
        """Whether the joiner has neither finished nor given up."""
        return joiner in self._joiners

    def join(self, since: Position | None, *, cache: bool, changed: Changed) -> Joiner:
        """Let a subscriber in that has seen all until `since` (None: it asks for nothing), once it is started.

        `changed` is called whenever the joiner has become ready, or with the error that ends it. In cache mode the
        subscriber gets only the newest publication.
        """
        joiner = Joiner(self, since, cache=cache, changed=changed)
        self._joiners[joiner] = None
        if since is not None:
            self.around.metrics.recoveries_asked.add()
        return joiner

    def close(self) -> None:
        """Nobody is left."""
        self._closed = True
        self._check = None
        self._reading.clear()
        self._recent.clear()
        self._recent_bytes = 0
        self._drop_held()

    # Live

    def receive(self, publications: Sequence[Publication]) -> None:
        """What the bus brought."""
        self.active = True
        if self._reading:
            self._keep(publications)
        if not self.live:
            return
        assert self.position is not None
        fresh, hole = following(self.position, publications, self.history.meta_ttl)
        if fresh:
            self._deliver(fresh)
        if hole:
            self.check()
        else:
            self._wake()

    def pass_on(self, events: Sequence[Event]) -> None:
        """What the bus brought that has no position. It may refer to what a check has yet to bring, and comes after."""
        if self._telling:
            return
        if self._check is None:
            self._pass_on(events)
            return
        self._held.extend(events)
        self.around.holders.add(self)
        self._held_bytes += sum(map(footprint, events))
        if self._held_bytes > HELD_LIMIT:
            self.lose()

    def _pass_on(self, events: Sequence[Event]) -> None:
        # To make room for it, the hub may have dropped what has a position.
        if not self.around.deliver(self.channel, events):
            self.lose()

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        self._keep_less()

    def _keep_less(self) -> None:
        if not self.held:
            self.around.holders.discard(self)

    def _deliver(self, publications: Sequence[Publication]) -> None:
        last = publications[-1]
        self.position = Position(last.offset, last.epoch)
        if not self.around.deliver(self.channel, publications):
            self.lose()

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

    payer = None

    @property
    def concerned(self) -> int:
        """Whoever has joined, and whoever is about to."""
        return self.around.count(self.channel) + len(self._joiners)

    @property
    def held(self) -> int:
        """As a Holder of the budget: what is kept while somebody reads, or checks."""
        return self._recent_bytes + self._held_bytes

    def shed(self) -> None:
        self._drop_recent()
        if self._held:
            self.lose()

    def recent(self, read: Read) -> Sequence[Publication] | None:
        """What arrived since the read was asked for; None when that was too much to keep."""
        if read.start is None or read.start < 0:
            return None
        return self._recent[read.start :]

    def merged(self, since: Position, read: Read) -> Merged | Failure:
        """What came after a position, from a read that has its page."""
        recent = self.recent(read)
        assert read.page is not None
        return Failure.AGAIN if recent is None else merge(since, read.page, recent, self.history.meta_ttl)

    # Reads

    def ask(self, since: Position | None, read: Read, done: PageDone, *, cache: bool = False) -> None:
        """Read since a position (None: only the top) and keep what arrives meanwhile."""
        if since is None:
            query = HistoryQuery()
        elif cache:
            query = HistoryQuery(limit=1, reverse=True)
        else:
            query = HistoryQuery(self.around.max_publications, since, max_bytes=self.around.max_bytes)
        self._reading.add(read)

        def issued() -> None:
            read.start = len(self._recent)

        self.around.read(self.channel, self.history, query, done, issued)

    def drop(self, joiner: Joiner) -> None:
        """The joiner has finished, or given up."""
        self._joiners.pop(joiner, None)
        if joiner.reading is not None:
            self.end(joiner.reading)

    def compare(self, top: Position) -> None:
        """A joiner has seen the top of the stream: this node may have missed something."""
        if self.position is None or not self.live:
            return
        if not is_one_stream(top.epoch, self.position.epoch, self.history.meta_ttl):
            self.check()
        elif top.offset > self.position.offset:
            self.around.scheduler.call_later(CATCH_UP, partial(self._is_caught_up, top))

    def _is_caught_up(self, top: Position) -> None:
        position = self.position
        if not self.live or position is None or position.offset >= top.offset:
            return
        if is_one_stream(position.epoch, top.epoch, self.history.meta_ttl):
            self.check()

    def end(self, read: Read) -> None:
        """Nobody looks any more at what arrived since the read."""
        self._reading.discard(read)
        if not self._reading:
            self._recent.clear()
            self._recent_bytes = 0
            self._keep_less()

    # Checks

    def check(self) -> None:
        """Compare with the stream, and deliver what was missed; nothing else is delivered before."""
        if self._closed:
            return
        if self._check is not None or self._telling:
            self._again = True
            return
        self._again = False
        read = self._check = Read()
        self.ask(self.position, read, partial(self._checked, read))

    def _checked(self, read: Read, outcome: HistoryPage | RequestError) -> None:
        if self._check is not read:
            return
        try:
            self._conclude(read, outcome)
        except Exception:
            self.around.guard.failed("check", self.channel.name)
            if self._check is read:
                self._check_later(read)
            else:
                # It was over, and what it brought has not reached the subscribers.
                self.lose()

    def _conclude(self, read: Read, outcome: HistoryPage | RequestError) -> None:
        if isinstance(outcome, RequestError):
            self._check_later(read, outcome)
            for joiner in list(self._joiners):
                joiner.fail(outcome)
            return
        read.page = outcome
        merged = self.merged(self.position or outcome.top, read)
        if merged is Failure.AGAIN:
            self._check_later(read)
            return
        self._check = None
        self.end(read)
        self._delay = 0.0
        if isinstance(merged, Merged):
            self._catch_up(merged, outcome)
        else:
            logger.warning("channel %s: publications were missed that the stream does not hold", self.channel.name)
            self.lose()

    def _catch_up(self, merged: Merged, page: HistoryPage) -> None:
        if page.publications:
            self.around.metrics.refills.add()
            self.around.metrics.refilled_publications.add(len(page.publications))
        self.position = merged.position
        self._looked_at = self.around.scheduler.now()
        if merged.publications:
            self._deliver(merged.publications)
        if self._again:
            self.check()
            return
        if self._held and self.live:
            held = list(self._held)
            self._drop_held()
            self._pass_on(held)
        self._wake()

    def _check_later(self, read: Read, error: RequestError | None = None) -> None:
        """What is asked again takes the place of `read`; until then nothing is delivered."""
        self.end(read)
        self._delay = min(max(self._delay * 2, FIRST_DELAY), LAST_DELAY)
        self.around.retry(self.channel, self._delay, partial(self._check_again, read), error)

    def _check_again(self, read: Read) -> None:
        if self._check is read:
            self._check = None
            self.check()

    def lose(self) -> None:
        """The subscribers have missed something: they are told. Those who come later begin where the stream is then."""
        if self._check is not None:
            self.end(self._check)
            self._check = None
        self._drop_held()
        self.position = None
        self._telling = True
        self.around.tell(self.channel, self._told)

    def _told(self) -> None:
        self._telling = False
        self.check()

    def _wake(self) -> None:
        if self._joiners and self.live:
            for joiner in list(self._joiners):
                if joiner in self._joiners:
                    joiner.advance()
