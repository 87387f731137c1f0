"""How a node is doing: event-loop lag, memory, CPU."""

import asyncio
import os
import resource
import sys
import time
from pathlib import Path

from gateway.metrics import Metrics

LAG_INTERVAL = 0.1  # seconds; named in the description of the metric

_STATM = Path("/proc/self/statm")


class LoopLag:
    """Measures how late the loop runs a timer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + LAG_INTERVAL
        self._handle = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        self._handle.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        lag = max(now - self._due, 0.0)
        self._metrics.loop_lag.observe(lag)
        self._metrics.loop_lag_max.observe(lag)
        self._due = now + LAG_INTERVAL
        self._handle = self._loop.call_at(self._due, self._tick)


def cpu_seconds() -> float:
    """CPU time of this process since it started."""
    return time.process_time()


def resident_bytes() -> int:
    """Resident memory of this process, or its peak where the system does not report the current value."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
