"""Closes many connections at shutdown so that their clients do not all reconnect at the same moment."""

import asyncio
import math
import random
from collections.abc import Callable

from gateway.guard import Guard

# Average seconds between two batches, as long as a batch has more than one connection and at most BATCH.
INTERVAL = 0.1
# Most connections closed in one turn of the loop. Closing one costs 30 us, or 1 ms if it has 128 channels, so the turn
# lasts some milliseconds.
BATCH = 20


class Drain:
    """Spreads the calls added to it over a window: in random order, in small batches, with jitter between them.

    It starts at the latest with the first `add`, so it works under any server that asks its connections to end.
    Connections that arrive after the start are to be closed too.
    """

    def __init__(self, window: float, guard: Guard) -> None:
        """`window` is in seconds; 0 closes as fast as the loop allows."""
        self._window = window
        self._guard = guard
        self._ends = 0.0
        self._waiting: list[Callable[[], object]] = []
        # The next batch, as long as any waits.
        self._next: asyncio.Handle | None = None
        # That of the window, once it is open.
        self._loop: asyncio.AbstractEventLoop | None = None
        self.started = False

    def start(self) -> None:
        """Open the window, unless it is open already."""
        if not self.started:
            self.started = True
            self._loop = asyncio.get_running_loop()
            self._ends = self._loop.time() + self._window

    def hurry(self) -> None:
        """End the window: close what waits, and what is added later, as fast as the loop allows.

        May be called from a signal handler, in the midst of any other code.
        """
        self._window = self._ends = 0.0
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._close_now)

    def add(self, close: Callable[[], object]) -> None:
        """Call `close` once, within the window."""
        self.start()
        # A random position in the list makes the order random.
        place = random.randint(0, len(self._waiting))  # noqa: S311 - no secret
        self._waiting.append(close)
        self._waiting[place], self._waiting[-1] = self._waiting[-1], self._waiting[place]
        if self._next is None:
            # The server adds all its connections in one turn: wait until their number is known.
            self._next = asyncio.get_running_loop().call_soon(self._close_batch)

    def _close_now(self) -> None:
        """Not when the next batch was due."""
        if self._next is not None:
            self._next.cancel()
            self._close_batch()

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
            # A failing one must not keep the others open.
            self._guard.call("drain", "", close)
        self._next = loop.call_later(min(delay, max(left, 0.0)), self._close_batch) if self._waiting else None
