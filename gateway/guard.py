"""What keeps a fault where it happened.

Timers, links, fan-outs and periodic work serve many clients, channels and messages. Whoever runs them catches what one
of these makes fail, and goes on with the next. The fault is counted and logged here, so that it is seen all the same.
"""

import logging
import time
from collections.abc import Callable

from gateway.metrics import LabelledCounter

logger = logging.getLogger(__name__)

# Seconds between two tracebacks of one part: a client that finds a fault can repeat it thousands of times a second.
LOG_INTERVAL = 1.0


class Guard:
    """Counts and logs faults by the part they happened in: one of a fixed few, since it is a label of the metric."""

    __slots__ = ("_clock", "_faults", "_logged_at", "_suppressed")

    def __init__(self, faults: LabelledCounter, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def failed(self, part: str, met: object = "", error: BaseException | None = None) -> None:
        """Count an exception (the one that is being handled, unless it is given), and log it with its traceback.

        `met` is what the part met: the channel, the client, the key. Above one line a second of a part, faults are
        only counted; the next line says how many (`suppressed`).
        """
        self._faults.add(part)
        now = self._clock()
        if now - self._logged_at.get(part, -LOG_INTERVAL) < LOG_INTERVAL:
            self._suppressed[part] = self._suppressed.get(part, 0) + 1
            return
        self._logged_at[part] = now
        extra: dict[str, object] = {"part": part}
        if met != "":
            extra["met"] = str(met)
        if suppressed := self._suppressed.pop(part, 0):
            extra["suppressed"] = suppressed
        logger.error("internal error; everything else goes on", exc_info=error or True, extra=extra)

    def call(self, part: str, met: object, callback: Callable[..., object], *arguments: object) -> bool:
        """Call, and let no exception through. False when there was one."""
        try:
            callback(*arguments)
        except Exception:
            self.failed(part, met)
            return False
        return True
