"""SDK clients as processes, driven by lines of JSON."""

import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SDK_FOLDER = Path(__file__).parents[1] / "sdk"

# Far more than anything takes; only a test that fails waits that long.
PATIENCE = 30.0


class Client:
    """A process that says what happens to it, one JSON object a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        # What was expected so far, and what came before it.
        self.seen: list[dict[str, Any]] = []
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def tell(self, **message: Any) -> None:
        """Ask the client for something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def expect(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next event of this kind with these fields; others before it are passed over."""
        start = len(self.seen)
        try:
            while (message := self._events.get(timeout=PATIENCE)) is not None:
                self.seen.append(message)
                if message["event"] == event and fields.items() <= message.items():
                    return message
        except queue.Empty:
            pass
        raise AssertionError(f"no {event} {fields}; instead: {self.seen[start:]}")

    def subscribe(self, channel: str, **options: str) -> None:
        """Subscribe, and wait until it is done."""
        self.tell(subscribe=channel, **options)
        self.expect("subscribed", channel=channel)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()


@contextmanager
def _client(command: Sequence[str]) -> Iterator[Client]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    client = Client(process)
    try:
        yield client
    finally:
        client.close()


ENCODINGS = ("json", "protobuf")


def _arguments(options: Sequence[str]) -> list[str]:
    return ["protobuf" if "protobuf" in options else "json", *(each for each in options if each not in ENCODINGS)]


@contextmanager
def npm_client(url: str, token: str = "", *options: str) -> Iterator[Client]:
    """The npm package `centrifuge`, connected to the native endpoint of a node (`ws://host:port`).

    `options`: "protobuf", and "refresh" to be asked for fresh tokens.
    """
    command = [need_node(), str(SDK_FOLDER / "client.mjs"), f"{url}/connection/websocket", token, *_arguments(options)]
    with _client(command) as client:
        client.expect("connected")
        yield client


@contextmanager
def npm_stream_client(url: str, other: str, transport: str, token: str = "", *options: str) -> Iterator[Client]:
    """The same over `sse` or `http_stream` from one node (`http://host:port`), with its commands sent to another."""
    command = [need_node(), str(SDK_FOLDER / "client.mjs"), f"{url}/connection/{transport}", token]
    with _client([*command, *_arguments((*options, f"{transport}={other}/emulation"))]) as client:
        client.expect("connected")
        yield client


@contextmanager
def npm_emitter(url: str) -> Iterator[Client]:
    """The npm package `@socket.io/redis-emitter`, connected to a Redis."""
    with _client([need_node(), str(SDK_FOLDER / "emitter.mjs"), url]) as client:
        client.expect("connected")
        yield client


@contextmanager
def python_client(url: str, token: str = "", *options: str) -> Iterator[Client]:
    """The PyPI package `centrifuge-python`, connected to the native endpoint of a node, with the same options."""
    command = [
        sys.executable,
        "-m",
        "tests.cluster.python_client",
        f"{url}/connection/websocket",
        token,
        *_arguments(options),
    ]
    with _client(command) as client:
        client.expect("connected")
        yield client


@contextmanager
def npm_socketio(url: str, token: str = "", *transport: str) -> Iterator[Client]:
    """The npm package `socket.io-client`, which connects to `http://host:port`, and `/namespace` for another one.

    `transport`: "polling" or "websocket"; without it, as by default.
    """
    with _client([need_node(), str(SDK_FOLDER / "socketio.mjs"), url, token, *transport]) as client:
        yield client


@contextmanager
def python_socketio(url: str, token: str = "", *transport: str) -> Iterator[Client]:
    """The asyncio client of the PyPI package `python-socketio`, with the same options."""
    with _client([sys.executable, "-m", "tests.cluster.socketio_client", url, token, *transport]) as client:
        yield client


def need_node() -> str:
    """The path of Node.js, whose packages are installed too; skips the test without them."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    if not (SDK_FOLDER / "node_modules").is_dir():
        pytest.skip("needs the npm packages: make tests/sdk/node_modules")
    return node
