"""One channel's subscribers on this node, and what still has to be written to them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, Protocol, TypeVar

from gateway.hub.encoder import Encoder
from gateway.messages import Event

Write = Callable[[bytes], object]

# Bytes that a event takes besides its payload: the objects that carry it.
OVERHEAD = 256


class Subscriber(Protocol):
    """Whoever receives. Only its identity and its client id matter here."""

    @property
    def client(self) -> str: ...


S = TypeVar("S", bound=Subscriber)


class Written(NamedTuple):
    """Events times subscribers, and bytes."""

    deliveries: int
    size: int


class _Run(Generic[S]):
    """One encoded block on its way to the members that its group had when the run began."""

    __slots__ = ("block", "count", "exclude", "left", "members", "next", "writes")

    def __init__(self, block: bytes, count: int, writes: dict[S, Write], exclude: str) -> None:
        self.block = block
        self.count = count
        self.writes = writes
        self.exclude = exclude
        self.members = list(writes)
        self.next = 0
        # Who left since; it may have come back meanwhile, and starts behind this.
        self.left: set[S] = set()


class Fanout(Generic[S]):
    """Delivery groups (encoder -> subscriber -> bound write), a backlog, and the runs in progress."""

    __slots__ = ("_runs", "_waiting", "groups", "size", "waiting_bytes")

    def __init__(self) -> None:
        self.groups: dict[Encoder, dict[S, Write]] = {}
        self.size = 0
        self.waiting_bytes = 0
        self._waiting: list[Event] = []
        self._runs: list[_Run[S]] = []

    @property
    def busy(self) -> bool:
        return bool(self._runs or self._waiting)

    def subscribers(self) -> Iterator[S]:
        for writes in self.groups.values():
            yield from writes

    def add(self, subscriber: S, encoder: Encoder, write: Write) -> None:
        """Events that wait are for those who are here already."""
        if self._waiting:
            self.begin()
        self.groups.setdefault(encoder, {})[subscriber] = write
        self.size += 1

    def remove(self, subscriber: S, encoder: Encoder) -> None:
        writes = self.groups[encoder]
        del writes[subscriber]
        self.size -= 1
        for run in self._runs:
            if run.writes is writes:
                run.left.add(subscriber)
        if not writes:
            del self.groups[encoder]

    def writes(self, events: Sequence[Event]) -> int:
        """How many writes these events take."""
        if len(events) == 1:
            return self.size
        return self.size * sum(1 for _ in groupby(events, key=_exclusion))

    def write_all(self, events: Sequence[Event]) -> Written:
        """Write to everybody at once.

        `write` may pause a connection, which exchanges a value of the dictionary under iteration and never a key.
        """
        deliveries = size = 0
        for exclude, batch in _by_exclusion(events):
            for encoder, writes in self.groups.items():
                block = encoder.events(batch)
                if exclude:
                    chosen = [write for subscriber, write in writes.items() if subscriber.client != exclude]
                    for write in chosen:
                        write(block)
                    count = len(chosen)
                else:
                    for write in writes.values():
                        write(block)
                    count = len(writes)
                deliveries += len(batch) * count
                size += len(block) * count
        return Written(deliveries, size)

    def wait(self, events: Sequence[Event], limit: int) -> int:
        """Queue behind what is being written; the number of events dropped, oldest first, to stay in `limit`."""
        self._waiting.extend(events)
        self.waiting_bytes += sum(map(_size, events))
        dropped = 0
        while self.waiting_bytes > limit:
            self.waiting_bytes -= _size(self._waiting[dropped])
            dropped += 1
        del self._waiting[:dropped]
        return dropped

    def begin(self) -> Sequence[Event]:
        """Turn the backlog, which is returned, into runs over today's members."""
        events, self._waiting = self._waiting, []
        self.waiting_bytes = 0
        for exclude, batch in _by_exclusion(events):
            for encoder, writes in self.groups.items():
                self._runs.append(_Run(encoder.events(batch), len(batch), writes, exclude))
        return events

    def advance(self, budget: int) -> tuple[int, Written]:
        """Look at no more than `budget` members; how many were looked at, and what was written."""
        used = deliveries = size = 0
        while self._runs and used < budget:
            run = self._runs[0]
            end = min(run.next + budget - used, len(run.members))
            written = 0
            for subscriber in run.members[run.next : end]:
                # The write of now: it may have been exchanged since the run began.
                write = run.writes.get(subscriber)
                if write is not None and subscriber.client != run.exclude and subscriber not in run.left:
                    write(run.block)
                    written += 1
            used += end - run.next
            deliveries += written * run.count
            size += written * len(run.block)
            run.next = end
            if end == len(run.members):
                del self._runs[0]
        return used, Written(deliveries, size)

    @property
    def running(self) -> bool:
        return bool(self._runs)


def _size(event: Event) -> int:
    return len(event.data) + OVERHEAD


def _exclusion(event: Event) -> str:
    return event.exclude_client


def _by_exclusion(events: Sequence[Event]) -> Iterator[tuple[str, Sequence[Event]]]:
    """Stretches of events that leave out the same connection."""
    if len(events) == 1:
        yield events[0].exclude_client, events
        return
    for exclude, stretch in groupby(events, key=_exclusion):
        yield exclude, list(stretch)
