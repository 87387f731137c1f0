"""A subscriber that is joining a channel with history."""

from abc import abstractmethod
from functools import partial

from gateway.broker.base import HistoryDone
from gateway.epochs import continues
from gateway.errors import BrokerUnavailable, RequestError
from gateway.messages import HistoryPage, Joined, Position, Retention
from gateway.node.merge import Failure, Merged, agree, is_one_stream
from gateway.node.tracked import Changed, Joiner, Read, TrackedChannel

# Most reads for one joiner.
ATTEMPTS = 5


class PositionedChannel(TrackedChannel):
    """What joiners see of a channel whose subscribers are all at the same position."""

    __slots__ = ("history",)

    history: Retention

    @property
    @abstractmethod
    def live(self) -> bool:
        """Whether publications are delivered as they arrive."""

    @abstractmethod
    def merged(self, since: Position, read: Read) -> Merged | Failure:
        """The publications after a position, from a completed read and what arrived since."""

    @abstractmethod
    def ask(self, since: Position | None, read: Read, done: HistoryDone, *, cache: bool = False) -> None:
        """Read from a position on (None: only the top), and keep what arrives meanwhile."""

    @abstractmethod
    def compare(self, top: Position) -> None:
        """Compare with the stream's top, as a joiner has read it: this node may have missed something."""


class StreamJoiner(Joiner[PositionedChannel]):
    """Reads what its subscriber missed, and joins at the position of the others."""

    __slots__ = ("_attempts", "_cache", "_known", "_read", "_since")

    def __init__(self, stream: PositionedChannel, since: Position | None, *, cache: bool, changed: Changed) -> None:
        super().__init__(stream, changed)
        self._since = since
        self._cache = cache
        self._read: Read | None = None
        self._attempts = 0
        # The latest outcome, valid while the stream stays at its position.
        self._known: Joined | None = None

    def start(self) -> None:
        """Read at once, even while the stream is being checked, so that both answers arrive together."""
        if self._since is not None and not self._stands_at(self._tracked.position):
            self._ask()
        self.advance()

    @property
    def ready(self) -> bool:
        return self._outcome() is not None

    def finish(self) -> Joined:
        outcome = self._outcome()
        assert outcome is not None
        self._end()
        metrics = self._tracked.around.metrics
        if outcome.recovered:
            metrics.recoveries.add()
            metrics.recovered_publications.add(len(outcome.publications))
        elif outcome.recovered is False:
            metrics.recovery_failures.add(self._failure())
        return outcome

    def advance(self) -> None:
        """Also reads again when the last read can no longer lead to an outcome."""
        if not self._tracked.live or not self._tracked.waits_for(self):
            return
        if self._outcome() is not None:
            self._tell(None)
        elif self._read is None or self._is_stale(self._read):
            self._ask()

    def _end(self) -> None:
        super()._end()
        if self._read is not None:
            self._tracked.end(self._read)

    @property
    def _meta_ttl(self) -> int:
        return self._tracked.history.meta_ttl

    def _stands_at(self, position: Position | None) -> bool:
        """Whether the client has seen everything up to the position."""
        since = self._since
        if since is None or position is None or since.offset != position.offset:
            return False
        return bool(since.epoch) and continues(since.epoch, position.epoch, self._meta_ttl)

    def _is_of(self, position: Position, top: Position) -> bool:
        return is_one_stream(top.epoch, position.epoch, self._meta_ttl)

    def _outcome(self) -> Joined | None:
        """What `finish` would return; None while something is missing."""
        position = self._tracked.position
        if position is None or not self._tracked.live:
            return None
        if self._known is None or self._known.position != position:
            self._known = self._judge(position)
        return self._known

    def _judge(self, position: Position) -> Joined | None:
        if self._since is None:
            return Joined(position)
        if self._stands_at(position):
            return Joined(position, recovered=True)
        read = self._read
        if read is None or read.page is None:
            return None
        if self._cache:
            return self._newest(position, read, read.page)
        outcome = self._tracked.merged(self._since, read)
        if outcome is Failure.LOST and self._is_of(position, read.page.top):
            return Joined(position, recovered=False)
        if isinstance(outcome, Merged) and agree(outcome.position, position, self._meta_ttl):
            return Joined(position, recovered=True, publications=outcome.publications)
        return None

    def _newest(self, position: Position, read: Read, page: HistoryPage) -> Joined | None:
        """In cache mode: the newest publication, if it is the one at the position."""
        recent = self._tracked.recent(read)
        if recent is None or not self._is_of(position, page.top) or page.top.offset > position.offset:
            return None
        for publication in (*reversed(recent), *page.publications):
            if (publication.offset, publication.epoch) == position:
                return Joined(position, recovered=True, publications=[publication])
        # If a check took the others past the end of the page, the page cannot tell whether the newest is kept.
        return Joined(position, recovered=False) if agree(page.top, position, self._meta_ttl) else None

    def _is_stale(self, read: Read) -> bool:
        """Whether what was read can no longer lead to an outcome."""
        position = self._tracked.position
        if read.page is None or position is None:
            return False
        if not self._is_of(position, read.page.top) or self._tracked.recent(read) is None:
            return True
        if self._since is None:
            return False
        if self._cache:
            return read.page.top.offset < position.offset
        outcome = self._tracked.merged(self._since, read)
        # Or a check took the others past its end: what the check read is not among the recent publications.
        return outcome is Failure.AGAIN or (isinstance(outcome, Merged) and outcome.position.offset < position.offset)

    def _ask(self) -> None:
        self._attempts += 1
        if self._attempts > ATTEMPTS:
            self.fail(BrokerUnavailable("the stream changes faster than it can be read"))
            return
        if self._read is not None:
            self._tracked.end(self._read)
        read = self._read = Read()
        assert self._since is not None
        self._tracked.ask(self._since, read, partial(self._answered, read), cache=self._cache)

    def _answered(self, read: Read, outcome: HistoryPage | RequestError) -> None:
        if self._read is not read or not self._tracked.waits_for(self):
            return
        if isinstance(outcome, RequestError):
            self.fail(outcome)
            return
        read.page = outcome
        self._tracked.compare(outcome.top)
        self.advance()

    def _failure(self) -> str:
        """Why recovery failed, for the metric."""
        assert self._since is not None
        assert self._read is not None
        assert self._read.page is not None
        top = self._read.page.top
        if not continues(self._since.epoch, top.epoch, self._meta_ttl):
            return "epoch"
        return "future" if self._since.offset > top.offset else "range"
