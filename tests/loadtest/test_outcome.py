"""What a run is called, by its figures."""

from typing import Any

import pytest
from msgspec import structs

from gateway_loadtest.counting.counters import KINDS, Counts
from gateway_loadtest.counting.durations import new
from gateway_loadtest.planning.plan import Plan, StagePlan
from gateway_loadtest.reporting import summary
from gateway_loadtest.results.assembly import assemble
from gateway_loadtest.results.outcome import judge, remarks_on, weigh
from gateway_loadtest.results.result import Generator, Outcome, Spread, Totals
from gateway_loadtest.results.timeline import Timeline
from tests.loadtest import sample_results

GOOD = Totals(connections=10, standing=10, published=100, acknowledged=100, expected=1000, received=1000)
GENERATOR = Generator(1, 0.3, 0.4, Spread(), 100, 0, 10.0)


def plan(stage: StagePlan | None = None, **fields: Any) -> Plan:
    stages = (stage or StagePlan("steady", 10.0),)
    return Plan(**{"scenario": "s", "targets": ("ws://a",), "channels": 1, "members": 10, "stages": stages, **fields})


@pytest.mark.parametrize(
    ("totals", "fields", "outcome"),
    [
        ({}, {}, "passed"),
        ({"lost": 1}, {}, "lost"),
        ({"duplicated": 1}, {}, "lost"),
        ({"misordered": 1}, {}, "lost"),
        ({"misrouted": 1}, {}, "lost"),
        ({"missed_and_told": 1}, {}, "lost"),
        ({"lost": 5, "misrouted": 5}, {"max_loss": 10}, "passed"),
        ({"lost": 5, "misrouted": 6}, {"max_loss": 10}, "lost"),
        ({"missed_and_told": 10}, {"max_loss": 9}, "lost"),
        # What the run itself breaks is told to those who cannot recover.
        ({"missed_and_told": 9}, {"stage": StagePlan("s", 10, drop=0.1)}, "passed"),
        ({"missed_and_told": 9}, {"stage": StagePlan("s", 10, slow=0.1)}, "passed"),
        ({"missed_and_told": 9, "lost": 1}, {"stage": StagePlan("s", 10, commands=("x",))}, "lost"),
        ({"refused": 1}, {}, "refused"),
        ({"unknown": 1}, {}, "refused"),
        ({"refused": 5, "unknown": 5}, {"max_refused": 10}, "passed"),
        ({"refused": 5, "unknown": 5}, {"max_refused": 9}, "refused"),
        ({"refused": 50}, {"stage": StagePlan("s", 10, commands=("x",))}, "passed"),
        ({"refused": 50}, {"stage": StagePlan("s", 10, commands=("x",)), "max_refused": 0}, "refused"),
        ({"unanswered": 1}, {"max_refused": 10}, "refused"),
        # Nothing was expected of anybody.
        ({"acknowledged": 0, "refused": 100, "expected": 0, "received": 0}, {"max_refused": 100}, "refused"),
        ({"acknowledged": 0, "expected": 0, "received": 0}, {"idle": 10, "channels": 0}, "passed"),
        ({"standing": 9}, {}, "disconnected"),
        ({"standing": 9, "lost": 1}, {}, "lost"),
    ],
)
def test_outcomes(totals: dict[str, Any], fields: dict[str, Any], outcome: Outcome) -> None:
    found = structs.replace(GOOD, **totals)
    assert judge(plan(**fields), found, GENERATOR) == outcome
    # What went wrong has a sentence, also where it was allowed.
    is_spotless = found == GOOD or not found.refused + found.unanswered + found.unknown + found.expected
    assert bool(remarks_on(found, GENERATOR)) == (not is_spotless)


def test_a_busy_generator_is_no_excuse_for_a_server() -> None:
    busy = structs.replace(GENERATOR, invalid=["too busy"])
    assert judge(plan(), GOOD, busy) == "invalid"
    assert judge(plan(), structs.replace(GOOD, lost=1), busy) == "lost"


