"""The demo page in a real browser."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.sdk import SDK_FOLDER, need_node
from tests.clusters import running_cluster

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def test_two_windows_on_two_nodes_chat(tmp_path: Path) -> None:
    """Each shows what both wrote, markup stays text, and a window that moves to another node goes on."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    command = [need_node(), str(SDK_FOLDER / "chat.mjs"), browser, str(tmp_path)]
    with running_cluster("--demo", nodes=3) as cluster:
        first, second = cluster.nodes[:2]
        done = subprocess.run([*command, cluster.url, first.name, second.name], stdout=subprocess.PIPE, timeout=120)
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert shown["problems"] == []
    talk = [
        f"Ann {first.name} Hello from Ann",
        f"Bob {second.name} Hi Ann, Bob here",
        f"Ann {first.name} <b>not bold</b> & \U0001f30d",
        f"Ann {second.name} Now on your node",
    ]
    assert shown["second"] == talk
    assert shown["first"] == talk
    assert (tmp_path / "chat-wide.png").stat().st_size > 0
