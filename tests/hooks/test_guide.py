"""The code in docs/hooks.md works as it stands."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from gateway.hooks.loading import load_hooks
from gateway.testing import Refused, SyncTestGateway
from tests.api.clients import Native
from tests.api.site import running, settings_of
from tests.embedding.servers import on_uvicorn

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "hooks.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
ROOM: dict[str, Any] = {"namespaces": {"room": {"delivery": "recoverable"}}}


def test_every_block_is_run_here() -> None:
    assert [block.splitlines()[0] for block in BLOCKS] == [
        "# realtime.py",
        "# models.py",
        "# events.py",
        "from fastapi import FastAPI",
    ]


def test_the_first_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "realtime.py").write_text(BLOCKS[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    hooks = load_hooks("realtime:hooks")
    with running(settings_of(**ROOM), hooks=hooks) as site:
        for cookie, room, answer in (("s3cret", "cats", "subscribe"), ("s3cret", "dogs", "error")):
            with connect(
                f"ws://{site.public}/connection/websocket",
                additional_headers={"Cookie": f"session={cookie}"},
                proxy=None,
            ) as socket:
                client = Native(socket, "")
                assert answer in client.command(subscribe={"channel": f"room:{room}"})
        with connect(f"ws://{site.public}/connection/websocket", proxy=None) as socket:
            assert Native(socket, "").connected["error"]["message"] == "log in first"


def test_typed_payloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the error that the text tells, and the document that it names."""
    (tmp_path / "models.py").write_text(BLOCKS[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    hooks = load_hooks("models:hooks")
    with SyncTestGateway(ROOM, hooks=hooks) as gateway:
        ann = gateway.connect("ann")
        with pytest.raises(Refused) as refused:
            ann.publish("room:cats", {"text": 5})
        assert f"gets error {refused.value.code}, `{refused.value.message}`" in GUIDE.read_text()
        ann.publish("room:cats", {"text": "HI"})
        assert [each.data for each in gateway.published] == [{"text": "hi", "sent": None}]


def test_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.py").write_text(BLOCKS[2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with SyncTestGateway({"namespaces": {"game": {}}}, hooks=load_hooks("events:hooks")) as gateway:
        gateway.connect("ann").drop()
    assert re.fullmatch(r"ann left at \d+: connection closed\n", capsys.readouterr().out)


def test_the_application() -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS[3], names)
    with on_uvicorn(names["app"], names["gateway"]) as address, httpx.Client(trust_env=False) as http:
        for offset in (1, 2):
            answer = http.post(f"http://{address}/rooms/cats/lines", params={"text": "hi"})
            assert answer.json() == {"offset": offset}
