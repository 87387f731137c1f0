"""The environment that `make` keeps, with stand-ins for Python and pip."""

import os
import shutil
import subprocess
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
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS")}
        subprocess.run(["make", *arguments], cwd=self._folder, env=environment, check=True)
        return self._log.read_text().split()


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


def test_the_demo_installs_only_what_runs_it(checkout: Checkout) -> None:
    """The tools come with `make install`, and once they are there the demo changes nothing."""
    python = f"PYTHON={checkout.python('first')}"
    assert checkout.make("demo", python) == ["made", "runtime"]
    assert checkout.install() == ["tools"]
    assert checkout.make("demo") == []
