"""One channel with history on this node: its subscribers' position, and how others join them."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from gateway.broker.base import HistoryDone, Standing
from gateway.channels import ChannelSpec
from gateway.hub.fanout import footprint
from gateway.messages import Channel, Destination, Event, HistoryPage, HistoryQuery, Position, Publication, Retention
from gateway.node.joiner import PositionedChannel, StreamJoiner
from gateway.node.merge import Failure, Merged, following, is_one_stream, merge
from gateway.node.tracked import Changed, Joiner, Read, Surroundings

logger = logging.getLogger(__name__)

# Seconds for the bus to deliver what a joiner has already read from the stream.
CATCH_UP = 1.0
# Fraction of the time positions are kept, after which the position of an unused channel is looked up again.
LOOK_AGAIN = 0.25
# Most bytes of events without a position that wait for a check to end; beyond it the subscribers are told of a gap.
HELD_LIMIT = 4 * 1024 * 1024


class Stream(PositionedChannel):
    """All joined subscribers are at `position`. Nothing is delivered unless the stream is `live`."""

    __slots__ = ("_held", "_held_bytes", "_looked_at", "_telling")

    def __init__(self, channel: Channel, history: Retention, around: Surroundings) -> None:
        super().__init__(channel, around)
        self.history = history
        # Events without a position that arrived during a check.
        self._held: list[Event] = []
        self._held_bytes = 0
        self._telling = False
        # When the stream's position was last confirmed.
        self._looked_at = 0.0
        self.check()

    @property
    def live(self) -> bool:
        """Whether publications are delivered as they arrive."""
        return self._check is None and not self._telling and self.position is not None

    @property
    def is_aging(self) -> bool:
        """Whether the channel has been empty for so long that its position should be confirmed before it is too old."""
        if self.position is None or self.position.offset:
            return False
        return self.around.scheduler.now() - self._looked_at > self.history.meta_ttl * LOOK_AGAIN

    @property
    def members(self) -> int:
        return self.around.count(self.channel)

    def join(
        self, spec: ChannelSpec, since: Position | None, changed: Changed, *, interval: float | None
    ) -> Joiner[Any]:
        """In cache mode the subscriber gets only the newest publication."""
        assert spec.history is not None
        # A reload may have changed it.
        self.history = spec.history
        joiner = StreamJoiner(self, since, cache=spec.options.recovery == "cache", changed=changed)
        self._joiners[joiner] = None
        if since is not None:
            self.around.metrics.recoveries_asked.add()
        return joiner

    def entered(self, lane: Destination) -> None:
        """Nothing to do: the hub counts subscribers."""

    def left(self, lane: Destination) -> None:
        """As `entered`."""

    def close(self) -> None:
        super().close()
        self._drop_held()

    # Live

    def receive(self, publications: Sequence[Publication]) -> None:
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
        """Held back during a check: the events may refer to publications that it has yet to deliver."""
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
        # The hub may have dropped events with a position to make room.
        if not self.around.deliver(self.channel, events):
            self.lose()

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        if not self.held:
            self.around.holders.discard(self)

    def _deliver(self, publications: Sequence[Publication]) -> None:
        last = publications[-1]
        self.position = Position(last.offset, last.epoch)
        if not self.around.deliver(self.channel, publications):
            self.lose()

    @property
    def held(self) -> int:
        """Includes events without a position."""
        return self._recent_bytes + self._held_bytes

    def shed(self) -> None:
        super().shed()
        if self._held:
            self.lose()

    def merged(self, since: Position, read: Read) -> Merged | Failure:
        recent = self.recent(read)
        assert read.page is not None
        return Failure.AGAIN if recent is None else merge(since, read.page, recent, self.history.meta_ttl)

    # Reads

    def ask(self, since: Position | None, read: Read, done: HistoryDone, *, cache: bool = False) -> None:
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

    def compare(self, top: Position) -> None:
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

    # Checks

    def look(self) -> Standing | None:
        active, self.active = self.active, False
        if active:
            return None
        if self.is_aging:
            self.check()
            return None
        return Standing(self.channel, self.history, self.position) if self.live and self.position is not None else None

    def check(self) -> None:
        """Deliver what was missed before anything else."""
        if self._telling:
            self._again = True
        else:
            super().check()

    def _begin(self, read: Read, done: HistoryDone) -> None:
        self.ask(self.position, read, done)

    def _conclude(self, read: Read, page: HistoryPage) -> None:
        read.page = page
        merged = self.merged(self.position or page.top, read)
        if merged is Failure.AGAIN:
            self._check_later(read)
            return
        self._check = None
        self.end(read)
        self._delay = 0.0
        if isinstance(merged, Merged):
            self._catch_up(merged, page)
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

    def lose(self, lane: Destination | None = None) -> None:
        """Those who join later begin at the stream's position at that time."""
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
