"""How a node says it is doing."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.metrics import Metrics
from gateway.node import vitals
from gateway.node.vitals import LoopLag, cpu_seconds, resident_bytes


def test_the_lag_is_how_late_a_timer_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback that holds the loop is seen, with its whole length, in the histogram and as the largest lag."""
    monkeypatch.setattr(vitals, "LAG_INTERVAL", 0.01)

    async def scenario() -> None:
        metrics = Metrics()
        lag = LoopLag(metrics)
        time.sleep(0.2)
        async with asyncio.timeout(20):
            while not sum(metrics.loop_lag.counts):
                await asyncio.sleep(0.001)
        # Clocks of loops count in milliseconds.
        assert metrics.loop_lag_max.value > 0.18
        lag.stop()
        before = list(metrics.loop_lag.counts)
        await asyncio.sleep(0.03)
        assert metrics.loop_lag.counts == before

    asyncio.run(scenario())


def test_memory_and_time_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes and seconds; where there is no /proc the peak, in the unit of the system."""
    started = cpu_seconds()
    ballast = bytearray(b"x" * 64_000_000)
    resident = resident_bytes()
    assert 64_000_000 < resident < 64_000_000_000
    assert cpu_seconds() > started >= 0
    monkeypatch.setattr(vitals, "_STATM", Path("/nonexistent"))
    assert resident_bytes() >= 64_000_000
    # The same number means bytes there, and KiB elsewhere.
    monkeypatch.setattr("sys.platform", "linux")
    elsewhere = resident_bytes()
    monkeypatch.setattr("sys.platform", "darwin")
    assert elsewhere <= resident_bytes() * 1024 < 2 * elsewhere
    assert len(ballast) == 64_000_000
