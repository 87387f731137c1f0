"""Distributions of durations: HDR histograms of microseconds, merged over processes."""

from collections import Counter

from hdrh.histogram import HdrHistogram

from loadtest.result import Spread

LOWEST, HIGHEST = 1, 3_600_000_000
DIGITS = 3
# Nanoseconds: durations are collected in steps of this size, since one by one they would cost more than to receive.
STEP = 10_000
# Bars of a plot: from one to the next by this factor.
BAR_FACTOR = 1.25


class Durations:
    """Collects nanoseconds cheaply; `flush` has to be called now and then."""

    __slots__ = ("_raw", "add", "histogram", "recent")

    def __init__(self) -> None:
        self._raw: list[int] = []
        # Call it with nanoseconds.
        self.add = self._raw.append
        self.histogram = new()
        # Since it was taken last.
        self.recent: Counter[int] = Counter()

    def flush(self) -> None:
        if self._raw:
            counts = Counter([raw // STEP for raw in self._raw])
            self._raw.clear()
            self.recent.update(counts)
            for steps, count in counts.items():
                self.histogram.record_value(_clamped(steps * STEP // 1000), count)

    def take_recent(self) -> dict[int, int]:
        """Counts by duration in steps."""
        recent, self.recent = self.recent, Counter()
        return dict(recent)


def new() -> HdrHistogram:
    return HdrHistogram(LOWEST, HIGHEST, DIGITS)


def _clamped(microseconds: int) -> int:
    return min(max(microseconds, LOWEST), HIGHEST)


def merged(encoded: list[bytes]) -> HdrHistogram:
    """Of what workers sent."""
    total = new()
    for each in encoded:
        total.decode_and_add(each)
    return total


def spread(histogram: HdrHistogram) -> Spread:
    count = histogram.get_total_count()
    if not count:
        return Spread()

    def at(percentile: float) -> float:
        return float(histogram.get_value_at_percentile(percentile)) / 1000

    return Spread(
        count=count,
        min=histogram.get_min_value() / 1000,
        mean=histogram.get_mean_value() / 1000,
        p50=at(50),
        p90=at(90),
        p99=at(99),
        p999=at(99.9),
        max=histogram.get_max_value() / 1000,
        bars=_bars(histogram),
    )


def _bars(histogram: HdrHistogram) -> list[tuple[float, int]]:
    bars: dict[float, int] = {}
    edge = 10.0
    for item in histogram.get_recorded_iterator():
        while item.value_iterated_to > edge:
            edge *= BAR_FACTOR
        bars[edge / 1000] = bars.get(edge / 1000, 0) + item.count_added_in_this_iter_step
    return sorted(bars.items())


def quantile(counts: dict[int, int], share: float) -> float:
    """Of counts by steps, milliseconds; 0 for none."""
    wanted = share * sum(counts.values())
    seen = 0
    for steps in sorted(counts):
        seen += counts[steps]
        if seen >= wanted:
            return steps * STEP / 1e6
    return 0.0
