"""Commands run in an empty folder, with no variable of this machine's."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("publish", "news", "1", GATEWAY_URL=...)` runs a command in this process."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("GATEWAY_"):
            monkeypatch.delenv(name)

    def run_command(*args: str, input: str | None = None, **environ: str) -> Result:
        result = CliRunner().invoke(main, args, input=input, env=environ, prog_name="gateway")
        # What a command raises by mistake would be a traceback on the user's terminal.
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run_command
