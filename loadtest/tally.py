"""What one worker counts, and what it tells of it every second."""

import time

import msgspec

from loadtest.figures import Durations
from loadtest.texts import Texts

KINDS = ("connect", "subscribe", "acknowledgement", "delivery", "recovery")


class Tick(msgspec.Struct):
    """One worker in one second, as a rule. Counts are since the tick before."""

    # Since then.
    seconds: float
    # Clients that have been ready, and that will never be; those that stand now, with all subscriptions.
    ready: int
    given_up: int
    standing: int
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

    # By their names in result.Totals.
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
        self.given_up = 0
        self.standing = 0
        self.connects_failed = 0
        self.cut = 0
        self.disconnects = 0
        self.reconnects = 0
        self.recovered = 0
        self.not_recovered = 0
        self.published = 0
        self.acknowledged = 0
        self.refused = 0
        self.unknown = 0
        self.unanswered = 0
        self.misrouted = 0
        self.moved = 0
        self.stopped = 0
        self.delivered = 0
        self.slots = 0
        self.late_slots = 0
        # What went wrong, and what makes a client give up.
        self.errors = Texts()
        self.failures = Texts()
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
        errors = self.errors.total + self.failures.total
        published, delivered, erred = self._last
        self._last = (self.published, self.delivered, errors)
        then, used = self._cpu
        self._cpu = (time.monotonic(), time.process_time())
        seconds = max(self._cpu[0] - then, 1e-3)
        return Tick(
            seconds=seconds,
            ready=self.ready,
            given_up=self.given_up,
            standing=self.standing,
            connections=self.connections,
            published=self.published - published,
            delivered=self.delivered - delivered,
            errors=errors - erred,
            durations=self.delivery.take_recent(),
            cpu=(self._cpu[1] - used) / seconds,
            lag=self.lag.take_recent(),
        )

    def sums(self) -> Sums:
        self.flush()
        names = (
            "standing", "connects_failed", "cut", "disconnects", "reconnects", "recovered", "not_recovered",
            "published", "acknowledged", "refused", "unknown", "unanswered", "delivered",
            "misrouted", "moved", "stopped",
        )  # fmt: skip
        return Sums(
            counts={name: getattr(self, name) for name in names},
            errors=self.errors.counts,
            failures=self.failures.counts,
            durations={name: getattr(self, name).histogram.encode() for name in KINDS},
            lag=self.lag.histogram.encode(),
            slots=self.slots,
            late_slots=self.late_slots,
        )
