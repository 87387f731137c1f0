"""A node as a process: from its start to the signal that ends it."""

import gc
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from gateway import log
from gateway.errors import ConfigError
from gateway.running import run_node
from tests.api.site import settings_of


@pytest.fixture
def _process_as_before() -> Iterator[None]:
    """Logging and the garbage collector belong to the process."""
    root, thresholds = logging.getLogger(), gc.get_threshold()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", *log.TALKATIVE):
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).propagate = True
        logging.getLogger(name).filters.clear()


@pytest.mark.usefixtures("_process_as_before")
def test_run_node_serves_until_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    """On the sockets that it is given; says when it accepts; ends with 0."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    statuses: list[int] = []

    def ask() -> None:
        try:
            statuses.append(httpx.get(f"http://{host}:{port}/health/ready", trust_env=False).status_code)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    settings = settings_of(internal_listen="127.0.0.1:0", node_name="one", log={"format": "json"})
    assert run_node(settings, sockets=[listener], on_ready=thread.start) == 0
    thread.join()
    assert statuses == [200]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["node"] for line in lines} == {"one"}
    assert f"http://{host}:{port}" in next(line["public"] for line in lines if line["message"] == "serving")


@pytest.mark.usefixtures("_process_as_before")
def test_run_node_says_why_it_cannot() -> None:
    """No address: an error whose text names the setting. (For Redis it waits.)"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        with pytest.raises(ConfigError, match="listen"):
            run_node(settings_of(listen=address, internal_listen="127.0.0.1:0"))
