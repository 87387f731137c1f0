"""What waits on a node for clients, for reads and for the rest of a message: bounded in bytes for all together."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Protocol

from gateway.guard import Guard
from gateway.metrics import Metrics
from gateway.scheduler import Scheduler

# Seconds between two looks.
INTERVAL = 0.1
# Of the limit, what is left after making room: not every byte beyond it closes somebody.
LOW_WATER = 0.75


class Holder(Protocol):
    """Something that keeps bytes for somebody else."""

    @property
    def held(self) -> int:
        """Bytes of memory that it keeps."""

    @property
    def concerned(self) -> int:
        """Connections that miss something when it lets go."""

    @property
    def payer(self) -> Hashable:
        """Whose holders count together, None for nobody's: many small ones are no better than one that is large."""

    def shed(self) -> None:
        """Let go of the bytes, and tell whom that concerns."""


class Budget:
    """Looks at all holders, which are few: who is congested, channels that are behind, reads under way."""

    def __init__(self, limit: int, scheduler: Scheduler, metrics: Metrics) -> None:
        """`limit` in bytes."""
        self.limit = limit
        self._scheduler = scheduler
        self._guard = Guard(metrics.faults)
        self._shed = metrics.shed
        self._holders: dict[str, Callable[[], Iterable[Holder]]] = {}
        self._held: list[Callable[[], int]] = []
        self._running = False
        metrics.waiting_bytes.read = self._used
        metrics.waiting_limit.read = lambda: self.limit

    def watch(self, kind: str, holders: Callable[[], Iterable[Holder]], held: Callable[[], int] | None = None) -> None:
        """Count what these keep: `held` bytes, by default the sum. `kind` is for the metric of what had to go."""
        self._holders[kind] = holders
        self._held.append(held or (lambda: sum(holder.held for holder in holders())))

    def apply(self, limit: int) -> None:
        """This limit (bytes) holds from now on."""
        self.limit = limit

    def start(self) -> None:
        """Look from now on."""
        self._running = True
        self._scheduler.call_later(INTERVAL, self._look_again)

    def stop(self) -> None:
        self._running = False

    def look(self) -> None:
        """Make room, if there is too little."""
        used = self._used()
        if used <= self.limit:
            return
        excess = used - int(self.limit * LOW_WATER)
        for held, kind, holder in self._greediest():
            self._shed.add(kind)
            self._guard.call("budget", kind, holder.shed)
            excess -= held
            if excess <= 0:
                return

    def _used(self) -> int:
        return sum(held() for held in self._held)

    def _look_again(self) -> None:
        if self._running:
            self._guard.call("budget", "", self.look)
            self._scheduler.call_later(INTERVAL, self._look_again)

    def _greediest(self) -> Iterator[tuple[int, str, Holder]]:
        """All holders, in the order in which they have to go, with what they hold.

        The payer who keeps most goes on with its greediest, until another one keeps more. What is kept for many is
        that much less greedy.
        """
        by_payer: dict[Hashable, list[tuple[float, int, str, Holder]]] = {}
        for kind, holders in self._holders.items():
            for holder in holders():
                if held := holder.held:
                    entry = (held / max(holder.concerned, 1), held, kind, holder)
                    by_payer.setdefault(holder.payer or id(holder), []).append(entry)
        for entries in by_payer.values():
            entries.sort(key=_weight)
        # (The number keeps the heap from comparing what follows.)
        heap = [(-sum(map(_weight, entries)), n, entries) for n, entries in enumerate(by_payer.values())]
        heapify(heap)
        while heap:
            negative, n, entries = heappop(heap)
            weight, held, kind, holder = entries.pop()
            if entries:
                heappush(heap, (negative + weight, n, entries))
            yield held, kind, holder


def _weight(entry: tuple[float, int, str, Holder]) -> float:
    return entry[0]
