"""Distributions."""

import random

from gateway_loadtest.counting.durations import Durations, merged, new, quantile
from gateway_loadtest.results.assembly import spread_of
from gateway_loadtest.results.result import Spread


def test_percentiles_are_those_of_the_values() -> None:
    """To one per cent and the step in which they are collected; merged over processes."""
    dice = random.Random(1)
    values = [int(dice.expovariate(1 / 5e6)) for _ in range(20_000)]
    parts = [Durations(), Durations()]
    for number, value in enumerate(values):
        parts[number % 2].add(value)
        if number % 1000 == 0:
            parts[number % 2].flush()
    for part in parts:
        part.flush()
        part.flush()
    spread = spread_of(merged([part.histogram.encode() for part in parts]))
    values.sort()
    assert spread.count == sum(count for _, count in spread.bars) == len(values)
    for share, found in ((0.5, spread.p50), (0.9, spread.p90), (0.99, spread.p99), (0.999, spread.p999)):
        exact = values[int(share * len(values))] / 1e6
        assert abs(found - exact) <= exact * 0.01 + 0.01
    assert abs(spread.max - values[-1] / 1e6) <= values[-1] / 1e6 * 0.01 + 0.01
    recent = [part.take_recent() for part in parts]
    assert sum(sum(counts.values()) for counts in recent) == len(values)
    assert parts[0].take_recent() == {}


def test_nothing_is_an_empty_spread() -> None:
    assert spread_of(merged([new().encode()])) == Spread()
    assert quantile({}, 0.5) == 0.0


def test_what_is_beyond_an_hour_counts_as_an_hour() -> None:
    durations = Durations()
    durations.add(10**16)
    durations.add(0)
    durations.flush()
    spread = spread_of(durations.histogram)
    assert (spread.count, round(spread.max / 3_600_000, 2), spread.min) == (2, 1.0, 0.001)


def test_quantiles_of_counts() -> None:
    counts = {100: 98, 500: 1, 900: 1}
    assert [quantile(counts, share) for share in (0.5, 0.99, 1.0)] == [1.0, 5.0, 9.0]
