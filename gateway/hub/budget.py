"""Bounds the total bytes that wait on a node: for clients, for reads, and for the rest of incoming messages."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Protocol

from gateway.guard import Guard
from gateway.metrics import Metrics
from gateway.scheduler import Scheduler

# Seconds between two looks.
INTERVAL = 0.1
# Fraction of the limit that is left after making room, so that not every byte beyond it closes somebody.
LOW_WATER = 0.75


class Holder(Protocol):
    """Something that keeps bytes for somebody else."""

    @property
    def held(self) -> int:
        """Bytes of memory that it keeps."""

    @property
    def concerned(self) -> int:
        """Connections that miss something when it drops its bytes."""

    @property
    def payer(self) -> Hashable:
        """Holders with the same payer count together (None: alone): many small ones weigh as much as a large one."""

    def shed(self) -> None:
        """Drop the bytes, and tell the connections concerned."""


class Budget:
    """Checks all holders, which are few: congested connections, channels that are behind, reads in progress."""

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
        """Count what these hold: `held` bytes, by default the sum. `kind` labels the metric of what was shed."""
        self._holders[kind] = holders
        self._held.append(held or (lambda: sum(holder.held for holder in holders())))

    def apply(self, limit: int) -> None:
        """This limit (bytes) holds from now on."""
        self.limit = limit

    def start(self) -> None:
        """Start the periodic check."""
        self._running = True
        self._scheduler.call_later(INTERVAL, self._look_again)

    def stop(self) -> None:
        self._running = False

    def look(self) -> None:
        """Shed holders if more than the limit is held."""
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
        """All holders, in the order in which to shed them, with the bytes they hold.

        The payer that holds most gives up its greediest holder, until another payer holds more. Bytes held for several
        connections are divided by their number.
        """
        by_payer: dict[Hashable, list[tuple[float, int, str, Holder]]] = {}
        for kind, holders in self._holders.items():
            for holder in holders():
                if held := holder.held:
                    entry = (held / max(holder.concerned, 1), held, kind, holder)
                    by_payer.setdefault(holder.payer or id(holder), []).append(entry)
        for entries in by_payer.values():
            entries.sort(key=_weight)
        # (The number breaks ties, so that the heap never compares the entries.)
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
