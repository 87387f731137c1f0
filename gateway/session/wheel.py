"""One timer for all sessions of a node: a wheel of slots, so that a session's deadline costs an entry."""

from collections import deque
from typing import Protocol

from gateway.guard import Guard
from gateway.scheduler import Scheduler

RESOLUTION = 0.25  # seconds; nothing that sessions wait for needs to be more exact
# What one turn of the loop does of what is due, in subscriptions. One costs 0.1 us where its session pings, which looks
# at all of its own, and 8 us where it ends: 4 sessions of 128 subscriptions take 4 ms.
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
    """Calls `on_timer` within RESOLUTION after the deadline, or as soon as what is due before it had its turn."""

    def __init__(self, scheduler: Scheduler, guard: Guard) -> None:
        self._scheduler = scheduler
        self._guard = guard
        # (Dictionaries: sets that keep the order.)
        self._slots: dict[int, dict[Timed, None]] = {}
        self._next = 0
        self._running = False
        # Of slots that have passed.
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
        """Forget the deadline, and whose it is: thousands may come and go before their slot passes."""
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
        """What one turn has room for; many deadlines may pass at the same moment."""
        room = TURN_WEIGHT
        while self._due and room > 0:
            timed = self._due.popleft()
            # Unless the deadline was moved or forgotten while it waited for its turn.
            if 0 < timed.due < self._next:
                timed.due = 0
                room -= timed.weight
                # The others have deadlines too.
                self._guard.call("timer", "", timed.on_timer)
        if self._due:
            self._scheduler.call_soon(self._call_some)
