"""Events in the memory of a process: bounded, on the clock of the node."""

import asyncio

import pytest

from gateway.broker.base import Ending
from gateway.broker.memory import memory_events
from gateway.broker.memory.memory_events import MemoryEvents
from gateway.messages import Channel
from gateway.metrics import Metrics


def test_what_does_not_fit_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ends and of channels apart. Those that fit come in their order."""
    monkeypatch.setattr(memory_events, "MOST_EVENTS", 2)
    metrics = Metrics()
    events = MemoryEvents(metrics, lambda: 7.0)
    for number in range(4):
        events.changed(Channel("default", "a"), is_occupied=not number % 2)
        events.begin(str(number), b"%d" % number)
        events.end(str(number), Ending(3000, "connection closed"))
    found = asyncio.run(events.take(100, 100))
    assert [each.about for each in found] == [b"", b"0", b"", b"1"]
    assert {each.time for each in found} == {7000}
    assert metrics.hook_events_dropped.values == {"full": 4}
