"""One timer for all sessions of a node: a wheel of slots, so that a session's deadline costs a list entry."""

from typing import Protocol

from gateway.guard import Guard
from gateway.scheduler import Scheduler

RESOLUTION = 0.25  # seconds; nothing that sessions wait for needs to be more exact


class Timed(Protocol):
    """Something with at most one deadline. `due` belongs to the wheel; 0 is no deadline."""

    due: int

    def on_timer(self) -> None:
        """The deadline has passed; there is none now."""


class TimingWheel:
    """Calls `on_timer` within RESOLUTION after the deadline."""

    def __init__(self, scheduler: Scheduler, guard: Guard) -> None:
        self._scheduler = scheduler
        self._guard = guard
        self._slots: dict[int, list[Timed]] = {}
        self._next = 0
        self._running = False

    def schedule(self, timed: Timed, delay: float) -> None:
        """Set the deadline to `delay` seconds from now, in place of the one before."""
        slot = int((self._scheduler.now() + delay) / RESOLUTION) + 1
        if timed.due == slot:
            return
        timed.due = slot
        self._slots.setdefault(slot, []).append(timed)
        if not self._running:
            self._running = True
            self._next = slot
            self._scheduler.call_later(RESOLUTION, self._tick)
        elif slot < self._next:
            self._next = slot

    def cancel(self, timed: Timed) -> None:
        """Forget the deadline. The entry itself goes when its slot passes."""
        timed.due = 0

    def _tick(self) -> None:
        now = int(self._scheduler.now() / RESOLUTION)
        while self._next <= now:
            for timed in self._slots.pop(self._next, ()):
                if timed.due == self._next:
                    timed.due = 0
                    # The others have deadlines too.
                    self._guard.call("timer", "", timed.on_timer)
            self._next += 1
        if self._slots:
            self._scheduler.call_later(RESOLUTION, self._tick)
        else:
            self._running = False
