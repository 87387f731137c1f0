"""Puts together what the workers and the servers showed."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from loadtest import figures, verdict
from loadtest.ledger import merge
from loadtest.plan import Plan
from loadtest.preflight import Prepared
from loadtest.publishing import LATE_AFTER
from loadtest.result import (
    CONNECTING,
    LEAST_MEMORY,
    SETTLING,
    Costs,
    Generator,
    Latencies,
    Moment,
    Outcome,
    Pair,
    Result,
    Spread,
    Stage,
    Totals,
)
from loadtest.tally import KINDS, Sums, Tick
from loadtest.texts import Texts
from loadtest.urls import public
from loadtest.watch import BEGIN, CONNECTED, END, Record, processor_seconds
from loadtest.worker import Reckoned

# Above these the generator, not the server, may be what was measured: the share of a core that its busiest worker
# used on average while publishing, the share of publications that were late, and how late its loops were (ms, p99).
CPU_LIMIT = 0.9
LATE_LIMIT = 0.01
LAG_LIMIT = 50.0
# Ticks of one worker that are waited with for those of the others, before a moment is put together without them.
OVERDUE = 3


class Findings:
    """Of one run, as it goes on."""

    def __init__(self, prepared: Prepared, records: Sequence[Record]) -> None:
        self.plan: Plan = prepared.plan
        self.remarks = list(prepared.remarks)
        self._workers = prepared.workers
        self._records = records
        self._began = time.monotonic()
        self._ticks: dict[int, Tick] = {}
        # Since the last moment, by worker.
        self._new: dict[int, list[Tick]] = {}
        self._busiest: list[float] = []
        self._timeline: list[Moment] = []
        self._stages: list[Stage] = []
        self._is_spoilt = False
        self.stage = ""
        # The stage in which the next moment began.
        self.stage_before = CONNECTING
        self.delivered = 0
        self.ready = 0
        self.given_up = 0
        self.standing = 0
        self.errors = 0

    def enter(self, stage: str) -> None:
        """A stage begins, and the one before ends."""
        now = time.monotonic() - self._began
        if self._stages:
            self._stages[-1] = Stage(self._stages[-1].name, self._stages[-1].begin, now)
        self._stages.append(Stage(stage, now, now))
        self.stage = stage

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
        return self._moment() if len(self._new) == self._workers or len(new) >= OVERDUE else None

    def _moment(self) -> Moment:
        new, self._new = self._new, {}
        durations: Counter[int] = Counter()
        for ticks in new.values():
            for each in ticks:
                durations.update(each.durations)
        busiest = max(each.cpu for ticks in new.values() for each in ticks)
        if self.stage not in (CONNECTING, SETTLING):
            self._busiest.append(busiest)
        moment = Moment(
            at=round(time.monotonic() - self._began, 3),
            connections=sum(each.connections for each in self._ticks.values()),
            published=_rate(new, "published"),
            delivered=_rate(new, "delivered"),
            errors=sum(each.errors for ticks in new.values() for each in ticks),
            p50=figures.quantile(durations, 0.5),
            p99=figures.quantile(durations, 0.99),
            max=figures.quantile(durations, 1.0),
            generator_cpu=busiest,
            server_cpu=[each.cores for each in self._records],
        )
        self._timeline.append(moment)
        self.stage_before = self.stage
        return moment

    def spoil(self, remark: str) -> None:
        """What was to be measured did not happen."""
        self.remarks.append(remark)
        self._is_spoilt = True

    def result(self, started: str, outcome: Outcome, reckoned: Sequence[Reckoned]) -> Result:
        now = time.monotonic() - self._began
        if self._stages:
            self._stages[-1] = Stage(self._stages[-1].name, self._stages[-1].begin, now)
        sums = [each.sums for each in reckoned]
        pairs = self._pairs(reckoned)
        totals = self._totals(sums, pairs)
        generator = self._generator(sums)
        costs = self._costs(totals)
        errors = Texts()
        for each in sums:
            errors.update(each.failures, "gave up: ")
        for each in sums:
            errors.update(each.errors)
        return Result(
            scenario=self.plan.scenario,
            options=self.plan.options,
            targets=[public(target) for target in self.plan.targets],
            started=started,
            seconds=now,
            outcome=outcome if outcome != "passed" else self._judge(totals, generator),
            remarks=[*self.remarks, *verdict.remarks(totals, generator), *self._doubts(costs)],
            totals=totals,
            latencies=Latencies(**{name: self._spread(sums, name) for name in KINDS}),
            pairs=pairs,
            stages=self._stages,
            timeline=self._timeline,
            servers=[each.server() for each in self._records],
            costs=costs,
            generator=generator,
            errors=dict(sorted(errors.counts.items(), key=lambda item: -item[1])),
        )

    def _judge(self, totals: Totals, generator: Generator) -> Outcome:
        outcome = verdict.judge(self.plan, totals, generator)
        return "broken" if self._is_spoilt and outcome in ("passed", "invalid") else outcome

    def _doubts(self, costs: Costs) -> list[str]:
        """What the figures of the servers do not hold."""
        # A process may have been ended by the run; others were named.
        troubled = [each for each in self._records if each.trouble and each.kind != "process"]
        doubts = [f"{each.name} could not be read: {each.trouble}" for each in troubled]
        if 0 < costs.memory_per_connection < LEAST_MEMORY:
            doubts.append(
                "the memory per connection is no measure: there are too few, or the servers have held some before, "
                "whose memory they reuse"
            )
        return doubts

    def _pairs(self, reckoned: Sequence[Reckoned]) -> list[Pair]:
        accounts = merge(each.accounts for each in reckoned)
        targets = [public(target) for target in self.plan.targets]
        return [accounts[key].pair(targets[key[0]], targets[key[1]]) for key in sorted(accounts)]

    def _totals(self, sums: Sequence[Sums], pairs: Sequence[Pair]) -> Totals:
        counts: Counter[str] = Counter()
        for each in sums:
            counts.update(each.counts)
        seconds = sum(each.end - each.begin for each in self._stages if each.name not in (CONNECTING, SETTLING))
        delivered = counts.pop("delivered", 0)
        of_pairs = ("expected", "received", "lost", "duplicated", "misordered", "gaps", "missed_and_told")
        return Totals(
            connections=self.ready,
            publishers=self.plan.publishers,
            delivery_rate=delivered / seconds if seconds else 0.0,
            publish_rate=counts["published"] / seconds if seconds else 0.0,
            **{name: sum(getattr(pair, name) for pair in pairs) for name in of_pairs},
            **counts,
        )

    def _spread(self, sums: Sequence[Sums], name: str) -> Spread:
        return figures.spread(figures.merged([each.durations[name] for each in sums]))

    def _generator(self, sums: Sequence[Sums]) -> Generator:
        lag = figures.spread(figures.merged([each.lag for each in sums]))
        slots = sum(each.slots for each in sums)
        late = sum(each.late_slots for each in sums)
        cpu = sum(self._busiest) / len(self._busiest) if self._busiest else 0.0
        invalid = []
        if cpu > CPU_LIMIT:
            invalid.append(f"the busiest worker used {cpu:.0%} of a core: give it more workers, or less to do")
        if slots and late / slots > LATE_LIMIT:
            invalid.append(
                f"{late:,} of {slots:,} publications were sent more than {LATE_AFTER:g} ms after they were due"
            )
        if lag.p99 > LAG_LIMIT:
            invalid.append(f"the generator's event loops were {lag.p99:.0f} ms late (p99): the machine is too busy")
        return Generator(
            workers=self._workers,
            cpu=cpu,
            cpu_max=max(self._busiest, default=0.0),
            lag=lag,
            slots=slots,
            late_slots=late,
            late_after=LATE_AFTER,
            invalid=invalid,
        )

    def _costs(self, totals: Totals) -> Costs:
        records = self._records
        publishing = processor_seconds(records, CONNECTED, END, of_redis=False)
        connecting = processor_seconds(records, BEGIN, CONNECTED, of_redis=False)
        grown = sum(each.rss(CONNECTED) - each.rss(BEGIN) for each in records if each.kind != "redis")
        of_redis = processor_seconds(records, CONNECTED, END, of_redis=True)
        return Costs(
            per_delivery=_share(publishing * 1e6, totals.received),
            per_publish=_share(publishing * 1e6, totals.acknowledged),
            per_connect=_share(connecting * 1e6, totals.connections),
            memory_per_connection=max(_share(grown, totals.connections), 0.0),
            redis_per_publish=_share(of_redis * 1e6, totals.acknowledged),
        )


def _rate(new: Mapping[int, Sequence[Tick]], name: str) -> int:
    """Per second, over the time that each worker's ticks span."""
    rates = (sum(getattr(each, name) for each in ticks) / sum(each.seconds for each in ticks) for ticks in new.values())
    return round(float(sum(rates)))


def _share(sum_: float, count: int) -> float:
    return sum_ / count if count else 0.0
