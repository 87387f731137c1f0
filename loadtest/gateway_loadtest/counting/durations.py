"""Durations: collected in HDR histograms of microseconds, which are merged over processes."""

from collections import Counter

from hdrh.histogram import HdrHistogram

LOWEST, HIGHEST = 1, 3_600_000_000
DIGITS = 3
# Nanoseconds: durations are collected in steps of this size, since one by one they would cost more than to receive.
STEP = 10_000


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


def quantile(counts: dict[int, int], share: float) -> float:
    """Of counts by steps, milliseconds; 0 for none."""
    wanted = share * sum(counts.values())
    seen = 0
    for steps in sorted(counts):
        seen += counts[steps]
        if seen >= wanted:
            return steps * STEP / 1e6
    return 0.0
