"""kill -9 of a node: what its clients had is told by another one. Real processes and a real server."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from websockets.sync.client import connect

from tests.api.clients import PATIENCE
from tests.cli.commands import Command, command
from tests.cli.test_terminal import serving
from tests.servers import valkey_server

CLIENTS = 20
HOOKS = """
import json, os
from gateway.hooks import ConnectRequest, ConnectResult, Hooks

hooks = Hooks()

def tell(kind, event):
    told = {name: getattr(event, name) for name in event.__struct_fields__}
    with open(f"told-{os.getpid()}", "a") as file:
        file.write(json.dumps({"kind": kind, **told}) + "\\n")

@hooks.connect
async def connect(request: ConnectRequest) -> ConnectResult:
    return ConnectResult(user=request.data, meta={"of": request.data})

@hooks.subscribe("room")
async def subscribe(request):
    return True

@hooks.disconnect
async def disconnect(event):
    tell("disconnect", event)

@hooks.unsubscribe("room")
async def unsubscribe(event):
    tell("unsubscribe", event)

@hooks.occupied("room")
async def occupied(event):
    tell("occupied", event)

@hooks.vacated("room")
async def vacated(event):
    tell("vacated", event)
"""


def told(folder: Path, node: Command) -> Iterator[dict[str, Any]]:
    path = folder / f"told-{node.process.pid}"
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        # (The last one may be half written.)
        if line.endswith("\n"):
            yield json.loads(line)


def opened(stack: ExitStack, node: Command, number: int, channel: str = "room:1") -> None:
    socket = stack.enter_context(
        connect(f"{serving(node)}/connection/websocket", compression=None, proxy=None, open_timeout=PATIENCE)
    )
    socket.send(json.dumps({"id": 1, "connect": {"data": f"u{number}"}}))
    socket.send(json.dumps({"id": 2, "subscribe": {"channel": channel}}))


@pytest.mark.slow
def test_another_node_tells_what_a_killed_one_had(tmp_path: Path) -> None:
    """Whichever of them told events before; each end at least once, and nothing of who is still there."""
    (tmp_path / "app.py").write_text(HOOKS)
    (tmp_path / "gateway.toml").write_text("[namespaces.room]\n")
    with valkey_server() as server, ExitStack() as stack:
        arguments = ("serve", "--listen", "127.0.0.1:0", "--internal-listen", "", "--hooks", "app:hooks")
        env = {"GATEWAY_REDIS__URL": server.url, "PYTHONPATH": str(tmp_path)}
        killed, left = (stack.enter_context(command(*arguments, cwd=tmp_path, env=env)) for _ in range(2))
        for number in range(CLIENTS):
            opened(stack, killed, number)
        opened(stack, left, CLIENTS, "room:2")
        with redis.Redis.from_url(server.url) as operator:
            until(lambda: sum(operator.hlen(key) for key in operator.scan_iter("gw:*:ledger:*")) == 2 * CLIENTS + 2)
        until(lambda: any(each["channel"] == "room:1" for node in (killed, left) for each in told(tmp_path, node)))
        os.kill(killed.process.pid, signal.SIGKILL)

        def ends() -> list[dict[str, Any]]:
            return [each for each in told(tmp_path, left) if each["kind"] != "occupied"]

        until(lambda: len(ends()) >= 2 * CLIENTS + 1)
        of_kind = {kind: [each for each in ends() if each["kind"] == kind] for kind in ("disconnect", "unsubscribe")}
        for events in of_kind.values():
            assert {each["user"] for each in events} == {f"u{number}" for number in range(CLIENTS)}
            assert {(each["code"], each["reason"]) for each in events} == {(3014, "node lost")}
            assert all(each["meta"] == {"of": each["user"]} for each in events)
        assert [each["channel"] for each in ends() if each["kind"] == "vacated"] == ["room:1"]
        # The unsubscribe of each comes before its disconnect.
        for number in range(CLIENTS):
            kinds = [each["kind"] for each in ends() if each.get("user") == f"u{number}"]
            assert kinds == ["unsubscribe", "disconnect"]


def until(condition: Any) -> None:
    """Processes of their own have no event to wait for."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
