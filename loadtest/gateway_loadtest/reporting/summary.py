"""The result for the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway_loadtest.reporting.server_load import at_load, caution
from gateway_loadtest.results.result import Outcome, Result, Spread
from gateway_loadtest.text import counted, plain

HEADLINES: dict[Outcome, tuple[str, str]] = {
    "passed": ("green", "Passed: everything that was accepted arrived, once and in order."),
    "lost": ("red", "Failed: messages were lost, duplicated, out of order or for somebody else."),
    "refused": ("red", "Failed: the server did not accept everything that was published."),
    "disconnected": ("red", "Failed: clients lost their connection or a subscription, and did not come back."),
    "invalid": ("yellow", "Invalid: the generator was the bottleneck, so the figures say little of the server."),
    "unreachable": ("red", "Failed: not everybody could connect and subscribe."),
    "broken": ("red", "Failed: the run did not go as it was to go."),
    "interrupted": ("yellow", "Interrupted: the figures are those until then."),
}
# Errors that are shown; the result has all.
ERRORS = 12


def headline(result: Result) -> str:
    """The outcome in a sentence."""
    totals = result.totals
    if result.outcome == "passed":
        if not totals.expected:
            stayed = "came back" if totals.disconnects else "stayed"
            return f"Passed: everybody connected and {stayed}. Nothing was published."
        if totals.lost + totals.duplicated + totals.misordered + totals.misrouted:
            return "Passed: no more went wrong than --max-loss allows."
        if totals.missed_and_told:
            return "Passed: nothing was lost silently, but not everything arrived."
    if result.outcome == "unreachable" and not totals.connections:
        return "Failed: nobody could connect and subscribe."
    if result.outcome == "invalid" and result.generator.is_idle:
        return "Invalid: the machine of the generator was too busy, so the figures say little of the server."
    return HEADLINES[result.outcome][1]


def digits(value: float) -> str:
    """Three of them are what was measured."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def microseconds(value: float) -> str:
    return f"{digits(value)} us"


def size(value: float) -> str:
    """Bytes, in the unit that reads best."""
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GiB"


def size_if_known(value: float) -> str:
    """Of what is never empty where it could be read."""
    return size(value) if value else "-"


def address(url: str) -> str:
    """As it is shown where two of them stand in each row: without the scheme."""
    return url.partition("://")[2]


def remarks(result: Result) -> list[str]:
    """All that should be known beside the figures; one sentence each."""
    return [*result.remarks, *result.generator.invalid, *result.generator.doubts, *filter(None, [caution(result)])]


def show(result: Result, console: Console) -> None:
    """Print it."""
    color = HEADLINES[result.outcome][0]
    console.print(Text(headline(result), style=f"bold {color}"))
    for remark in remarks(result):
        console.print(Text(f"  - {plain(remark)}"))
    if result.totals.connections:
        console.print(_totals(result))
    if any(spread.count for _, spread in latencies(result)):
        console.print(_latencies(result))
    if result.totals.expected:
        console.print(_pairs(result))
    if result.servers:
        console.print(_servers(result))
    elif result.totals.connections:
        console.print(Text("No server was found to look at: --pid, --metrics and --redis name them.", style="dim"))
    if result.errors:
        console.print(_errors(result))


def latencies(result: Result) -> list[tuple[str, Spread]]:
    """By name, in the order in which they happen."""
    found = result.latencies
    return [
        ("connect", found.connect),
        ("subscribe", found.subscribe),
        ("publish acknowledged", found.acknowledgement),
        ("delivered", found.delivery),
        ("recovered after a loss", found.recovery),
    ]


