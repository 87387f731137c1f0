"""Puts a result together, of what the workers counted and the servers showed."""

from collections import Counter
from collections.abc import Sequence

from hdrh.histogram import HdrHistogram
from msgspec import structs

from gateway_loadtest.counting.accounts import Account, merge
from gateway_loadtest.counting.counters import KINDS, LATE_AFTER, Counts, Occurrences
from gateway_loadtest.counting.durations import merged
from gateway_loadtest.planning.plan import Plan
from gateway_loadtest.planning.target_urls import public
from gateway_loadtest.probes import BEGIN, CONNECTED, END, Record, processor_seconds
from gateway_loadtest.results.environment import environment_of_this_machine
from gateway_loadtest.results.hints import causes_of, hints_for
from gateway_loadtest.results.outcome import judge, remarks_on, weigh
from gateway_loadtest.results.result import (
    CONNECTING,
    LEAST_MEMORY,
    SETTLING,
    Costs,
    Generator,
    Latencies,
    Outcome,
    Pair,
    Result,
    Server,
    Spread,
    Stage,
    Totals,
)
from gateway_loadtest.results.timeline import Timeline

# Bars of a plot: from one to the next by this factor.
BAR_FACTOR = 1.25


def assemble(
    plan: Plan,
    timeline: Timeline,
    counts: Sequence[Counts],
    *,
    started: str,
    outcome: Outcome | None,
    remarks: Sequence[str],
    spoilt: bool = False,
) -> Result:
    """At the end of a run. `counts`: those of each worker that could still tell. `outcome`: None where the figures
    decide. `spoilt`: something that was to be measured did not happen."""
    timeline.end()
    pairs = _pairs(plan, counts)
    totals = _totals(plan, timeline, counts, pairs)
    generator = _generator(timeline, counts)
    costs = _costs(timeline.records, totals)
    errors = _errors(counts)
    if outcome is None:
        outcome = judge(plan, totals, generator)
        outcome = "broken" if spoilt and outcome in ("passed", "invalid") else outcome
    return Result(
        scenario=plan.scenario,
        options=plan.options,
        targets=[public(target) for target in plan.targets],
        started=started,
        seconds=timeline.seconds,
        outcome=outcome,
        remarks=[
            # The cause before what it led to.
            *(causes_of(errors) if outcome == "unreachable" else []),
            *remarks,
            *remarks_on(totals, generator),
            *hints_for(plan, errors),
            *_doubts(timeline.records, costs),
        ],
        totals=totals,
        latencies=Latencies(**{name: spread_of(merged([each.durations[name] for each in counts])) for name in KINDS}),
        pairs=pairs,
        stages=timeline.stages,
        timeline=timeline.moments,
        servers=[_server(each) for each in timeline.records],
        costs=costs,
        generator=generator,
        environment=environment_of_this_machine(
            (version for each in counts for version in each.versions), (each.version for each in timeline.records)
        ),
        errors=errors,
    )


def _errors(counts: Sequence[Counts]) -> dict[str, int]:
    errors = Occurrences()
    for each in counts:
        errors.update(each.failures, "gave up: ")
    for each in counts:
        errors.update(each.errors)
    return dict(sorted(errors.counts.items(), key=lambda item: -item[1]))


def _doubts(records: Sequence[Record], costs: Costs) -> list[str]:
    """What the figures of the servers do not hold."""
    # A process may have been ended by the run; others were named.
    troubled = [each for each in records if each.trouble and each.kind != "process"]
    doubts = [f"{each.name} could not be read: {each.trouble}" for each in troubled]
    if 0 < costs.memory_per_connection < LEAST_MEMORY:
        doubts.append(
            "the memory per connection is no measure: there are too few, or the servers have held some before, "
            "whose memory they reuse"
        )
    return doubts


def _pairs(plan: Plan, counts: Sequence[Counts]) -> list[Pair]:
    accounts = merge(each.accounts for each in counts)
    targets = [public(target) for target in plan.targets]
    return [pair_of(accounts[key], targets[key[0]], targets[key[1]]) for key in sorted(accounts)]


def pair_of(account: Account, publisher: str, subscriber: str) -> Pair:
    """The account of all subscriptions at a target to channels that are published into at another, or the same."""
    return Pair(
        publisher=publisher,
        subscriber=subscriber,
        expected=account.expected,
        received=account.expected - account.lost - account.told,
        lost=account.lost,
        duplicated=account.duplicated,
        misordered=account.misordered,
        gaps=account.gaps,
        missed_and_told=account.told,
    )


def _totals(plan: Plan, timeline: Timeline, counts: Sequence[Counts], pairs: Sequence[Pair]) -> Totals:
    sums: Counter[str] = Counter()
    for each in counts:
        sums.update(each.totals)
    seconds = sum(map(_length, timeline.stages))
    delivered = sums.pop("delivered", 0)
    of_pairs = ("expected", "received", "lost", "duplicated", "misordered", "gaps", "missed_and_told")
    return Totals(
        connections=timeline.ready,
        publishers=plan.publishers,
        delivery_rate=_share(delivered, seconds),
        publish_rate=_share(sums["published"], seconds),
        **{name: sum(getattr(pair, name) for pair in pairs) for name in of_pairs},
        **sums,
    )


def _length(stage: Stage) -> float:
    """Seconds, of stages of the plan."""
    return stage.end - stage.begin if stage.name not in (CONNECTING, SETTLING) else 0.0


def _generator(timeline: Timeline, counts: Sequence[Counts]) -> Generator:
    lag = spread_of(merged([each.lag for each in counts]))
    slots = sum(each.slots for each in counts)
    late = sum(each.late_slots for each in counts)
    generator = Generator(
        workers=timeline.workers,
        cpu=_share(sum(timeline.busiest), len(timeline.busiest)),
        cpu_max=max(timeline.busiest, default=0.0),
        lag=lag,
        slots=slots,
        late_slots=late,
        late_after=LATE_AFTER,
    )
    # What is late while nobody is connected is not measured.
    invalid, doubts = weigh(generator) if timeline.ready else ([], [])
    return structs.replace(generator, invalid=invalid, doubts=doubts)


def _costs(records: Sequence[Record], totals: Totals) -> Costs:
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


def _server(record: Record) -> Server:
    return Server(
        name=record.name,
        kind=record.kind,
        cpu_seconds=record.latest.cpu if record.latest is not None else 0.0,
        rss_begin=record.rss(BEGIN),
        rss_connected=record.rss(CONNECTED),
        rss_end=record.rss(END),
        output_buffers=record.output_buffers,
    )


def spread_of(histogram: HdrHistogram) -> Spread:
    """Of microseconds."""
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
        p95=at(95),
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


def _share(part: float, number: float) -> float:
    return part / number if number else 0.0
