"""The demo page in a real browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.sdk import SDK_FOLDER, need_node
from tests.clusters import Cluster, running_cluster

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster("--demo", nodes=3) as running:
        yield running


def played(script: str, *arguments: str) -> Any:
    """What a script of tests/sdk/ prints; it gets the path of a browser first."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    command = [need_node(), str(SDK_FOLDER / script), browser, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=120)
    assert done.returncode == 0
    return json.loads(done.stdout)


def test_two_windows_on_two_nodes_chat(cluster: Cluster, tmp_path: Path) -> None:
    """Each shows what both wrote, markup stays text, and a window that moves to another node goes on."""
    first, second = cluster.nodes[:2]
    shown = played("chat.mjs", str(tmp_path), cluster.url, first.name, second.name)
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


def test_the_same_channel_through_every_protocol(cluster: Cluster, tmp_path: Path) -> None:
    """On all nodes: what each of them publishes, all get in the same order."""
    shown = played("protocols.mjs", str(tmp_path), cluster.nodes[0].url)
    assert shown["problems"] == []
    assert set(shown["nodes"]) == {node.name for node in cluster.nodes}
    first, *others = shown["cards"].values()
    assert [line.split(": ")[1] for line in first] == [f"hello {number}" for number in range(1, 7)]
    assert all(other == first for other in others)
    assert shown["verdict"] == "7 of 7 open, all with the same 6 lines in the same order"


def test_a_chat_goes_on_when_a_node_dies(cluster: Cluster, tmp_path: Path) -> None:
    """No line is missing or doubled, a new window shows the last 50, and what cannot be recovered is said."""
    first, second, third = cluster.nodes
    arguments = (cluster.url, first.name, str(first.pid), second.name, third.url, cluster.api_key)
    shown = played("failover.mjs", str(tmp_path), *arguments)
    talk = [f"Backend API line {number}" for number in range(150)]
    assert shown["first"] == talk
    assert shown["second"] == talk
    assert shown["late"] == talk[-50:]
    before, after = shown["notes"]
    assert before == f"you are on {first.name}"
    # 50 were sent while the window was away; some of those before may have been on their way to it.
    told = re.fullmatch(rf"you are on (?:{second.name}|{third.name}) now: recovered (\d+) lines", after)
    assert told is not None
    assert int(told[1]) >= 50
    assert shown["gone"].count("some lines may be missing here") == 1
    assert shown["problems"] == []


def test_a_window_kills_its_node(cluster: Cluster, tmp_path: Path) -> None:
    """It comes back on another node, says how many lines it recovered, and never counts twice, although its dead
    connection is a member until the lease of its node ends."""
    first, second, third = cluster.nodes
    shown = played("kill.mjs", str(tmp_path), cluster.url, first.name, second.name)
    assert shown["problems"] == []
    assert shown["lines"] == shown["second"]
    assert [line.split(maxsplit=2)[2] for line in shown["lines"]] == ["one", "two", "I am back"]
    begin, killing, back = shown["notes"]
    assert (begin, killing) == (f"you are on {first.name}", f"killing {first.name}")
    assert back in (f"you are on {each.name} now: recovered 2 lines" for each in (second, third))
    assert shown["counts"][-1] == "2 here"
    assert "3 here" not in shown["counts"]
    assert shown["link"] in (f"/?node={each.name}" for each in (second, third))
