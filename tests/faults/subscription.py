"""What one client is told about one channel, checked as it comes."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tests.faults.verdicts import Continuity, Fault, Stream, Top

if TYPE_CHECKING:
    from tests.faults.checker import Checker

# Events of a subscription that a violation shows.
LAST_EVENTS = 16

_NEVER = float("inf")


class Subscription:
    """What one client is told about one channel. Its position is the one a client would ask to recover from."""

    __slots__ = (
        "_checker",
        "_closed",
        "_first",
        "_holes",
        "_since",
        "_stream",
        "asks_from",
        "channel",
        "client",
        "epoch",
        "events",
        "live",
        "offset",
        "positioned",
    )

    def __init__(self, checker: "Checker", client: str, channel: str) -> None:
        self._checker = checker
        self._closed: list[Continuity] = []
        self._since = _NEVER
        self._first = 0
        # Ranges of offsets that were left out: what comes of them is late, and not a second time.
        self._holes: deque[range] = deque(maxlen=LAST_EVENTS)
        self._stream: Stream | None = None
        self.client = client
        self.channel = channel
        self.epoch = ""
        # The epoch of the last reply, by which SDKs ask: many take none from a publication.
        self.asks_from = ""
        self.offset = 0
        # Whether there is a position to recover from.
        self.positioned = False
        self.live = False
        self.events: deque[object] = deque(maxlen=LAST_EVENTS)

    # The events

    def subscribed(
        self,
        now: float,
        top: Top,
        *,
        recovered: bool = False,
        was_recovering: bool = False,
        publications: Sequence[tuple[int, int]] = (),
    ) -> None:
        """A subscribe was answered; `publications` are (id, offset). A known position is always asked to recover."""
        self.events.append(("subscribed", round(now, 3), top, recovered, was_recovering, len(publications)))
        asked = self.positioned
        self.live = True
        self.asks_from = top.epoch
        if asked and not was_recovering:
            self._report(Fault.GAP, f"asked to recover from {self.epoch}:{self.offset}, answered as a first subscribe")
        if recovered:
            self._recovered(now, top, publications)
        else:
            if asked:
                self._not_recovered(now, top)
            self._begin(now, top)

    def delivered(self, id: int, offset: int, epoch: str = "") -> None:
        """A publication reached the client; live ones seldom name their epoch."""
        checker = self._checker
        checker.deliveries += 1
        self.events.append((id, offset))
        if not self.positioned or not self.live:
            self._report(Fault.MISORDERED, f"publication {id} at {offset} outside a subscription")
            return
        is_next = not epoch or epoch == self.epoch or self._adopt(epoch)
        stream = self._stream
        if stream is None or not is_next:
            self._report(Fault.GAP, f"publication {id} at {epoch}:{offset} after {self.epoch}:{self.offset}")
            return
        if offset == self.offset + 1:
            self.offset = offset
        elif not self._stray(stream, id, offset):
            return
        # The usual case first: somebody else has had it at the same place.
        if len(stream.ids) < offset or stream.ids[offset - 1] != id:
            checker.place(self, stream, id, offset)

    def interrupted(self, now: float, why: str) -> None:
        """The connection ended, or an unsubscribe push asked to subscribe again: from here on nothing may come."""
        if self.live:
            self.events.append(("interrupted", round(now, 3), why))
        self.live = False

    @property
    def position(self) -> Top:
        return Top(self.epoch, self.offset)

    # Inside

    def _adopt(self, epoch: str) -> bool:
        """Go on in the stream that an unused channel has become; False when it is none of these."""
        generation, unused, _ = self.epoch.partition("-")
        if not unused or self.offset or epoch.partition(".")[0] != generation:
            return False
        self.epoch = epoch
        self._stream = self._checker.stream(self, epoch)
        return True

    def continuities(self, until: float) -> Iterator[Continuity]:
        """All of them; the one under way ends with `until`."""
        yield from self._closed
        if self._stream is not None:
            yield Continuity(self._since, until, self._stream, self._first, self.offset)

    def _begin(self, now: float, top: Top) -> None:
        if self._stream is not None:
            self._closed.append(Continuity(self._since, now, self._stream, self._first, self.offset))
        self._since = now
        self._first = top.offset
        self._holes.clear()
        self._stream = None if top.is_unused else self._checker.stream(self, top.epoch)
        self.epoch, self.offset = top
        self.positioned = True

    def _recovered(self, now: float, top: Top, publications: Sequence[tuple[int, int]]) -> None:
        if not self.positioned:
            self._report(Fault.GAP, "recovered without having asked")
            self._begin(now, top)
        elif top.is_unused and self.position.is_unused:
            self.epoch = top.epoch
        elif top.epoch != self.epoch and not self._adopt(top.epoch):
            self._report(Fault.GAP, f"recovered from {self.epoch}:{self.offset} into another epoch: {top}")
            self._begin(now, top)
        self._checker.recovered += 1
        for id, offset in publications:
            self.delivered(id, offset)
        # Without publications clients go on from the offset of the answer.
        if not publications and top.offset != self.offset:
            self._lost(self.offset, top.offset + 1, "in a recovery without publications")
            self.offset = top.offset

    def _not_recovered(self, now: float, top: Top) -> None:
        self._checker.gaps += 1
        if self._stream is not None and self._checker.held(self._stream, self.offset, top, now):
            self._checker.refused += 1
            self._checker.refusals.append((self.client, self.channel, f"{self.epoch}:{self.offset}", top))

    def _stray(self, stream: Stream, id: int, offset: int) -> bool:
        """A publication that is not the next one. Returns whether it may be taken as the newest."""
        if offset > self.offset:
            if offset > self._checker.tries[self.channel]:
                self._report(Fault.FORGED, f"publication {id} at {offset}: so many were never sent")
                return False
            self._lost(self.offset, offset, f"before publication {id}")
            self.offset = offset
            return True
        late = offset <= self._first or any(offset in hole for hole in self._holes)
        seen = not late and stream.ids[offset - 1] == id
        fault = Fault.DUPLICATED if seen else Fault.MISORDERED
        self._report(fault, f"publication {id} at {offset} after {self.epoch}:{self.offset}")
        return False

    def _lost(self, after: int, before: int, where: str) -> None:
        """Offsets in between were left out without a word."""
        self._report(Fault.GAP, f"{self.epoch}:{after} is followed by {before} {where}")
        self._checker.counts[Fault.LOST] += max(before - after - 1, 1)
        self._holes.append(range(after + 1, before))

    def _report(self, fault: Fault, text: str) -> None:
        self._checker.report(fault, self.channel, self.client, text, tuple(self.events))
