"""Two results, before and after a change."""

from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.result import Result
from loadtest.summary import latencies

# Differences below these are noise on any machine: milliseconds, and CPU microseconds.
NOISE_MS = 0.5
NOISE_US = 0.5
# Options that do not change what is measured.
_FREE = {"targets", "token_secret", "redis", "pids", "metrics", "seed", "max_loss", "sources", "workers"}

# Outcomes whose figures say nothing: a comparison with them must not pass.
_NO_MEASURE = {"invalid", "unreachable", "interrupted"}


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
    # What makes it less than it seems: other options, an invalid run, a figure that is missing now.
    warnings: list[str]
    # Whether both runs measured anything.
    comparable: bool = True

    @property
    def status(self) -> int:
        """Exit status: 1 when something became worse by more than allowed, or cannot be told."""
        return int(not self.comparable or any(line.regressed for line in self.lines))


def compare(before: Result, after: Result, max_regression: float) -> Comparison:
    """`max_regression`: how much worse a figure may become, as a share."""
    lines, missing = [], []
    for (name, was), (_, became) in zip(latencies(before), latencies(after), strict=True):
        if was.count and became.count:
            lines.append(_line(f"{name}, p50, ms", was.p50, became.p50, max_regression, NOISE_MS))
            lines.append(_line(f"{name}, p99, ms", was.p99, became.p99, max_regression, NOISE_MS))
        elif was.count:
            missing.append(name)
    for name, label in (
        ("per_delivery", "CPU per delivery, us"),
        ("per_publish", "CPU per publish, us"),
        ("per_connect", "CPU per connect, us"),
        ("memory_per_connection", "memory per connection, bytes"),
        ("redis_per_publish", "CPU of Redis per publish, us"),
    ):
        was_cost, became_cost = getattr(before.costs, name), getattr(after.costs, name)
        if was_cost and became_cost:
            lines.append(_line(label, was_cost, became_cost, max_regression, NOISE_US))
        elif was_cost:
            missing.append(label)
    rates = (before.totals.delivery_rate, after.totals.delivery_rate)
    if rates[0]:
        worse = 1 - rates[1] / rates[0]
        lines.append(Line("deliveries per second", *rates, worse, worse > max_regression))
    for name in ("lost", "duplicated", "misordered"):
        was_count, became_count = getattr(before.totals, name), getattr(after.totals, name)
        lines.append(Line(name, was_count, became_count, float(became_count - was_count), became_count > was_count))
    warnings = _warnings(before, after) + [f"the second run did not measure: {name}" for name in missing]
    return Comparison(lines, warnings, not {before.outcome, after.outcome} & _NO_MEASURE)


def _line(name: str, before: float, after: float, allowed: float, noise: float) -> Line:
    worse = after / before - 1 if before else 0.0
    return Line(name, before, after, worse, worse > allowed and after - before > noise)


def _warnings(before: Result, after: Result) -> list[str]:
    warnings = []
    for name, each in (("first", before), ("second", after)):
        if each.outcome in _NO_MEASURE:
            warnings.append(f"the {name} run was {each.outcome}: its figures are no measure")
    if before.scenario != after.scenario:
        warnings.append(f"the scenarios differ: {before.scenario}, {after.scenario}")
    for option in sorted(before.options.keys() | after.options.keys()):
        was, became = before.options.get(option), after.options.get(option)
        if option not in _FREE and was != became:
            warnings.append(f"{option} differs: {was}, {became}")
    return warnings


def show(comparison: Comparison, console: Console) -> None:
    """Print it."""
    for warning in comparison.warnings:
        console.print(Text(f"Careful: {warning}", style="yellow"))
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
    if not comparison.comparable:
        console.print(Text("These runs cannot be compared.", style="bold red"))
    elif not regressed:
        console.print(Text("Nothing became worse by more than allowed.", style="bold green"))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.4g}"
