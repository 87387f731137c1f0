"""Closing many connections at the end of a server so that their clients do not all come back at one moment."""

import asyncio
import math
import random
from collections.abc import Callable

from gateway.guard import Guard

# Seconds between two batches on average, while they are not too large and there is more than one in each.
INTERVAL = 0.1
# Connections closed in one turn of the loop at most. Closing one costs 30 us, and 1 ms where it has 128 channels:
# others get their turn after some milliseconds.
BATCH = 20


class Drain:
    """Spreads what is added over a window, in random order, in small batches at times that are not quite regular.

    It starts with the first `add` at the latest, which is why it works under any server that asks its connections to
    end. Whoever comes once it has started is to be closed too.
    """

    def __init__(self, window: float, guard: Guard) -> None:
        """`window` in seconds; 0 closes as fast as the loop allows."""
        self._window = window
        self._guard = guard
        self._ends = 0.0
        self._waiting: list[Callable[[], object]] = []
        self._running = False
        self.started = False

    def start(self) -> None:
        """The window opens now, unless it did."""
        if not self.started:
            self.started = True
            self._ends = asyncio.get_running_loop().time() + self._window

    def add(self, close: Callable[[], object]) -> None:
        """Call `close` once, within the window."""
        self.start()
        # The place it gets is the random order.
        place = random.randint(0, len(self._waiting))  # noqa: S311 - no secret
        self._waiting.append(close)
        self._waiting[place], self._waiting[-1] = self._waiting[-1], self._waiting[place]
        if not self._running:
            self._running = True
            # The server adds all it has in one go: count them first.
            asyncio.get_running_loop().call_soon(self._close_batch)

    def _close_batch(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._ends - loop.time()
        count, delay = BATCH, 0.0
        if left > 0:
            waiting = len(self._waiting)
            count = min(math.ceil(waiting * INTERVAL / left), BATCH)
            delay = left * count / waiting * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        batch = self._waiting[-count:]
        del self._waiting[-count:]
        for close in batch:
            # One that fails keeps no other open.
            self._guard.call("drain", "", close)
        if self._waiting:
            loop.call_later(min(delay, max(left, 0.0)), self._close_batch)
        else:
            self._running = False
