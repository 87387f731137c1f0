"""The fixtures, in a test suite of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest
from gateway.hooks import Hooks


@pytest.fixture
def gateway_settings():
    return {"namespaces": {"room": {}}}


@pytest.fixture
def gateway_hooks():
    hooks = Hooks()

    @hooks.subscribe("room")
    async def anybody(request):
        return True

    return hooks


def test_chat(sync_gateway):
    ann = sync_gateway.connect("ann")
    ann.subscribe("room:cats")
    sync_gateway.publish("room:cats", {"text": "hi"})
    assert ann.next().data == {"text": "hi"}
"""


@pytest.mark.slow
def test_pytest_finds_them_by_itself(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
