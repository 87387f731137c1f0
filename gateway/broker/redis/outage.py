"""One line in the log for all that fails while Redis cannot be reached."""

import logging
import time
from collections.abc import Callable

from gateway.broker.base import Health

logger = logging.getLogger(__name__)

# Seconds between two looks, and between two lines while it lasts.
LOOK_INTERVAL = 1.0
TELL_INTERVAL = 15.0


class Outage:
    """Tells that Redis cannot be reached, again from time to time, and when it is reached again."""

    def __init__(self, health: Callable[[], Health], clock: Callable[[], float] = time.monotonic) -> None:
        self._health = health
        self._clock = clock
        # Monotonic seconds; None while there is none.
        self._since: float | None = None
        self._told_at = 0.0
        self._suppressed = 0

    async def look(self) -> None:
        """Called once an interval. Raises nothing."""
        health, now = self._health(), self._clock()
        if health.ok:
            if self._since is not None:
                logger.warning("Redis is reached again after %.0f s", now - self._since, extra=self._fields())
            self._since = None
            return
        if self._since is None:
            self._since = now
        elif now - self._told_at < TELL_INTERVAL:
            return
        self._told_at = now
        logger.warning(
            "Redis cannot be reached: the node is not ready, publishes fail, and it keeps trying: %s",
            health.reason,
            extra=self._fields(),
        )

    def explains(self) -> bool:
        """Whether it is why periodic work has failed just now: then that needs no line, and is counted."""
        if self._health().ok:
            return False
        self._suppressed += 1
        return True

    def _fields(self) -> dict[str, object]:
        suppressed, self._suppressed = self._suppressed, 0
        return {"suppressed": suppressed} if suppressed else {}
