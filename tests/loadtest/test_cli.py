"""Wrong usage of the command, and what needs no server."""

import re
import resource
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway_loadtest.cli import main
from gateway_loadtest.planning import preflight
from gateway_loadtest.planning.plan import Plan
from gateway_loadtest.planning.preflight import PreflightError
from gateway_loadtest.planning.scenarios import idle
from gateway_loadtest.results import result
from tests.loadtest import sample_results
from tests.loadtest.sample_results import lossy


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_an_example_that_it_takes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its help, and in a group of the help of all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evening.toml").write_text("")
    example = call(name, "--help")[1].partition("Example:\n")[2].strip()
    tool, command, *arguments = shlex.split(example)
    assert (tool, command) == ("gateway-loadtest", name)
    main.commands[name].make_context(name, arguments)
    grouped = call("--help")[1].partition("\nLoad:\n")[2]
    assert re.search(rf"^  {name} +[A-Z]", grouped, re.MULTILINE)
    assert "..." not in grouped


def call(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(main, arguments)
    return found.exit_code, found.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("rooms",), "Missing option '--target'"),
        (("rooms", "--target", "http://a"), "wss://host:port, not 'http://a'"),
        (("rooms", "--target", "ws://a", "--payload", "5"), "a payload of at least 64 bytes"),
        (("rooms", "--target", "ws://a", "--protocol", "mqtt"), "'mqtt' is not one of"),
        (("storm", "--target", "ws://a", "--drop", "2"), "2.0 is not in the range 0<=x<=1"),
        (("rolling", "--target", "ws://a"), "Missing option '--command'"),
        (("mix", "/none.toml", "--target", "ws://a"), "does not exist"),
        (("mix", __file__, "--target", "ws://a"), "test_cli.py: "),
        (("mix", __file__, "--target", "ws://a", "--seconds", "1"), "No such option"),
        (("rooms", "--target", "ws://a", "--json", "/no/such/r.json"), "there is no folder /no/such"),
        (("rooms", "--target", "ws://a", "--rate", "0"), "0.0 is not in the range x>0"),
        (("rooms", "--target", "ws://a", "--seconds", "nan"), "stage 'steady': seconds"),
        (("rooms", "--target", "ws://a", "--pid", "999999999"), "--pid 999999999"),
        (("peers", "no-such-server"), "no peer is named no-such-server"),
        (("report", "/none"), "No such file"),
        (("compare", "/none", "/none"), "No such file"),
        (("compare", "a", "b", "--max-regression", "much"), "'much' is no percentage"),
        (("compare", "a", "b", "--max-regression", "nan%"), "'nan%' is no percentage"),
        (("compare", "a", "b", "--max-regression", "-5%"), "'-5%' is no percentage"),
    ],
)
def test_wrong_usage_is_status_2_with_a_reason(arguments: tuple[str, ...], complaint: str) -> None:
    status, output = call(*arguments)
    assert (status, complaint in output) == (2, True), output


def test_help_names_the_exit_statuses() -> None:
    status, output = call("--help")
    assert status == 0
    assert "3 this tool or its machine was the" in " ".join(output.split())


def test_reports_and_comparisons_of_files(tmp_path: Path) -> None:
    good, bad, page = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "page.html"
    good.write_bytes(result.encode(sample_results.result()))
    bad.write_bytes(result.encode(lossy()))
    assert call("report", str(good), "--html", str(page))[0] == 0
    assert "<svg" in page.read_text()
    assert call("report", str(good), "--html", str(tmp_path / "no" / "page.html"))[0] == 1
    assert call("compare", str(good), str(good), "--max-regression", "5%")[0] == 0
    assert call("compare", str(good), str(bad))[0] == 1


def plan(**fields: Any) -> Plan:
    return Plan(scenario="idle", stages=idle(1), **{"targets": ("ws://127.0.0.1:1",), **fields})


def test_more_processes_where_one_may_not_hold_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it says so."""
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, 20_000))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: None)
    prepared = preflight.prepare(plan(idle=50_000, workers=1))
    assert prepared.workers == 3
    assert "3 workers instead of 1: a process may open 20,000 files here" in prepared.remarks[0]
    assert preflight.prepare(plan(idle=1, workers=4)).workers == 1
    with pytest.raises(PreflightError, match="ulimit -n 65536"):
        preflight.prepare(plan(idle=50_000_000))


def test_more_addresses_where_one_has_too_few_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """On loopback by itself; elsewhere it says what would help."""
    monkeypatch.setattr(preflight, "ephemeral_ports", lambda: 1000)
    prepared = preflight.prepare(plan(idle=2500))
    assert prepared.plan.sources == ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    assert "3 addresses of 127.0.0.0/8" in prepared.remarks[-1]
    for fields in ({"targets": ("ws://example.org",)}, {"sources": ("127.0.0.1",)}):
        with pytest.raises(PreflightError, match="give 3 source addresses"):
            preflight.prepare(plan(idle=2500, **fields))


def test_ports_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert preflight.ephemeral_ports() > 1000
    monkeypatch.setattr(preflight, "PORT_RANGE", tmp_path / "none")
    assert preflight.ephemeral_ports() == int((65535 - 49152 + 1) * preflight.USABLE)
    assert preflight.loopback_ports(["ws://localhost", "wss://127.0.0.1/x", "ws://[::1]:5", "ws://a:1"]) == [80, 443, 5]
