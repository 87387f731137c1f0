"""What shows results: the terminal, the page, the comparison, and the file they are kept in."""

import re
import xml.etree.ElementTree as ElementTree
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.console import Console

from gateway_loadtest.planning.plan import Plan, StagePlan
from gateway_loadtest.reporting import comparison, plots, report_page, summary
from gateway_loadtest.reporting.plots import Curve
from gateway_loadtest.results import result
from gateway_loadtest.results.result import (
    Costs,
    Environment,
    Latencies,
    Moment,
    Outcome,
    Pair,
    Result,
    ResultError,
    Server,
    Totals,
)
from tests.loadtest import sample_results
from tests.loadtest.sample_results import HOSTILE, lossy, spread, unreachable


def shown(found: Result) -> str:
    console = Console(width=140, record=True, file=StringIO())
    summary.show(found, console)
    return console.export_text()


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(result.encode(lossy()))
    assert result.read(path) == lossy()


@pytest.mark.parametrize("text", ["", "{}", "[]", "\xff"])
def test_what_is_no_result_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"r\.json is not a result of gateway-loadtest"):
        result.read(path)
    with pytest.raises(ResultError, match="No such file"):
        result.read(tmp_path / "none")
    path.write_bytes(result.encode(structs.replace(lossy(), format=99)))
    with pytest.raises(ResultError, match="format 99; this version reads format 2"):
        result.read(path)


def test_the_terminal_shows_what_matters() -> None:
    text = shown(sample_results.result())
    for expected in ("Passed", "20,000 of 20,000", "7.5 us", "4.688 KiB", "delivered", "a:1", "64 MiB"):
        assert expected in text
    text = shown(lossy())
    for expected in ("Failed", "10 lost", "connection lost: 1006"):
        assert expected in text
    text = shown(unreachable())
    for expected in ("nobody could connect", HOSTILE):
        assert expected in text
    for without in ("connections", "generator", "No server was found"):
        assert without not in text
    idle = sample_results.result(servers=[], outcome="unreachable")
    for expected in ("not everybody", "No server was found"):
        assert expected in shown(idle)
    many = structs.replace(lossy(), errors={f"error {number}": number + 1 for number in range(20)})
    assert "and 8 others" in shown(many)


def test_units() -> None:
    assert [summary.size(value) for value in (0, 1023, 2048, 3 * 2**20, 5 * 2**40)] == [
        "0 B", "1023 B", "2 KiB", "3 MiB", "5120 GiB",
    ]  # fmt: skip
    assert [summary.digits(value) for value in (0.1234, 99.94, 12345.6)] == ["0.123", "99.9", "12,346"]


@pytest.mark.parametrize("found", [sample_results.result(), lossy(), unreachable()])
def test_the_page_stands_alone_and_escapes(found: Result) -> None:
    """Nothing is fetched, and nothing that a server said becomes markup."""
    page = report_page.render(found)
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "src=" not in page
    assert summary.headline(found) in page
    # Well formed, but for what HTML leaves open.
    ElementTree.fromstring(
        page.partition("<main>")[2].partition("</main>")[0].join(("<main>", "</main>")).replace("&micro;", "u")
    )


def test_a_page_of_nothing_has_no_empty_parts() -> None:
    """What was not measured has no title, no table, and no plot."""
    moments = [Moment(at, 0, 0, 0, 1, 0.0, 0.0, 0.0, 0.1) for at in (1.0, 2.0, 3.0)]
    pairs = [Pair("ws://a:1", "ws://b:2", 0, 0)]
    page = report_page.render(structs.replace(unreachable(), timeline=moments, pairs=pairs))
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == ["Errors", "Environment", "Settings of the run"]
    assert "<svg" not in page
    titles = re.findall("<h2>(.*?)</h2>", report_page.render(sample_results.result()))
    assert titles == [
        "Latencies", "From node to node", "Figures", "Servers", "Environment", "Settings of the run"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "kind", "word"),
    [
        ("passed", "good", "Passed"),
        ("invalid", "doubtful", "Invalid"),
        ("interrupted", "doubtful", "Interrupted"),
        *((outcome, "bad", "Failed") for outcome in ("lost", "refused", "disconnected", "unreachable", "broken")),
    ],
)
def test_a_failure_does_not_look_like_a_pass(outcome: Outcome, kind: str, word: str) -> None:
    """On the page, in words and by a class that has a colour of its own."""
    page = report_page.render(sample_results.result(outcome=outcome))
    assert f'<div class="outcome {kind}"><strong>{word}' in page
    assert f".outcome.{kind} > strong {{ color:" in page


