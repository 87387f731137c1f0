"""What is told after an installation. `helm template` shows no notes, so a copy of the chart has them in an object."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.chart import CHART, NAMESPACE, render, the
from tests.kubernetes.variants import VARIANTS

pytestmark = pytest.mark.slow

SHOWN = """apiVersion: v1
kind: Notes
metadata: {name: notes}
text: {{ tpl (.Files.Get "NOTES.txt") . | quote }}
"""

Notes = Callable[[dict[str, Any]], str]


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    chart = tmp_path / "gateway"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "NOTES.txt").rename(chart / "NOTES.txt")
    (chart / "templates" / "shown.yaml").write_text(SHOWN)

    def of(values: dict[str, Any]) -> str:
        text: str = the(render(values, chart=chart), "Notes")["text"]
        return text

    return of


def test_notes_name_the_secret_and_its_keys(notes: Notes) -> None:
    """The first thing that is missing after an installation with the defaults."""
    assert (
        "wait for the Secret gateway-secrets in this namespace, with the keys api-keys hmac-secret redis-url."
        in notes({})
    )
    assert "redis-url" not in notes(VARIANTS["alone"])
    assert "wait for the Secret" not in notes(VARIANTS["trial"])


def test_notes_tell_where_clients_and_backends_connect(notes: Notes) -> None:
    assert f"ws://gateway.{NAMESPACE}.svc/connection/websocket\n" in notes({})
    assert f"ws://gateway.{NAMESPACE}.svc:443/connection/websocket" in notes(VARIANTS["balanced"])
    assert f"http://gateway-internal.{NAMESPACE}.svc:9000/api" in notes({})
    ingress = notes(VARIANTS["ingress"])
    assert "wss://gateway.example.com/connection/websocket, wss://live.example.com/connection/websocket" in ingress


def test_notes_warn_of_what_clients_would_run_into(notes: Notes) -> None:
    assert "origins.allowed is empty" in notes({})
    assert "networkPolicy.internalFrom is empty" in notes({})
    assert "networkPolicy" not in notes(VARIANTS["placed"])
    assert "trusted_proxies is empty" in notes(VARIANTS["balanced"])
    quiet = notes(VARIANTS["ingress"])
    assert "is empty" not in quiet
    assert "For trials." in notes(VARIANTS["trial"])


def test_notes_say_what_the_autoscaler_needs(notes: Notes) -> None:
    assert "describe hpa gateway" in notes(VARIANTS["scaled"])
    assert "describe hpa" not in notes({})