@pytest.mark.parametrize(
    ("fields", "outcome", "parts"),
    [
        ({"late_slots": 1}, "passed", []),
        ({"late_slots": 2}, "passed", ["2 of 100", "slowest latencies"]),
        ({"late_slots": 10}, "passed", ["10 of 100", "slowest latencies"]),
        ({"late_slots": 11}, "invalid", ["11 of 100"]),
        ({"late_slots": 2, "cpu": 0.01, "cpu_max": 0.02}, "passed", ["2 of 100", "2% of a core", "slowest latencies"]),
        ({"late_slots": 11, "cpu": 0.01, "cpu_max": 0.02}, "invalid", ["11 of 100", "machine was busy, not the gen"]),
        ({"late_slots": 11, "cpu": 0.01, "cpu_max": 0.95}, "invalid", ["11 of 100"]),
        ({"cpu": 0.91, "cpu_max": 1.0}, "invalid", ["91% of a core"]),
        ({"lag": Spread(p99=51.0)}, "passed", ["51 ms late", "slowest latencies"]),
        ({"lag": Spread(p90=51.0, p99=60.0), "cpu_max": 0.0}, "invalid", ["60 ms late"]),
        # Without a publication nothing is late.
        ({"slots": 0}, "passed", []),
    ],
)
def test_a_run_on_a_busy_machine(fields: dict[str, Any], outcome: Outcome, parts: list[str]) -> None:
    """A few late ones are a caution, and many make the run invalid; the machine is blamed where the tool was idle."""
    found = structs.replace(structs.replace(GENERATOR, cpu_max=0.6), **fields)
    invalid, doubts = weigh(found)
    assert not (invalid and doubts)
    for part, sentence in zip(parts, invalid or doubts, strict=True):
        assert part in sentence
    weighed = structs.replace(found, invalid=invalid, doubts=doubts)
    assert judge(plan(), GOOD, weighed) == outcome


@pytest.mark.parametrize(
    ("busiest", "guilty"), [(0.02, "the machine of the generator was too busy"), (0.6, "the generator was the bottle")]
)
def test_what_an_invalid_run_is_called(busiest: float, guilty: str) -> None:
    found = sample_results.result(outcome="invalid", generator=structs.replace(GENERATOR, cpu_max=busiest))
    assert summary.headline(found).startswith(f"Invalid: {guilty}")


@pytest.mark.parametrize("ready", [0, 1])
def test_nothing_is_late_while_nobody_is_connected(ready: int) -> None:
    """The event loops had nothing to do that could have been late."""
    late = new()
    late.record_value(60_000)
    counts = Counts({}, {}, {}, [], {name: new().encode() for name in KINDS}, late.encode(), 0, 0, {})
    timeline = Timeline(1, [])
    timeline.ready = ready
    found = assemble(plan(), timeline, [counts], started="", outcome="unreachable", remarks=[])
    assert bool(found.generator.invalid) == bool(ready)


def test_what_was_cut_is_not_the_servers() -> None:
    totals = structs.replace(GOOD, disconnects=7, cut=5, moved=1)
    assert remarks_on(totals, GENERATOR) == [
        "connections lost that this tool did not cut: 2",
        "1 client moved to another target; the pairs are those of the begin",
    ]
    assert remarks_on(structs.replace(GOOD, disconnects=5, cut=5), GENERATOR) == []


@pytest.mark.parametrize(
    ("totals", "headline"),
    [
        (GOOD, "everything that was accepted arrived, once and in order"),
        (structs.replace(GOOD, lost=1), "no more went wrong than --max-loss allows"),
        (structs.replace(GOOD, missed_and_told=1), "nothing was lost silently, but not everything arrived"),
        (Totals(connections=5), "everybody connected and stayed. Nothing was published"),
        (Totals(connections=5, disconnects=1), "everybody connected and came back. Nothing was published"),
    ],
)
def test_what_passes_is_not_called_more_than_it_is(totals: Totals, headline: str) -> None:
    assert summary.headline(sample_results.result(totals=totals)) == f"Passed: {headline}."
