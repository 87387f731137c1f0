"""What waits on a node for clients, for reads and for the rest of a message: bounded in bytes for all together."""

from collections.abc import Callable, Iterable
from heapq import nlargest
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
    def size(self) -> int:
        """Bytes that it keeps."""

    def shed(self) -> None:
        """Let go of them, and tell whom that concerns."""


class Budget:
    """Looks at all holders, which are few: who is congested, channels that are behind, reads under way.

    Above the limit those that keep most let go, until little enough is left. A publication that waits for many clients
    lies in memory once and counts for each of them: the sum is never less than the memory, and may be far more.
    """

    def __init__(self, limit: int, scheduler: Scheduler, metrics: Metrics) -> None:
        """`limit` in bytes."""
        self.limit = limit
        self._scheduler = scheduler
        self._guard = Guard(metrics.faults)
        self._shed = metrics.shed
        self._sources: dict[str, Callable[[], Iterable[Holder]]] = {}
        self._running = False
        metrics.waiting_bytes.read = lambda: sum(size for size, _, _ in self._holders())
        metrics.waiting_limit.read = lambda: self.limit

    def watch(self, kind: str, source: Callable[[], Iterable[Holder]]) -> None:
        """Count what these keep. `kind` is for the metric of what had to go."""
        self._sources[kind] = source

    def start(self) -> None:
        """Look from now on."""
        self._running = True
        self._scheduler.call_later(INTERVAL, self._look_again)

    def stop(self) -> None:
        self._running = False

    def look(self) -> None:
        """Make room, if there is too little."""
        holders = self._holders()
        used = sum(size for size, _, _ in holders)
        if used <= self.limit:
            return
        excess = used - int(self.limit * LOW_WATER)
        for size, kind, holder in nlargest(len(holders), holders, key=_size):
            if excess <= 0:
                return
            excess -= size
            self._shed.add(kind)
            self._guard.call("budget", kind, holder.shed)

    def _look_again(self) -> None:
        if self._running:
            self._guard.call("budget", "", self.look)
            self._scheduler.call_later(INTERVAL, self._look_again)

    def _holders(self) -> list[tuple[int, str, Holder]]:
        return [(holder.size, kind, holder) for kind, source in self._sources.items() for holder in source()]


def _size(entry: tuple[int, str, Holder]) -> int:
    return entry[0]
