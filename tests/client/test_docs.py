"""The examples of docs/client.md run as they are written."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tests.api.clients import native, settled
from tests.api.site import KEY, OPEN, Site, running, settings_of
from tests.client.test_client import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
FIRST, APPLICATION, READING = BLOCKS


def run(code: str, site: Site) -> dict[str, Any]:
    """The names that it defines."""
    assert "127.0.0.1:8000" in code
    names: dict[str, Any] = {"__name__": "example"}
    exec(code.replace("127.0.0.1:8000", site.public).replace("<one of api.keys>", KEY), names)
    return names


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """An application on a server of its own, with its lifespan; the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield "http://{}:{}".format(*listener.getsockname())
    finally:
        server.should_exit = True
        thread.join(60)


def test_the_first_example(site: Site) -> None:
    with native(site, "42") as client, settled(site, "chat:lobby") as lobby:
        names = run(FIRST, site)
        assert lobby.recv(10) == '{"text":"hello"}'
        assert client.close_code() == (3503, "logged out")
    names["gateway"].close()


def test_the_application(site: Site) -> None:
    """Made without a loop, closed with its lifespan."""
    names = run(APPLICATION, site)
    with settled(site, "orders") as client:
        # Twice: it may start again in the same process, as in tests.
        for _ in range(2):
            with serving(names["app"]) as url:
                assert httpx.post(f"{url}/orders/7/ship", timeout=60, trust_env=False).status_code == 204
            assert client.recv(10) == '{"id":7,"state":"shipped"}'


def test_reading(capsys: pytest.CaptureFixture[str]) -> None:
    with running(settings_of(channels={**OPEN, "delivery": "recoverable"})) as site:
        run(READING, site)
    assert capsys.readouterr().out == "[0, 1, 2]\n"


def test_all_methods_are_named() -> None:
    named = re.findall(r"`(\w+)`", PAGE[PAGE.index("## Methods") : PAGE.index("Data is any JSON")])
    assert {*named} == METHODS | {"channel_pages"}
