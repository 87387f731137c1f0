"""Time, as a port that keeps sessions and the hub free of I/O."""

from collections.abc import Callable
from typing import Protocol


class Scheduler(Protocol):
    """The event loop's clock and queue."""

    def now(self) -> float:
        """Monotonic seconds."""

    def time(self) -> float:
        """Unix time in seconds, for token expiry and publication times."""

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Run on the next turn of the loop."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        """Run after `delay` seconds."""
