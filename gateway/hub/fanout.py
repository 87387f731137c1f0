"""One channel's subscribers on this node, and what still has to be written to them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, Protocol, TypeVar

from gateway.hub.encoder import Encoder
from gateway.messages import Publication

Write = Callable[[bytes], object]

# Bytes that a publication takes besides its payload: the objects that carry it.
OVERHEAD = 256


class Subscriber(Protocol):
    """Whoever receives. Only its identity and its client id matter here."""

    @property
    def client(self) -> str: ...


S = TypeVar("S", bound=Subscriber)


class Written(NamedTuple):
    """Publications times subscribers, and bytes."""

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
        self._waiting: list[Publication] = []
        self._runs: list[_Run[S]] = []

    @property
    def busy(self) -> bool:
        return bool(self._runs or self._waiting)

    def subscribers(self) -> Iterator[S]:
        for writes in self.groups.values():
            yield from writes

    def add(self, subscriber: S, encoder: Encoder, write: Write) -> None:
        """Publications that wait are for those who are here already."""
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

    def writes(self, publications: Sequence[Publication]) -> int:
        """How many writes these publications take."""
        if len(publications) == 1:
            return self.size
        return self.size * sum(1 for _ in groupby(publications, key=_exclusion))

    def write_all(self, publications: Sequence[Publication]) -> Written:
        """Write to everybody at once.

        `write` may pause a connection, which exchanges a value of the dictionary under iteration and never a key.
        """
        deliveries = size = 0
        for exclude, batch in _by_exclusion(publications):
            for encoder, writes in self.groups.items():
                block = encoder.publications(batch)
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

    def wait(self, publications: Sequence[Publication], limit: int) -> int:
        """Queue behind what is being written; the number of publications dropped, oldest first, to stay in `limit`."""
        self._waiting.extend(publications)
        self.waiting_bytes += sum(map(_size, publications))
        dropped = 0
        while self.waiting_bytes > limit:
            self.waiting_bytes -= _size(self._waiting[dropped])
            dropped += 1
        del self._waiting[:dropped]
        return dropped

    def begin(self) -> Sequence[Publication]:
        """Turn the backlog, which is returned, into runs over today's members."""
        publications, self._waiting = self._waiting, []
        self.waiting_bytes = 0
        for exclude, batch in _by_exclusion(publications):
            for encoder, writes in self.groups.items():
                self._runs.append(_Run(encoder.publications(batch), len(batch), writes, exclude))
        return publications

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


def _size(publication: Publication) -> int:
    return len(publication.data) + OVERHEAD


def _exclusion(publication: Publication) -> str:
    return publication.exclude_client


def _by_exclusion(publications: Sequence[Publication]) -> Iterator[tuple[str, Sequence[Publication]]]:
    """Stretches of publications that leave out the same connection."""
    if len(publications) == 1:
        yield publications[0].exclude_client, publications
        return
    for exclude, stretch in groupby(publications, key=_exclusion):
        yield exclude, list(stretch)
