"""examples/django_news: PostgreSQL, Django with the gateway in it, and the relay."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.api.clients import PATIENCE, Native
from tests.examples.test_fastapi_chat import await_serving
from tests.servers import free_port, postgres_server

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "django_news"


@contextmanager
def news() -> Iterator[str]:
    """HOST:PORT of the application, once it serves."""
    address = f"127.0.0.1:{free_port()}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    with postgres_server() as database:
        own = {"DATABASE_URL": database.url, "GATEWAY_LISTEN": address, "GATEWAY_INTERNAL_LISTEN": "127.0.0.1:0"}
        process = subprocess.Popen(
            [sys.executable, "run.py"],
            cwd=FOLDER,
            env={**inherited, **own, "GATEWAY_DRAIN__WINDOW": "0", "GATEWAY_DRAIN__DELAY": "0"},
            start_new_session=True,
        )
        try:
            await_serving(f"http://{address}/realtime/health/ready", process)
            yield address
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_articles_and_their_announcements_are_one() -> None:
    """For readers who are logged in: what was not stored was not announced."""
    with news() as address, httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
        url = f"ws://{address}/realtime/connection/websocket"
        with connect(url, proxy=None) as socket:
            assert Native(socket, "").connected["error"]["message"] == "log in first"
        assert http.post("/articles", data={"title": "one"}).status_code == 403
        http.post("/login", data={"name": "ann", "password": "change me"}).raise_for_status()
        cookies = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
        with connect(url, proxy=None, additional_headers={"Cookie": cookies}) as socket:
            reader = Native(socket, "")
            reader.subscribe("news")
            for title, status in [("one", 201), ("one", 409), ("two", 201)]:
                assert http.post("/articles", data={"title": title}).status_code == status
            titles = [reader.push()["pub"]["data"]["title"] for _ in range(2)]
        assert titles == ["one", "two"]
