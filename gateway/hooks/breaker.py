"""A circuit breaker: a backend that fails is not asked for a while, so that nobody waits for it in vain."""

import time
from collections.abc import Callable

# Failures in a row, each of another client, after which calls are no longer made.
FAILURES = 5
# Seconds until one call tries whether the backend is back.
PAUSE = 5.0


class Breaker:
    """Counts the calls of one hook. Failures that the same client causes count once: nobody stops the others' calls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._clock = clock
        self._failed: set[str] = set()
        # When the next try is due; None while calls are made.
        self._due: float | None = None
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether the backend counts as failing."""
        return self._due is not None

    def admits(self) -> bool:
        """Whether a call may be made now."""
        return self._due is None or (not self._is_trying and self._clock() >= self._due)

    def begin(self) -> None:
        """A call that was admitted begins. It ends with `succeeded` or `failed`."""
        self._is_trying = self.is_open

    def succeeded(self) -> bool:
        """The backend has answered. True if it counted as failing."""
        was_open = self.is_open
        self._failed.clear()
        self._due, self._is_trying = None, False
        return was_open

    def failed(self, client: str) -> bool:
        """The backend has not answered. True if it counts as failing from now on."""
        if self.is_open:
            if self._is_trying:
                self._due, self._is_trying = self._clock() + PAUSE, False
            return False
        self._failed.add(client)
        if len(self._failed) < FAILURES:
            return False
        self._due = self._clock() + PAUSE
        return True
