"""The report: one page that opens offline."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from gateway_loadtest.reporting import plots, summary
from gateway_loadtest.reporting.plots import Curve
from gateway_loadtest.reporting.server_load import server_load
from gateway_loadtest.results.result import Result

# Classes of the style sheet, by the colour in the terminal.
_KINDS = {"green": "good", "yellow": "doubtful", "red": "bad"}

_PAGE = Template((Path(__file__).parent / "report_page.html").read_text())


def render(result: Result) -> str:
    """A page of HTML. Everything that came from outside is escaped."""
    # Of a run that reached nobody there are no figures.
    reached = bool(result.totals.connections)
    tables = [
        ("Latencies", _latencies(result)),
        ("From node to node", _pairs(result) if result.totals.expected else ""),
        ("Figures", _table(("", ""), summary.overview(result)) if reached else ""),
        ("Servers", _servers(result) if reached else ""),
        ("Errors", _table(("times", ""), [(f"{count:,}", text) for text, count in result.errors.items()])),
        ("Environment", _table(("", ""), summary.environment(result))),
        (
            "Settings of the run",
            _table(("", ""), [(name.replace("_", " "), _text(value)) for name, value in result.options.items()]),
        ),
    ]
    return _PAGE.substitute(
        title=escape(f"{result.scenario}: {', '.join(result.targets)}"),
        scenario=escape(result.scenario),
        outcome=_KINDS[summary.HEADLINES[result.outcome][0]],
        headline=escape(summary.headline(result)),
        remarks="".join(f"<li>{escape(each)}</li>" for each in summary.remarks(result)),
        about=escape(
            f"{result.started}, {result.seconds:.0f} s, seed {result.options.get('seed', '?')}, "
            f"gateway-loadtest {result.version}, against {', '.join(result.targets)}"
        ),
        tiles=_tiles(result),
        plots=_plots(result) if reached else "",
        tables="".join(f"<h2>{title}</h2>{table}" for title, table in tables if table),
    )


def _tiles(result: Result) -> str:
    totals, delivery = result.totals, result.latencies.delivery
    tiles = [("connections", f"{totals.connections:,}")]
    if totals.expected:
        tiles += [
            ("delivered", f"{totals.received:,}"),
            ("lost", f"{totals.lost:,}"),
            ("deliveries per second", f"{totals.delivery_rate:,.0f}"),
            ("delivery p50", f"{summary.digits(delivery.p50)} ms"),
            ("delivery p95", f"{summary.digits(delivery.p95)} ms"),
            ("delivery p99", f"{summary.digits(delivery.p99)} ms"),
        ]
        if result.costs.per_delivery:
            load = server_load(result)
            at = "" if load is None else f", at {load:.0%} load"
            tiles.append((f"CPU per delivery{at}", summary.microseconds(result.costs.per_delivery)))
    if result.costs.memory_per_connection:
        tiles.append(("memory per connection", summary.size(result.costs.memory_per_connection)))
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)


def _plots(result: Result) -> str:
    moments = result.timeline
    at = [each.at for each in moments]

    def latency(values: Iterable[float]) -> list[float | None]:
        return [value if value > 0 else None for value in values]

    delivery = [
        Curve("p50", latency(each.p50 for each in moments)),
        Curve("p99", latency(each.p99 for each in moments)),
        Curve("max", latency(each.max for each in moments)),
    ]
    rates = [
        Curve("delivered", [each.delivered for each in moments]),
        Curve("published", [each.published for each in moments]),
    ]
    cpu = [Curve("generator, busiest worker", [each.generator_cpu for each in moments])]
    for number, server in enumerate(result.servers):
        values = [each.server_cpu[number] if number < len(each.server_cpu) else None for each in moments]
        cpu.append(Curve(server.name, values))
    connections = [Curve("connections", [each.connections for each in moments])]
    sections = [
        ("Delivery latency, milliseconds on a logarithmic axis", delivery, "milliseconds", True),
        ("Throughput, per second", rates, "per second", False),
        ("Connections", connections, "connections", False),
        ("CPU, cores", cpu, "cores", False),
    ]
    parts = []
    for title, curves, unit, logarithmic in sections:
        drawn = plots.over_time(at, curves, result.stages, unit=unit, logarithmic=logarithmic)
        if drawn:
            parts.append(_figure(title, (plots.legend(curves) if len(curves) > 1 else "") + drawn))
    bars = plots.histogram(result.latencies.delivery.bars)
    if bars:
        parts.insert(1, _figure("Deliveries by latency, milliseconds on a logarithmic axis", bars))
    return "".join(parts)


def _figure(title: str, content: str) -> str:
    return f"<figure><figcaption>{title}</figcaption>{content}</figure>"


def _latencies(result: Result) -> str:
    rows = []
    for name, spread in summary.latencies(result):
        if spread.count:
            values = (spread.min, spread.p50, spread.p90, spread.p95, spread.p99, spread.p999, spread.max)
            rows.append((name, f"{spread.count:,}", *map(summary.digits, values)))
    table = _table(("milliseconds", "count", "min", "p50", "p90", "p95", "p99", "p99.9", "max"), rows)
    about = '<p class="about">Publications count from the moment they were due, not from when they were sent.</p>'
    return about + table if table else ""


def _pairs(result: Result) -> str:
    heads = (
        "published at",
        "received at",
        "expected",
        "received",
        "lost",
        "duplicated",
        "out of order",
        "gaps",
        "told",
    )
    rows = []
    for pair in result.pairs:
        counts = (pair.expected, pair.received, pair.lost, pair.duplicated, pair.misordered, pair.gaps)
        nodes = (summary.address(pair.publisher), summary.address(pair.subscriber))
        rows.append((*nodes, *(f"{count:,}" for count in (*counts, pair.missed_and_told))))
    return _table(heads, rows)


def _servers(result: Result) -> str:
    rows = []
    for each in result.servers:
        sizes = (each.rss_begin, each.rss_connected, each.rss_end, each.output_buffers)
        rows.append((each.name, f"{each.cpu_seconds:.1f}", *map(summary.size_if_known, sizes)))
    return _table(("", "CPU, s", "memory before", "connected", "at the end", "output buffers"), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Empty without rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    shown = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    # Names and sentences wrap; columns of figures scroll.
    kind = "prose" if len(heads) == 2 else "counts"
    return f'<div class="scroll"><table class="{kind}">{shown}<tbody>{body}</tbody></table></div>'


def _text(value: object) -> str:
    """An option, for people; one line for each of several."""
    if value is None:
        return "not set"
    if value in ("", [], ()):
        return "none"
    if isinstance(value, list | tuple):
        return "\n".join(_stage(each) if isinstance(each, dict) else _text(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _stage(stage: Mapping[str, object]) -> str:
    """With what it does differently from the other stages. (A `rate` of 0 is one, and None is that of the run.)"""
    facts = []
    for name, value in stage.items():
        if name not in ("name", "seconds") and (value or name == "rate") and value is not None:
            facts.append(f"{name} {', '.join(map(str, value)) if isinstance(value, list | tuple) else _text(value)}")
    return ", ".join([f"{stage.get('name')}: {_text(stage.get('seconds'))} s", *facts])
