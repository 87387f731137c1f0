"""What all commands have in common: help, exit codes, quiet ends, quick starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gateway import __version__
from gateway.cli import main
from tests.cli.conftest import Run

COMMANDS = sorted(main.commands)
HEADINGS = ["Options:", "Run:", "Try:", "Operate:", "Debug:"]


def test_every_command_is_there_and_explains_itself(run: Run) -> None:
    """A newcomer gets along with `--help` alone: each command and each option says what it does.

    The listing is grouped by purpose, and each command has an example.
    """
    named = "check cluster drain explain kick nodes outbox publish reload revoke schema serve subscribe token url"
    assert named.split() == COMMANDS
    listing = run("--help")
    assert listing.exit_code == 0
    assert [line for line in listing.stdout.splitlines() if line.endswith(":")] == HEADINGS
    for name in COMMANDS:
        command = main.commands[name]
        assert f"\n  {name} " in listing.stdout
        assert "..." not in command.get_short_help_str(60).removesuffix("...")
        help = run(name, "--help")
        assert help.exit_code == 0
        examples = [line for line in help.stdout.splitlines() if re.match(rf"  (wscat .*)?gateway {name} ", line)]
        assert examples, name
        for option in command.params:
            assert isinstance(option, click.Argument) or (isinstance(option, click.Option) and option.help), option.name


def test_a_wrong_command_line_ends_with_2_and_a_wrong_setting_with_1(run: Run) -> None:
    """Scripts can tell them apart, and the reason stands on standard error."""
    usage = run("url")
    assert (usage.exit_code, usage.stdout) == (2, "")
    assert "Missing argument 'CHANNEL'" in usage.stderr
    setting = run("url", "news", GATEWAY_WORKERS="x")
    assert (setting.exit_code, setting.stdout) == (1, "")
    assert setting.stderr == "Error: workers = 'x' (GATEWAY_WORKERS): expected a whole number from 1 to 256\n"


def test_ctrl_c_ends_a_command_without_a_word(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exit code that shells have for it."""

    def interrupted(**options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.commands["url"], "callback", interrupted)
    result = run("url", "news")
    assert (result.exit_code, result.output) == (130, "")


def test_version_says_which_gateway_this_is(run: Run) -> None:
    """Version, Python and the folder of the package."""
    said = run("--version").stdout
    assert said.startswith(f"gateway {__version__}, Python 3.")
    assert said.strip().endswith("gateway")


def test_a_reader_that_goes_away_is_no_error_worth_words(tmp_path: Path) -> None:
    """`gateway explain news | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    command = [sys.executable, "-m", "gateway", "explain", "news"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environ)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_comes_without_loading_servers_and_clients() -> None:
    """Shell completion and `--help` stay quick."""
    heavy = "{'uvicorn', 'redis', 'hiredis', 'starlette', 'httpx', 'websockets', 'pydantic', 'jwt', 'asyncio'}"
    code = f"import gateway.cli, sys; print(sorted({heavy} & set(sys.modules)))"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout == "[]\n"