def test_a_cost_per_message_says_its_load() -> None:
    """And that it is mostly idle cost where the servers had little to do: 0.15 s of CPU in 15 s are 1 %."""
    idle = sample_results.result()
    busy = sample_results.result(costs=Costs(per_delivery=500.0, per_publish=5000.0))
    for found, load, is_idle in ((idle, "1%", True), (busy, "67%", False)):
        page = report_page.render(found)
        assert f"CPU per delivery, at {load} load" in page
        assert f"at {load} of a core per server" in shown(found)
        for text in (page, " ".join(shown(found).split())):
            assert ("mostly idle cost" in text) is is_idle
    unknown = sample_results.result(servers=[], costs=Costs(per_delivery=7.5, per_publish=75.0))
    assert "mostly idle cost" not in report_page.render(unknown)
    assert "per server" not in shown(unknown)


def test_the_page_says_where_the_run_took_place() -> None:
    """The machine, versions and settings; nothing about what is unknown."""
    where = Environment("A processor, x86_64", 2, 2**30, "Linux 6.1", "CPython 3.11.7", ["5.0 <b>"], ["Valkey 9.0"])
    page = report_page.render(sample_results.result(environment=where))
    for value in ("A processor", "1 GiB", "Linux 6.1", "CPython 3.11.7", "5.0 &lt;b&gt;", "Valkey 9.0", "channels"):
        assert value in page
    assert "version of Redis" not in report_page.render(sample_results.result())


def test_pairs_are_called_what_they_are_in_the_terminal() -> None:
    """By their addresses: two whole URLs would push the counts off a small screen."""
    page = report_page.render(sample_results.result())
    assert "<td>a:1</td><td>b:2</td>" in page


def test_what_is_unknown_of_a_server_is_no_zero() -> None:
    """In the terminal and on the page."""
    found = sample_results.result(servers=[Server("node", "process", 3.5, 2**26, 2**27, 2**27)])
    row = re.search(r"^ +node +3\.5 .* (\S+) *$", shown(found), re.MULTILINE)
    assert row is not None
    assert row[1] == "-"
    assert "<td>128 MiB</td><td>-</td></tr>" in report_page.render(found)


def test_the_settings_of_a_run_are_for_people() -> None:
    """One stage or target a line, without what a stage does not do."""
    stages = (StagePlan("calm", 10.0, rate=0.0), StagePlan("peak", 2.5, drop=0.2, commands=("a b", "c"), pause=3.0))
    plan = Plan(scenario="mix", targets=("ws://a:1", "ws://b:2"), channels=5, members=1, stages=stages)
    page = report_page.render(sample_results.result(options=plan.options))
    for name, value in (
        ("targets", "ws://a:1\nws://b:2"),
        ("stages", "calm: 10 s, rate 0\npeak: 2.5 s, drop 0.2, commands a b, c, pause 3"),
        ("connect rate", "500"),
        ("max refused", "not set"),
        ("sources", "none"),
    ):
        assert f"<tr><td>{name}</td><td>{value}</td></tr>" in page
    assert "white-space: pre-line" in page


def test_curves_that_coincide_are_both_seen() -> None:
    """With few samples p99 is the maximum: what lies below is wider."""
    curves = [Curve(name, [1.0, 2.0]) for name in ("p50", "p99", "max")]
    drawn = ElementTree.fromstring(plots.over_time([1.0, 2.0], curves, [], unit="ms"))
    lines = [each for each in drawn if each.tag == "polyline"]
    assert [each.attrib["class"] for each in lines] == ["curve c2", "curve c1", "curve c0"]
    widths = [float(each.attrib["stroke-width"]) for each in lines]
    assert sorted(set(widths), reverse=True) == widths
    # A style would override the attribute.
    assert "stroke-width" not in report_page.render(unreachable())


