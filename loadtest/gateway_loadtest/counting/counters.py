"""Counters of one worker: what it tells of them every second, and at the end."""

import time
from collections.abc import Mapping

import msgspec

from gateway_loadtest.counting.accounts import Account
from gateway_loadtest.counting.durations import Durations
from gateway_loadtest.text import plain

KINDS = ("connect", "subscribe", "acknowledgement", "delivery", "recovery")
# Milliseconds after which a publication counts as late: the generator did not keep up.
LATE_AFTER = 10.0
# Different texts that are kept: a server may put a number of its own into every one.
MOST = 100
OTHERS = "others"
# Versions of servers that are kept: more than a cluster has at once.
MOST_VERSIONS = 10


class Occurrences:
    """How often each text was seen; those that are too many are counted together."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.total = 0

    def add(self, text: str, times: int = 1) -> None:
        text = plain(text)
        if text not in self.counts and len(self.counts) >= MOST:
            text = OTHERS
        self.counts[text] = self.counts.get(text, 0) + times
        self.total += times

    def update(self, counts: Mapping[str, int], prefix: str = "") -> None:
        for text, times in counts.items():
            self.add(prefix + text, times)


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
    # Deliveries by duration, in steps of durations.STEP.
    durations: dict[int, int]
    # Share of a core.
    cpu: float
    # Counts by lateness of the event loop, in the same steps.
    lag: dict[int, int]


class Counts(msgspec.Struct):
    """What one worker has counted over the run."""

    # By their names in result.Totals.
    totals: dict[str, int]
    errors: dict[str, int]
    failures: dict[str, int]
    # Of the servers.
    versions: list[str]
    # Encoded histograms.
    durations: dict[str, bytes]
    lag: bytes
    slots: int
    late_slots: int
    # By (publisher's target, subscriber's target).
    accounts: dict[tuple[int, int], Account]


class Counters:
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
        self.errors = Occurrences()
        self.failures = Occurrences()
        self._versions: set[str] = set()
        self.connect = Durations()
        self.subscribe = Durations()
        self.acknowledgement = Durations()
        self.delivery = Durations()
        self.recovery = Durations()
        self.lag = Durations()
        self._last = (0, 0, 0)
        self._cpu = (time.monotonic(), time.process_time())

    def met(self, version: str) -> None:
        """A server told its version, or nothing."""
        if version and len(self._versions) < MOST_VERSIONS:
            self._versions.add(plain(version))

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

    def counts(self, accounts: dict[tuple[int, int], Account]) -> Counts:
        """At the end."""
        self.flush()
        names = (
            "standing", "connects_failed", "cut", "disconnects", "reconnects", "recovered", "not_recovered",
            "published", "acknowledged", "refused", "unknown", "unanswered", "delivered",
            "misrouted", "moved", "stopped",
        )  # fmt: skip
        return Counts(
            totals={name: getattr(self, name) for name in names},
            errors=self.errors.counts,
            failures=self.failures.counts,
            versions=sorted(self._versions),
            durations={name: getattr(self, name).histogram.encode() for name in KINDS},
            lag=self.lag.histogram.encode(),
            slots=self.slots,
            late_slots=self.late_slots,
            accounts=accounts,
        )
