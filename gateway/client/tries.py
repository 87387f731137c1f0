"""How often a call is tried, and what is raised when none of its tries succeeds. Without I/O."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from gateway.client.failures import Unavailable

# Seconds before the second try; twice as many before each further one. Half of it more or less, by chance, so that
# many backends do not come back together.
FIRST_PAUSE = 0.1


class Pause(NamedTuple):
    """Try again after so many seconds."""

    seconds: float


class Tries:
    """Those of one call. Ask `left` before each."""

    def __init__(self, name: str, timeout: float, retries: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`name`: whom it calls, for messages. `timeout`: seconds for all tries together."""
        self.name = name
        self.timeout = timeout
        self._tries_left = retries
        self._pause = FIRST_PAUSE
        self._clock = clock
        self._deadline = clock() + timeout
        # Whether a try may have been carried out.
        self.is_unknown = False

    @property
    def left(self) -> float:
        """Seconds that are left, above 0."""
        return max(self._deadline - self._clock(), 0.001)

    def again(self, reason: str, cause: Exception | None, *, may_repeat: bool) -> Pause:
        """A try has failed. Raises Unavailable if there is no other."""
        pause = self._pause * random.uniform(0.5, 1.5)  # noqa: S311 - spreads tries, keeps no secret
        if not may_repeat or not self._tries_left or pause >= self._deadline - self._clock():
            raise Unavailable(f"{self.name}: {reason}", is_unknown=self.is_unknown) from cause
        self._tries_left -= 1
        self._pause *= 2
        return Pause(pause)
