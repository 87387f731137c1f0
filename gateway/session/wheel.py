"""One timer for all sessions of a node: a timing wheel, in which a deadline costs one entry in a slot."""

from collections import deque
from typing import Protocol

from gateway.guard import Guard
from gateway.scheduler import Scheduler

RESOLUTION = 0.25  # seconds; nothing that sessions wait for needs to be more exact
# Most work on due deadlines per turn of the loop, in subscriptions. One costs 0.1 us when its session pings, which goes
# through all of them, and 8 us when the session ends: 4 sessions of 128 subscriptions take 4 ms.
TURN_WEIGHT = 512


class Timed(Protocol):
    """Something with at most one deadline. `due` belongs to the wheel; 0 is no deadline."""

    due: int

    @property
    def weight(self) -> int:
        """What `on_timer` may cost, in subscriptions; at least 1."""

    def on_timer(self) -> None:
        """The deadline has passed; there is none now."""


class TimingWheel:
    """Calls `on_timer` within RESOLUTION after the deadline, or once everything due before it has run."""

    def __init__(self, scheduler: Scheduler, guard: Guard) -> None:
        self._scheduler = scheduler
        self._guard = guard
        # (The dictionaries serve as ordered sets.)
        self._slots: dict[int, dict[Timed, None]] = {}
        self._next = 0
        self._running = False
        # Entries of slots that have passed.
        self._due: deque[Timed] = deque()

    def schedule(self, timed: Timed, delay: float) -> None:
        """Set the deadline to `delay` seconds from now, in place of the one before."""
        slot = int((self._scheduler.now() + delay) / RESOLUTION) + 1
        if timed.due == slot:
            return
        self.cancel(timed)
        timed.due = slot
        self._slots.setdefault(slot, {})[timed] = None
        if not self._running:
            self._running = True
            self._next = slot
            self._scheduler.call_later(RESOLUTION, self._tick)
        elif slot < self._next:
            self._next = slot

    def cancel(self, timed: Timed) -> None:
        """Remove the deadline and its entry: thousands may come and go before their slot passes."""
        slot = self._slots.get(timed.due)
        if slot is not None:
            del slot[timed]
            if not slot:
                del self._slots[timed.due]
        timed.due = 0

    def _tick(self) -> None:
        now = int(self._scheduler.now() / RESOLUTION)
        is_idle = not self._due
        while self._next <= now:
            self._due.extend(self._slots.pop(self._next, ()))
            self._next += 1
        if is_idle:
            self._call_some()
        if self._slots:
            self._scheduler.call_later(RESOLUTION, self._tick)
        else:
            self._running = False

    def _call_some(self) -> None:
        """Call as many as one turn has room for; many deadlines may pass at the same moment."""
        room = TURN_WEIGHT
        while self._due and room > 0:
            timed = self._due.popleft()
            # Skip it if the deadline was moved or cancelled meanwhile.
            if 0 < timed.due < self._next:
                timed.due = 0
                room -= timed.weight
                # A fault must not keep the others from running.
                self._guard.call("timer", "", timed.on_timer)
        if self._due:
            self._scheduler.call_soon(self._call_some)