def overview(result: Result) -> list[tuple[str, str]]:
    """What matters most, as name and value."""
    totals, costs, generator = result.totals, result.costs, result.generator
    load = at_load(result)

    def cost(value: float) -> str:
        return f"{microseconds(value)}, {load}" if value and load else microseconds(value)

    to_publish = f", {totals.publishers:,} of them to publish" if totals.publishers else ""
    rows = [
        ("connections", f"{totals.connections:,}{to_publish}"),
        ("published", f"{totals.published:,} ({totals.publish_rate:,.0f}/s), {totals.acknowledged:,} accepted"),
        ("refused or not sent, unknown, unanswered", f"{totals.refused:,}, {totals.unknown:,}, {totals.unanswered:,}"),
        ("delivered", f"{totals.received:,} of {totals.expected:,} ({totals.delivery_rate:,.0f}/s)"),
        ("lost, duplicated, out of order", f"{totals.lost:,}, {totals.duplicated:,}, {totals.misordered:,}"),
        ("delivered to somebody else", f"{totals.misrouted:,}"),
        ("missed and told so", f"{totals.missed_and_told:,}"),
        ("connections lost, back, recovered, not",
         f"{totals.disconnects:,}, {totals.reconnects:,}, {totals.recovered:,}, {totals.not_recovered:,}"),
        ("CPU of the servers per delivery", cost(costs.per_delivery)),
        ("per publish with its deliveries", cost(costs.per_publish)),
        ("per connect", microseconds(costs.per_connect)),
        ("memory per connection", size(costs.memory_per_connection)),
        ("CPU of Redis per publish", microseconds(costs.redis_per_publish)),
        ("generator", f"{counted(generator.workers, 'worker')}, the busiest {generator.cpu:.0%} of a core, "
                      f"{generator.late_slots:,} of {generator.slots:,} publications late"),
    ]  # fmt: skip
    hidden = set()
    if not totals.refused + totals.unknown + totals.unanswered:
        hidden.add("refused or not sent, unknown, unanswered")
    if not generator.slots:
        hidden |= {"published", "delivered", "lost, duplicated, out of order"}
    return [
        (name, value) for name, value in rows if name not in hidden and value not in ("0", "0 us", "0 B", "0, 0, 0, 0")
    ]


def environment(result: Result) -> list[tuple[str, str]]:
    """Where the run took place, as name and value; without what is unknown."""
    found = result.environment
    rows = [
        ("generator's machine", found.machine),
        ("cores", f"{found.cores:,}" if found.cores else ""),
        ("memory", size(found.memory) if found.memory else ""),
        ("kernel", found.kernel),
        ("Python", found.python),
        ("gateway-loadtest", result.version),
        ("version of the servers", ", ".join(found.servers)),
        ("version of Redis", ", ".join(found.redis)),
    ]
    return [(name, value) for name, value in rows if value]


def _totals(result: Result) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in overview(result):
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _latencies(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="milliseconds", title_justify="left", title_style="dim")
    table.add_column("")
    for name in ("count", "p50", "p90", "p95", "p99", "p99.9", "max"):
        table.add_column(name, justify="right")
    for name, spread in latencies(result):
        if spread.count:
            values = (spread.p50, spread.p90, spread.p95, spread.p99, spread.p999, spread.max)
            table.add_row(name, f"{spread.count:,}", *map(digits, values))
    return table


def _pairs(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="publisher to subscriber", title_justify="left", title_style="dim")
    for name in ("from", "to"):
        table.add_column(name)
    for name in ("expected", "received", "lost", "duplicated", "out of order", "gaps", "told"):
        table.add_column(name, justify="right")
    for pair in result.pairs:
        counts = (pair.expected, pair.received, pair.lost, pair.duplicated, pair.misordered, pair.gaps)
        wrong = pair.lost + pair.duplicated + pair.misordered
        table.add_row(
            Text(plain(address(pair.publisher))),
            Text(plain(address(pair.subscriber))),
            *(f"{count:,}" for count in (*counts, pair.missed_and_told)),
            style="red" if wrong else "",
        )
    return table


def _servers(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="servers", title_justify="left", title_style="dim")
    for name in ("", "CPU, s", "memory before", "connected", "at the end", "output buffers"):
        table.add_column(name, justify="right" if name else "left")
    for each in result.servers:
        sizes = (each.rss_begin, each.rss_connected, each.rss_end, each.output_buffers)
        table.add_row(Text(plain(each.name)), f"{each.cpu_seconds:.1f}", *map(size_if_known, sizes))
    return table


def _errors(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="errors", title_justify="left", title_style="dim", show_header=False)
    shown = sorted(result.errors.items(), key=lambda item: -item[1])
    for text, count in shown[:ERRORS]:
        table.add_row(Text(f"{count:,}", justify="right"), Text(plain(text)))
    if len(shown) > ERRORS:
        table.add_row("", f"and {len(shown) - ERRORS} others, in the result")
    return table
