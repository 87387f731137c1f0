"""What one worker counts, and what it tells of it every second."""

import time
from collections import Counter

import msgspec

from loadtest.figures import Durations

KINDS = ("connect", "subscribe", "acknowledgement", "delivery", "recovery")


class Tick(msgspec.Struct):
    """One worker in one second. Counts are since the tick before."""

    # Clients that are ready, and that will never be, since the beginning.
    ready: int
    given_up: int
    connections: int
    published: int
    delivered: int
    errors: int
    # Deliveries by duration, in steps of figures.STEP.
    durations: dict[int, int]
    # Share of a core.
    cpu: float
    # Counts by lateness of the event loop, in the same steps.
    lag: dict[int, int]


class Sums(msgspec.Struct):
    """What one worker has counted over the run."""

    counts: dict[str, int]
    errors: dict[str, int]
    failures: dict[str, int]
    # Encoded histograms.
    durations: dict[str, bytes]
    lag: bytes
    slots: int
    late_slots: int


class Tally:
    """Counters and durations of one worker."""

    def __init__(self) -> None:
        self.connections = 0
        self.ready = 0
        self.connects_failed = 0
        self.disconnects = 0
        self.reconnects = 0
        self.recovered = 0
        self.not_recovered = 0
        self.published = 0
        self.acknowledged = 0
        self.refused = 0
        self.unknown = 0
        self.delivered = 0
        self.slots = 0
        self.late_slots = 0
        # What went wrong, and what makes a client give up.
        self.errors: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.connect = Durations()
        self.subscribe = Durations()
        self.acknowledgement = Durations()
        self.delivery = Durations()
        self.recovery = Durations()
        self.lag = Durations()
        self._last = (0, 0, 0)
        self._cpu = (time.monotonic(), time.process_time())

    def flush(self) -> None:
        for name in (*KINDS, "lag"):
            getattr(self, name).flush()

    def tick(self) -> Tick:
        self.flush()
        errors = self.errors.total() + self.failures.total()
        published, delivered, erred = self._last
        self._last = (self.published, self.delivered, errors)
        then, used = self._cpu
        self._cpu = (time.monotonic(), time.process_time())
        return Tick(
            ready=self.ready,
            given_up=self.failures.total(),
            connections=self.connections,
            published=self.published - published,
            delivered=self.delivered - delivered,
            errors=errors - erred,
            durations=self.delivery.take_recent(),
            cpu=(self._cpu[1] - used) / max(self._cpu[0] - then, 1e-3),
            lag=self.lag.take_recent(),
        )

    def sums(self) -> Sums:
        self.flush()
        names = (
            "connects_failed", "disconnects", "reconnects", "recovered", "not_recovered",
            "published", "acknowledged", "refused", "unknown", "delivered",
        )  # fmt: skip
        return Sums(
            counts={name: getattr(self, name) for name in names},
            errors=dict(self.errors),
            failures=dict(self.failures),
            durations={name: getattr(self, name).histogram.encode() for name in KINDS},
            lag=self.lag.histogram.encode(),
            slots=self.slots,
            late_slots=self.late_slots,
        )
