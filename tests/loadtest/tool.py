"""The tool as its users start it, and servers for it."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gateway_loadtest.results import result
from gateway_loadtest.results.result import Result
from tests.servers import free_port

SECRET = "a-secret-that-is-long-enough-for-hmac-sha256"
# For a process to be ready, and for a run to end.
PATIENCE = 60.0
# Of nodes that the tool may publish into.
OPEN = {
    "GATEWAY_AUTH__HMAC_SECRET": SECRET,
    "GATEWAY_CHANNELS__ALLOW_SUBSCRIBE": "client",
    "GATEWAY_CHANNELS__ALLOW_PUBLISH": "client",
    "GATEWAY_CHANNELS__DELIVERY": "recoverable",
    "GATEWAY_LIMITS__PUBLISHES_PER_SECOND": "0",
}


class Outcome(NamedTuple):
    """How a run of the tool ended."""

    status: int
    output: str
    result: Result | None


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """`gateway-loadtest` with a result file in the folder."""
    command = [sys.executable, "-m", "gateway_loadtest", *arguments, "--json", str(folder / "result.json")]
    return subprocess.Popen(
        [*command, "--html", str(folder / "report.html")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "LOADTEST_TOKEN_SECRET": SECRET, "COLUMNS": "160"},
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]", folder: Path) -> Outcome:
    """Wait for its end."""
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    path = folder / "result.json"
    return Outcome(process.returncode, output, result.read(path) if path.exists() else None)


def run(folder: Path, *arguments: str) -> Outcome:
    return finish(start(folder, *arguments), folder)


@contextmanager
def node(module: str = "gateway", env: dict[str, str] | None = None) -> Iterator[tuple[int, int]]:
    """`gateway serve` in a process of its own; its port and process id."""
    port = free_port()
    command = [sys.executable, "-m", module, "serve", "--listen", f"127.0.0.1:{port}", "--internal-listen", ""]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **OPEN, **(env or {})}
    )
    try:
        until_ready(port)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def until_ready(port: int) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"port {port} does not get ready")
