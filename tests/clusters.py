"""Real clusters for the tests: `gateway cluster` as its users start it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class ClusterNode(NamedTuple):
    """One node as the ready line names it."""

    url: str
    internal_url: str
    pid: int
    name: str

    @property
    def ws(self) -> str:
        """Where WebSockets connect to."""
        return self.url.replace("http", "ws", 1)


class Cluster:
    """A running cluster."""

    def __init__(self, ready: dict[str, Any], process: subprocess.Popen[str]) -> None:
        self.ready = ready
        self.process = process
        self.url: str = ready["url"]
        self.api_key: str = ready["api_key"] or ""
        self.hmac_secret: str = ready["hmac_secret"] or ""
        self.nodes = [ClusterNode(**node) for node in ready["nodes"]]


@contextmanager
def running_cluster(*arguments: str, nodes: int = 3, env: dict[str, str] | None = None) -> Iterator[Cluster]:
    """`gateway cluster` on free ports, with `arguments`; returns when it is ready, ends it afterwards."""
    command = [sys.executable, "-m", "gateway", "cluster", "--nodes", str(nodes), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        # A Ctrl-C at the tests must not reach it before they end it.
        start_new_session=True,
    )
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        watchdog.cancel()
        assert line.startswith("ready "), f"the cluster did not start: {line!r}"
        yield Cluster(json.loads(line.removeprefix("ready ")), process)
    finally:
        watchdog.cancel()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            assert process.stdout is not None
            process.stdout.close()