def test_plots_tell_their_values() -> None:
    """Of each moment under the pointer, without gaps between the moments; of very many, some."""
    curves = [Curve("a<", [1.0, None, 12345.6]), Curve("b", [0.0, 2.0, 3.0])]
    drawn = ElementTree.fromstring(plots.over_time([1.0, 2.0, 4.0], curves, [], unit="ms"))
    moments = [each for each in drawn if each.get("class") == "moment"]
    assert [each[0].text for each in moments] == [
        "1 s, ms\na<: 1\nb: 0", "2 s, ms\na<: none\nb: 2", "4 s, ms\na<: 12,346\nb: 3",
    ]  # fmt: skip
    edges = [(float(each.attrib["x"]), float(each.attrib["width"])) for each in moments]
    for (x, width), (following, _) in pairwise(edges):
        assert x + width == pytest.approx(following, abs=0.11)
    many = [float(second) for second in range(1, 3601)]
    drawn = ElementTree.fromstring(plots.over_time(many, [Curve("a", many)], [], unit="ms"))
    assert sum(each.get("class") == "moment" for each in drawn) == plots.MOST_MOMENTS


def test_plots_hold_their_values() -> None:
    at = [1.0, 2.0, 3.0]
    drawn = plots.over_time(at, [Curve("a", [1.0, None, 100.0])], [], unit="ms", logarithmic=True)
    lines = [each.attrib["points"].split() for each in ElementTree.fromstring(drawn) if each.tag == "polyline"]
    # Nothing is drawn across the second without a value; a point alone is a dot.
    assert [len(set(points)) for points in lines] == [1, 1]
    assert [len(points) for points in lines] == [2, 2]
    assert plots.over_time(at, [Curve("a", [0.0, 0.0, 0.0])], [], unit="ms") == ""
    assert plots.over_time([1.0], [Curve("a", [1.0])], [], unit="ms") == ""
    assert plots.histogram([]) == ""
    bars = [
        each for each in ElementTree.fromstring(plots.histogram([(1.0, 5), (2.0, 1), (800.0, 3)])) if each.tag == "rect"
    ]
    assert len(bars) == 3
    near = ElementTree.fromstring(plots.histogram([(1.2, 5), (6.0, 1)]))
    assert [each.text for each in near if each.get("text-anchor") == "middle"] == ["1", "2", "5"]
    far = ElementTree.fromstring(plots.histogram([(0.5, 5), (6000.0, 1)]))
    assert [each.text for each in far if each.get("text-anchor") == "middle"] == ["1", "10", "100", "1000"]


def test_a_page_of_one_second_has_no_plots() -> None:
    moment = Moment(1.0, 5, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)
    page = report_page.render(structs.replace(unreachable(), timeline=[moment]))
    assert "<svg" not in page


def test_the_same_is_no_regression() -> None:
    compared = comparison.compare(sample_results.result(), sample_results.result(), 0.1)
    assert (compared.status, compared.obstacles) == (0, [])


@pytest.mark.parametrize(
    ("fields", "regressed"),
    [
        ({"latencies": Latencies(connect=spread(3), subscribe=spread(1), delivery=spread(3))}, "delivered, p50, ms"),
        ({"costs": Costs(per_delivery=9.0, per_publish=75.0, per_connect=400.0)}, "CPU per delivery, us"),
        ({"costs": Costs(per_delivery=7.5, memory_per_connection=6000.0)}, "memory per connection, bytes"),
        ({"totals": Totals(connections=10, expected=10, received=10, delivery_rate=800.0)}, "deliveries per second"),
        ({"totals": Totals(connections=10, expected=10, received=9, lost=1, delivery_rate=1000.0)}, "lost"),
        (
            {"totals": Totals(connections=10, expected=10, received=9, missed_and_told=1, delivery_rate=1000.0)},
            "missed and told, share",
        ),
        ({"totals": Totals(connections=10, refused=9, delivery_rate=1000.0)}, "not accepted, share"),
        ({"totals": Totals(connections=10, disconnects=9, cut=1, delivery_rate=1000.0)}, "cut off"),
    ],
)
def test_what_became_worse_is_named(fields: dict[str, Any], regressed: str) -> None:
    compared = comparison.compare(sample_results.result(), sample_results.result(**fields), 0.1)
    assert compared.status == 1
    assert regressed in [line.name for line in compared.lines if line.regressed]
    better = comparison.compare(sample_results.result(**fields), sample_results.result(), 0.1)
    assert regressed not in [line.name for line in better.lines if line.regressed]
    console = Console(width=140, record=True, file=StringIO())
    comparison.show(compared, console)
    comparison.show(better, console)
    assert f"Worse than allowed: {regressed}" in console.export_text()


