"""Time that passes when the test says so."""

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count

# Turns of the loop after which all that was started by a timer has had its effect: a hook answers in three, a
# publication arrives in three more.
TURNS = 20
# Turns between two timers.
TURNS_BETWEEN = 2


class ManualClock:
    """The time of a node: deadlines, expiry of tokens, pings. Implements the Scheduler port.

    It begins at the present. (Timeouts of hooks and of `next` pass in real time.)
    """

    def __init__(self) -> None:
        self._passed = 0.0
        self._began = time.time()
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()

    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._passed

    def time(self) -> float:
        """Unix time in seconds."""
        return self._began + self._passed

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Run on the next turn of the loop."""
        asyncio.get_running_loop().call_soon(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        """Run once `delay` seconds have passed."""
        heapq.heappush(self._later, (self._passed + delay, next(self._numbers), callback))

    async def advance(self, seconds: float) -> None:
        """Let time pass. What is due on the way happens in its order, and has had its effect afterwards."""
        end = self._passed + seconds
        while self._later and self._later[0][0] <= end:
            self._passed, _, callback = heapq.heappop(self._later)
            callback()
            # Timers come several times a second: what this one started goes on between the next ones.
            await settle(TURNS_BETWEEN)
        self._passed = end
        await settle()


async def settle(turns: int = TURNS) -> None:
    """Let the loop turn until what was started has had its effect, unless it waits for something outside."""
    for _ in range(turns):
        await asyncio.sleep(0)
