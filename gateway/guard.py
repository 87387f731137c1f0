"""Keeps a fault where it happened.

Timers, links, fan-outs and periodic work serve many clients, channels and messages. If one of these makes the work
fail, the code that runs it catches the exception and continues with the next. The fault is counted and logged here, so
that it does not go unnoticed.
"""

import logging
import time
from collections.abc import Callable

from gateway.log import LogLimit
from gateway.metrics import LabelledCounter

logger = logging.getLogger(__name__)

# Seconds between two tracebacks of one part: a client that finds a fault can repeat it thousands of times a second.
LOG_INTERVAL = 1.0


class Guard:
    """Counts and logs faults by the part they happened in: one of a few fixed names, since it is a metric label."""

    __slots__ = ("_faults", "_lines")

    def __init__(self, faults: LabelledCounter, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._lines = LogLimit(LOG_INTERVAL, clock)

    def failed(self, part: str, met: object = "", error: BaseException | None = None) -> None:
        """Count an exception (by default the one that is being handled), and log it with its traceback.

        `met` is the context: the channel, the client or the key. Each part logs at most one line per second; the next
        line says how many faults came in between (`suppressed`).
        """
        self._faults.add(part)
        if (suppressed := self._lines.passes(part)) is None:
            return
        extra: dict[str, object] = {"part": part, **suppressed}
        if met != "":
            extra["met"] = str(met)
        logger.error("internal error; everything else goes on", exc_info=error or True, extra=extra)

    def call(self, part: str, met: object, callback: Callable[..., object], *arguments: object) -> bool:
        """Call, and catch any exception. False if there was one."""
        try:
            callback(*arguments)
        except Exception:
            self.failed(part, met)
            return False
        return True
