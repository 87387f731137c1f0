"""The Scheduler port on the running event loop."""

import asyncio
import time
from collections.abc import Callable


class LoopScheduler:
    """Needs a running loop.

    `now` is the loop's own clock: uvloop reads the time once per turn, so calling it costs no system call.
    """

    __slots__ = ("_loop", "now", "time")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Bound here to save a second call.
        self.now: Callable[[], float] = self._loop.time
        self.time: Callable[[], float] = time.time

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Run on the next turn of the loop."""
        self._loop.call_soon(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        """Run after `delay` seconds."""
        self._loop.call_later(delay, callback)
