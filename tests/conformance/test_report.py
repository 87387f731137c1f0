"""Verdicts of the Autobahn suite: what passes, and what must not."""

from typing import Any

import pytest

from tests.conformance.report import Report


def case(answers: str = "OK", close: str = "OK") -> dict[str, Any]:
    return {"behavior": answers, "behaviorClose": close}


def report(**cases: dict[str, Any]) -> Report:
    return Report({"node": {"1.1": case(), **cases}}, servers=("node",), cases=1 + len(cases))


@pytest.mark.parametrize("verdict", ["OK", "NON-STRICT", "INFORMATIONAL"])
def test_allowed_behaviour_passes(verdict: str) -> None:
    """In the answers and in the close."""
    assert report(two=case(verdict), three=case("OK", verdict)).passed


@pytest.mark.parametrize(
    "verdict", ["FAILED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "UNIMPLEMENTED", "what nobody knows"]
)
def test_anything_else_fails(verdict: str) -> None:
    """One case is enough, by its answers or by its close."""
    assert not report(two=case(verdict)).passed
    assert not report(two=case("OK", verdict)).passed


def test_a_case_that_did_not_run_fails() -> None:
    """A suite that stops early writes an index of what it has."""
    assert not Report({"node": {"1.1": case()}}, servers=("node",), cases=2).passed


def test_a_server_that_was_not_reached_fails() -> None:
    """The suite leaves it out, and ends with status 0."""
    unreached = Report({"node": {"1.1": case()}}, servers=("node", "other"), cases=1)
    assert not unreached.passed
    assert list(unreached.lines()) == ["node: 1 of 1 cases: 1 OK", "other: 0 of 1 cases: none ran"]


def test_the_lines_name_what_is_not_ok() -> None:
    """Counts first; an unclean close is not hidden behind allowed answers."""
    lines = list(report(two=case("NON-STRICT"), three=case("NON-STRICT", "UNCLEAN"), four=case("FAILED")).lines())
    assert lines == [
        "node: 4 of 4 cases: 1 OK, 1 NON-STRICT, 1 UNCLEAN, 1 FAILED",
        "  two: NON-STRICT, close OK",
        "  three: NON-STRICT, close UNCLEAN",
        "  four: FAILED, close OK",
    ]
