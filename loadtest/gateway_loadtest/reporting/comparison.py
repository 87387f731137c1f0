"""Two results, before and after a change."""

from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway_loadtest.reporting.summary import latencies
from gateway_loadtest.results.result import LEAST_MEMORY, Result, Spread
from gateway_loadtest.text import plain

# Differences below these are noise: so far four runs of one version lay apart on a virtual machine of two cores, on
# which a little else went on. Milliseconds of p50, p99 and p99.9; CPU microseconds; and shares, where one is chance.
NOISE_P50, NOISE_P99, NOISE_P999 = 0.5, 2.0, 5.0
NOISE_US = 0.5
NOISE_SHARE = 0.001
# Durations of which one in a thousand is more than a single one.
MANY = 10_000
# Options that do not change what is measured.
_FREE = {"scenario", "targets", "token_secret", "redis", "pids", "metrics", "seed", "max_loss", "sources", "workers"}

_COSTS = {
    "per_delivery": "CPU per delivery, us",
    "per_publish": "CPU per publish, us",
    "per_connect": "CPU per connect, us",
    "memory_per_connection": "memory per connection, bytes",
    "redis_per_publish": "CPU of Redis per publish, us",
}


class Line(NamedTuple):
    """One figure before and after."""

    name: str
    before: float
    after: float
    # By how much it became worse, as a share; negative when it became better.
    worse: float
    regressed: bool


class Comparison(NamedTuple):
    """What a comparison found."""

    lines: list[Line]
    # Why it is none: other options, a run that is no measure, a figure that is missing now.
    obstacles: list[str]

    @property
    def status(self) -> int:
        """Exit status: 1 when something became worse by more than allowed, or cannot be told."""
        return int(bool(self.obstacles) or any(line.regressed for line in self.lines))


def compare(before: Result, after: Result, max_regression: float) -> Comparison:
    """`max_regression`: how much worse a figure may become, as a share."""
    runs = (("the first", before), ("the second", after))
    if empty := [name for name, each in runs if not each.totals.connections]:
        return Comparison([], [f"in {' and '.join(empty)} run nobody was connected"])
    lines, missing = [], []
    for (name, was), (_, became) in zip(latencies(before), latencies(after), strict=True):
        if was.count and became.count:
            lines += _latency(name, was, became, max_regression)
        elif was.count:
            missing.append(name)
    for name, label in _COSTS.items():
        was_cost, became_cost = getattr(before.costs, name), getattr(after.costs, name)
        if name == "memory_per_connection" and any(0 < each < LEAST_MEMORY for each in (was_cost, became_cost)):
            continue
        if was_cost and became_cost:
            lines.append(_line(label, was_cost, became_cost, max_regression, NOISE_US))
        elif was_cost:
            missing.append(label)
    lines += _deliveries(before, after, max_regression)
    return Comparison(
        lines, _obstacles(before, after) + [f"the second run did not measure: {name}" for name in missing]
    )


def _latency(name: str, before: Spread, after: Spread, allowed: float) -> list[Line]:
    lines = [
        _line(f"{name}, p50, ms", before.p50, after.p50, allowed, NOISE_P50),
        _line(f"{name}, p99, ms", before.p99, after.p99, allowed, NOISE_P99),
    ]
    if min(before.count, after.count) >= MANY:
        lines.append(_line(f"{name}, p99.9, ms", before.p999, after.p999, allowed, NOISE_P999))
    return lines


def _deliveries(before: Result, after: Result, allowed: float) -> list[Line]:
    lines = []
    rates = (before.totals.delivery_rate, after.totals.delivery_rate)
    if rates[0]:
        worse = 1 - rates[1] / rates[0]
        lines.append(Line("deliveries per second", *rates, worse, worse > allowed))
    for name in ("lost", "duplicated", "misordered", "misrouted", "unanswered"):
        was, became = getattr(before.totals, name), getattr(after.totals, name)
        lines.append(Line(name, was, became, float(became - was), became > was))
    for label, share in (("missed and told, share", _missed), ("not accepted, share", _refused), ("cut off", _cut_off)):
        lines.append(_line(label, share(before), share(after), allowed, NOISE_SHARE))
    return lines


def _missed(result: Result) -> float:
    """Of the deliveries."""
    return result.totals.missed_and_told / max(result.totals.expected, 1)


def _refused(result: Result) -> float:
    """Of the publications."""
    return (result.totals.refused + result.totals.unknown) / max(result.generator.slots, 1)


def _cut_off(result: Result) -> float:
    """Connections lost that the tool did not cut, by connection."""
    return max(result.totals.disconnects - result.totals.cut, 0) / max(result.totals.connections, 1)


def _line(name: str, before: float, after: float, allowed: float, noise: float) -> Line:
    worse = after / before - 1 if before else float(after > 0)
    return Line(name, before, after, worse, after > before * (1 + allowed) and after - before > noise)


def _obstacles(before: Result, after: Result) -> list[str]:
    found = []
    for name, each in (("first", before), ("second", after)):
        if each.outcome != "passed":
            found.append(f"the {name} run did not pass ({each.outcome}): its figures are no measure")
        found += [f"the {name} run: {doubt}" for doubt in each.generator.doubts]
    if before.scenario != after.scenario:
        found.append(f"the scenarios differ: {before.scenario}, {after.scenario}")
    for option in sorted(before.options.keys() | after.options.keys()):
        was, became = before.options.get(option), after.options.get(option)
        if option == "stages" and was != became:
            found.append("the stages differ")
        elif option not in _FREE and was != became:
            found.append(f"{option} differs: {was}, {became}")
    return found


def show(comparison: Comparison, console: Console) -> None:
    """Print it."""
    for obstacle in comparison.obstacles:
        console.print(Text(f"No comparison: {plain(obstacle)}", style="yellow"))
    if not comparison.lines:
        return
    table = Table()
    table.add_column("")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right")
    for line in comparison.lines:
        change = f"{(line.after / line.before - 1):+.1%}" if line.before else "" if not line.after else "new"
        table.add_row(
            line.name, _number(line.before), _number(line.after), change, style="red" if line.regressed else ""
        )
    console.print(table)
    regressed = [line.name for line in comparison.lines if line.regressed]
    if regressed:
        console.print(Text(f"Worse than allowed: {'; '.join(regressed)}", style="bold red"))
    if comparison.obstacles:
        console.print(Text("These runs cannot be compared.", style="bold red"))
    elif not regressed:
        console.print(Text("Nothing became worse by more than allowed.", style="bold green"))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.4g}"
