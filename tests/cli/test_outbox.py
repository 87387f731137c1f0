"""`gateway outbox`, as far as it needs no database."""

import sys

import pytest

from gateway.cli import outbox
from tests.cli.conftest import Run


def test_the_database_is_needed(run: Run) -> None:
    result = run("outbox", DATABASE_URL="")
    assert result.exit_code == 2
    assert "--database" in result.output


def test_one_question_at_a_time(run: Run) -> None:
    result = run("outbox", "--failed", "--retry", "--database", "postgresql:///x")
    assert result.exit_code == 2
    assert "one of --failed and --retry" in result.output


def test_without_the_driver_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node runs without it."""
    for name in [name for name in sys.modules if name.startswith(("psycopg", "gateway.outbox.postgres"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    result = run("outbox", "--database", "postgresql:///x")
    assert result.exit_code == 1
    assert outbox.EXTRA in result.output


def test_a_database_of_another_kind_is_refused(run: Run) -> None:
    result = run("outbox", "--database", "sqlite:///app.db")
    assert result.exit_code == 1
    assert "expected postgresql://" in result.output
    result = run("outbox", "--failed", "--database", "postgresql://127.0.0.1:1/x")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
