"""The seconds of a run, as its workers tell of them."""

from typing import Any

from gateway_loadtest.counting.counters import Tick
from gateway_loadtest.results.timeline import OVERDUE, Timeline


def timeline(workers: int) -> Timeline:
    found = Timeline(workers, [])
    found.enter("steady")
    return found


def tick(**fields: Any) -> Tick:
    counts = {
        "ready": 5,
        "given_up": 0,
        "standing": 4,
        "connections": 5,
        "published": 10,
        "delivered": 100,
        "errors": 1,
    }
    return Tick(**{"seconds": 1.0, **counts, "durations": {100: 100}, "cpu": 0.5, "lag": {}, **fields})


def test_a_moment_is_whole_when_every_worker_has_told() -> None:
    found = timeline(2)
    assert found.tick(0, tick()) is None
    moment = found.tick(1, tick(cpu=0.7, durations={300: 1}))
    assert moment is not None
    assert (moment.connections, moment.published, moment.delivered, moment.errors) == (10, 20, 200, 2)
    assert (moment.p50, moment.max, moment.generator_cpu) == (1.0, 3.0, 0.7)
    assert (found.ready, found.standing, found.delivered) == (10, 8, 200)
    assert found.tick(0, tick()) is None


def test_rates_are_per_second_whatever_a_tick_spans() -> None:
    """A worker that was busy tells of two seconds at once, and errors are none of the rates."""
    moment = timeline(1).tick(0, tick(seconds=2.0, published=20, delivered=200, errors=3))
    assert moment is not None
    assert (moment.published, moment.delivered, moment.errors) == (10, 100, 3)


def test_a_worker_that_hangs_is_not_waited_for() -> None:
    found = timeline(2)
    moments = [found.tick(0, tick()) for _ in range(OVERDUE)]
    assert moments[:-1] == [None] * (OVERDUE - 1)
    assert moments[-1] is not None
    assert (moments[-1].published, moments[-1].errors, moments[-1].connections) == (10, OVERDUE, 5)
