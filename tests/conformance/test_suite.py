"""The suite's process, with a stand-in for Python 2."""

import json
import stat
from pathlib import Path

import pytest

from tests.conformance import suite


def stand_in(folder: Path, script: str) -> str:
    """A program that is called as Python 2 would be; `$8` is the specification."""
    program = folder / "python2"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_all_cases_but_the_longest_run_at_every_server(tmp_path: Path) -> None:
    """What the suite is told, and what it wrote."""
    program = stand_in(tmp_path, f"""cp "$8" {tmp_path}/told; echo '{{"a": {{}}}}' > {tmp_path}/reports/index.json""")
    servers = {"a": "ws://127.0.0.1:1/", "b": "ws://127.0.0.1:1/receive"}
    assert suite.run(program, tmp_path / "reports", servers) == {"a": {}}
    told = json.loads((tmp_path / "told").read_text())
    assert told["servers"] == [{"agent": name, "url": url} for name, url in servers.items()]
    assert told["cases"] == ["*"]
    excluded = told["exclude-cases"]
    assert (excluded[0], excluded[-1], len(excluded)) == ("12.1.7", "13.7.18", 517 - suite.CASES)


@pytest.mark.parametrize("script", ["exit 3", "exit 0"], ids=["fails", "writes nothing"])
def test_a_suite_that_breaks_off_is_an_error(tmp_path: Path, script: str) -> None:
    """The report of an earlier run is not taken for that of this one."""
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(suite.SuiteError, match="see "):
        suite.run(stand_in(tmp_path, script), tmp_path, {})


def test_a_suite_that_hangs_is_ended(tmp_path: Path) -> None:
    """With an error that says where its output is."""
    with pytest.raises(suite.SuiteError, match="did not end within"):
        suite.run(stand_in(tmp_path, "exec sleep 600"), tmp_path, {}, timeout=0.2)
