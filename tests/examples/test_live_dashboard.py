"""examples/live_dashboard: a visitor gets the page, and the current value of each key before any other."""

import json
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.cli.commands import command
from tests.cli.test_terminal import serving

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "live_dashboard"
PATIENCE = 60


@pytest.mark.slow
def test_a_visitor_sees_all_prices_at_once() -> None:
    arguments = ("serve", "--app", "app:app", "--listen", "127.0.0.1:0", "--internal-listen", "")
    with command(*arguments, cwd=FOLDER) as node:
        address = serving(node).removeprefix("ws://")
        page = httpx.get(f"http://{address}/", trust_env=False)
        assert "realtime/ws/prices:all" in page.text
        for origin in ("http://localhost:8000", None):
            with connect(f"ws://{address}/realtime/ws/prices:all", origin=origin, proxy=None) as socket:  # type: ignore[arg-type]
                first = [json.loads(socket.recv(timeout=PATIENCE))["name"] for _ in range(4)]
                assert sorted(first) == ["ACME", "BOLT", "CORK", "DUNE"]
                assert json.loads(socket.recv(timeout=PATIENCE))["price"] > 0
