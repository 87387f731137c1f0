"""The stages and seconds of a run, as its workers tell of them."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from gateway_loadtest.counting.counters import Tick
from gateway_loadtest.counting.durations import quantile
from gateway_loadtest.probes import Record
from gateway_loadtest.results.result import CONNECTING, SETTLING, Moment, Stage

# Ticks of one worker that are waited with for those of the others, before a moment is put together without them.
OVERDUE = 3


class Timeline:
    """Of one run, as it goes on."""

    def __init__(self, workers: int, records: Sequence[Record]) -> None:
        self.workers = workers
        self.records = records
        self._began = time.monotonic()
        self._ticks: dict[int, Tick] = {}
        # Since the last moment, by worker.
        self._new: dict[int, list[Tick]] = {}
        self.moments: list[Moment] = []
        self.stages: list[Stage] = []
        # Share of a core of the busiest worker, for each moment of the plan's stages.
        self.busiest: list[float] = []
        self.stage = ""
        # The stage in which the next moment began.
        self.stage_before = CONNECTING
        self.delivered = 0
        self.ready = 0
        self.given_up = 0
        self.standing = 0
        self.errors = 0

    @property
    def seconds(self) -> float:
        """Since its begin."""
        return time.monotonic() - self._began

    def enter(self, stage: str) -> None:
        """A stage begins, and the one before ends."""
        self.end()
        now = self.seconds
        self.stages.append(Stage(stage, now, now))
        self.stage = stage

    def end(self) -> None:
        """The last stage has ended, as far as there was one."""
        if self.stages:
            self.stages[-1] = Stage(self.stages[-1].name, self.stages[-1].begin, self.seconds)

    def tick(self, worker: int, tick: Tick) -> Moment | None:
        """What a worker tells; with the last of all, the moment that has passed."""
        self._ticks[worker] = tick
        new = self._new.setdefault(worker, [])
        new.append(tick)
        self.delivered += tick.delivered
        self.errors += tick.errors
        self.ready = sum(each.ready for each in self._ticks.values())
        self.given_up = sum(each.given_up for each in self._ticks.values())
        self.standing = sum(each.standing for each in self._ticks.values())
        return self._moment() if len(self._new) == self.workers or len(new) >= OVERDUE else None

    def _moment(self) -> Moment:
        new, self._new = self._new, {}
        durations: Counter[int] = Counter()
        for ticks in new.values():
            for each in ticks:
                durations.update(each.durations)
        busiest = max(each.cpu for ticks in new.values() for each in ticks)
        if self.stage not in (CONNECTING, SETTLING):
            self.busiest.append(busiest)
        moment = Moment(
            at=round(self.seconds, 3),
            connections=sum(each.connections for each in self._ticks.values()),
            published=_rate(new, "published"),
            delivered=_rate(new, "delivered"),
            errors=sum(each.errors for ticks in new.values() for each in ticks),
            p50=quantile(durations, 0.5),
            p99=quantile(durations, 0.99),
            max=quantile(durations, 1.0),
            generator_cpu=busiest,
            server_cpu=[each.cores for each in self.records],
        )
        self.moments.append(moment)
        self.stage_before = self.stage
        return moment


def _rate(new: Mapping[int, Sequence[Tick]], name: str) -> int:
    """Per second, over the time that each worker's ticks span."""
    rates = (sum(getattr(each, name) for each in ticks) / sum(each.seconds for each in ticks) for ticks in new.values())
    return round(float(sum(rates)))