def test_the_slowest_of_many_count() -> None:
    """One in a thousand, where there are enough of them."""
    calm, wild = (structs.replace(spread(1.5), count=count, p999=9000.0) for count in (9_999, 10_000))
    before = sample_results.result(latencies=Latencies(delivery=structs.replace(spread(1.5), count=10_000)))
    for after, status in ((calm, 0), (wild, 1)):
        assert (
            comparison.compare(before, sample_results.result(latencies=Latencies(delivery=after)), 0.1).status == status
        )


def test_little_is_noise() -> None:
    """A fifth of a millisecond is no regression, whatever its share."""
    before = sample_results.result(latencies=Latencies(delivery=spread(0.05)), costs=Costs(per_delivery=1.0))
    after = sample_results.result(latencies=Latencies(delivery=spread(0.1)), costs=Costs(per_delivery=1.3))
    assert comparison.compare(before, after, 0.1).status == 0


def test_memory_that_was_reused_is_not_compared() -> None:
    """Servers that have held connections before hardly grow."""
    before, after = (sample_results.result(costs=Costs(memory_per_connection=size)) for size in (30.0, 900.0))
    assert comparison.compare(before, after, 0.1).status == 0


def test_what_cannot_be_compared_is_said() -> None:
    other = structs.replace(
        sample_results.result(), scenario="storm", outcome="invalid", options={"channels": 5, "seed": 2}
    )
    compared = comparison.compare(sample_results.result(), other, 0.1)
    assert len(compared.obstacles) == 4
    assert "the second run did not pass (invalid)" in compared.obstacles[0]
    assert compared.status == 1
    console = Console(width=140, record=True, file=StringIO())
    comparison.show(compared, console)
    text = console.export_text()
    assert "cannot be compared" in text
    assert "Nothing became worse" not in text


def test_a_run_of_which_the_slowest_are_doubtful_is_not_compared() -> None:
    """Its p99 would be that of the machine."""
    good = sample_results.result()
    doubtful = structs.replace(good, generator=structs.replace(good.generator, doubts=["2 of 100 were late"]))
    compared = comparison.compare(good, doubtful, 0.1)
    assert (compared.status, compared.obstacles) == (1, ["the second run: 2 of 100 were late"])


def test_an_idle_run_that_reached_nobody_does_not_pass() -> None:
    """No figure is worse where there is none. That is said in one sentence, without a table of zeros."""
    idle = sample_results.result(totals=Totals(connections=500), latencies=Latencies(connect=spread(3)))
    for runs, sentence in (
        ((idle, unreachable()), "No comparison: in the second run nobody was connected\n"),
        ((unreachable(), unreachable()), "No comparison: in the first and the second run nobody was connected\n"),
    ):
        compared = comparison.compare(*runs, 0.1)
        console = Console(width=140, record=True, file=StringIO())
        comparison.show(compared, console)
        assert (compared.status, console.export_text()) == (1, sentence)


def test_what_the_second_run_lacks_is_no_improvement() -> None:
    """It had nothing to be measured by."""
    lacking = sample_results.result(latencies=Latencies(), costs=Costs())
    compared = comparison.compare(sample_results.result(), lacking, 0.1)
    assert compared.status == 1
    assert "the second run did not measure: connect" in compared.obstacles
    assert "the second run did not measure: memory per connection, bytes" in compared.obstacles
