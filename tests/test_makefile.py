"""The environment that `make` keeps, with stand-ins for Python and pip."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Says which Python it is, and makes an environment whose pip does nothing.
PYTHON = """#!/bin/sh
if [ "$1" = -c ] || [ "$1" = --version ]; then echo {name}; exit 0; fi
echo "made" >> {log}
rm -rf .venv; mkdir -p .venv/bin
cp "$0" .venv/bin/python
printf '#!/bin/sh\\necho "$@" | grep -q dev && echo tools >> {log} || echo runtime >> {log}\\n' > .venv/bin/pip
printf '#!/bin/sh\\necho "$@"\\n' > .venv/bin/gateway
chmod +x .venv/bin/pip .venv/bin/gateway
"""


class Checkout:
    """A folder with the Makefile, and Pythons."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        (folder / "loadtest").mkdir()
        for name in ("Makefile", "pyproject.toml", "loadtest/pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)

    def python(self, name: str) -> str:
        program = self._folder / name
        program.write_text(PYTHON.format(name=name, log=self._log))
        program.chmod(0o755)
        return str(program)

    def install(self, *arguments: str) -> list[str]:
        """What `make install` did."""
        return self.make("install", *arguments)

    def make(self, *arguments: str) -> list[str]:
        self._log.write_text("")
        subprocess.run(["make", *arguments], cwd=self._folder, env=self._environment(), check=True)
        return self._log.read_text().split()

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS")}

    def gateway(self, script: str) -> None:
        """What `gateway` does from now on."""
        (self._folder / ".venv/bin/gateway").write_text(f"#!/bin/sh\n{script}\n")

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """`make` as the leader of a foreground group."""
        process = subprocess.Popen(
            ["make", *arguments],
            cwd=self._folder,
            env=self._environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_another_python_gets_another_environment(checkout: Checkout) -> None:
    """Tests that are said to run on a Python run on that one; the same Python makes nothing anew."""
    first, second = (f"PYTHON={checkout.python(name)}" for name in ("first", "second"))
    assert checkout.install(first) == ["made", "runtime", "tools"]
    assert checkout.install(first) == []
    assert checkout.install(second) == ["made", "runtime", "tools"]
    assert checkout.install(first) == ["made", "runtime", "tools"]


def test_the_environment_stays_where_no_python_is_named(checkout: Checkout) -> None:
    """`make test` after `make test PYTHON=...` does not go back to `python3`."""
    checkout.install(f"PYTHON={checkout.python('first')}")
    assert checkout.install() == []


def test_ctrl_c_ends_the_demo_quietly(checkout: Checkout) -> None:
    """The gateway ends with status 0 then, which make has nothing to say about."""
    checkout.make("demo", f"PYTHON={checkout.python('first')}")
    checkout.gateway("trap 'exit 0' INT; echo up >&2; while :; do sleep 0.05; done")
    with checkout.started("demo") as make:
        assert make.stderr is not None
        assert make.stderr.readline() == "up\n"
        os.killpg(make.pid, signal.SIGINT)
        assert make.stderr.read() == ""


def test_an_installation_says_that_it_takes_time(checkout: Checkout) -> None:
    """pip says nothing until it has ended."""
    with checkout.started("install", f"PYTHON={checkout.python('first')}") as make:
        assert make.stdout is not None
        lines = [line for line in make.stdout if line.startswith("Installing ")]
    assert len(lines) == 2
    assert all(line.endswith(" into .venv; this may take a minute\n") for line in lines)


def test_the_demo_installs_only_what_runs_it(checkout: Checkout) -> None:
    """The tools come with `make install`, and once they are there the demo changes nothing."""
    python = f"PYTHON={checkout.python('first')}"
    assert checkout.make("demo", python) == ["made", "runtime"]
    assert checkout.install() == ["tools"]
    assert checkout.make("demo") == []
