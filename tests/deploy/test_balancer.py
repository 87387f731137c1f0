"""What HAProxy itself does with the configuration, in front of a server that answers with what it was asked."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.servers import free_port

CONFIG = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
START_SECONDS = 20.0
SAID = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "203.0.113.8",
    "Forwarded": "for=x",
}


class Balancer(NamedTuple):
    """The ports of its two frontends."""

    public: int
    inside: int


class Node(BaseHTTPRequestHandler):
    """Answers with the path and the headers that arrived."""

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Nodes(ThreadingHTTPServer):
    """HAProxy ends in the midst of its probes, which is no error here."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running(folder: Path, **env: str) -> Iterator[Balancer]:
    """HAProxy with the configuration as it is, but for the ports and the nodes."""
    haproxy = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
    if haproxy is None:
        pytest.skip("no haproxy (Debian: haproxy)")
    node = Nodes(("127.0.0.1", 0), Node)
    threading.Thread(target=node.serve_forever, daemon=True).start()
    ports = Balancer(free_port(), free_port())
    text = CONFIG.read_text()
    for port, other in zip((8000, 9000), ports, strict=True):
        text = text.replace(f"bind :{port}", f"bind 127.0.0.1:{other}")
    text = re.sub(r"node\d:\d+", f"127.0.0.1:{node.server_port}", text)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    process = subprocess.Popen(
        [haproxy, "-db", "-f", config], env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not all(map(listens, ports)):
            assert process.poll() is None, "haproxy ended"
            assert time.monotonic() < deadline, "haproxy does not listen"
            time.sleep(0.02)
        yield ports
    finally:
        process.kill()
        process.wait()
        node.shutdown()
        node.server_close()


def ask(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str]]:
    """The status, and what the node was asked; the path as it is written here."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(body) if answer.status == 200 else {}


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    with running(tmp_path_factory.mktemp("haproxy")) as ports:
        yield ports


@pytest.mark.parametrize(
    "path", ["/health/ready", "/health", "//health/ready", "/%68ealth/ready", "/metrics", "/api/info"]
)
def test_inside_stays_inside(balancer: Balancer, path: str) -> None:
    """The outside gets no probes, no metrics and no API, however the path is written."""
    assert ask(balancer.public, path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/connection/websocket", "/healthy", "/apis"])
def test_clients_pass(balancer: Balancer, path: str) -> None:
    """Everything else reaches a node as it was asked."""
    status, seen = ask(balancer.public, path)
    assert (status, seen["path"]) == (200, path)


def test_inside(balancer: Balancer) -> None:
    """The other port leads backends to the API, and nowhere else."""
    assert ask(balancer.inside, "/api/publish")[0] == 200
    assert ask(balancer.inside, "/metrics")[0] == 404
    assert ask(balancer.inside, "/connection/websocket")[0] == 404


def test_word_of_clients(balancer: Balancer) -> None:
    """What a client says of its address and scheme does not reach a node."""
    seen = ask(balancer.public, "/", SAID)[1]
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert not {"forwarded", "x-real-ip"} & seen.keys()


def test_word_of_a_proxy(tmp_path: Path) -> None:
    """The proxy that is named as TLS_PROXY says address and scheme, in the two headers that count."""
    with running(tmp_path, TLS_PROXY="127.0.0.1") as ports:
        seen = ask(ports.public, "/", SAID)[1]
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == (SAID["X-Forwarded-For"], "https")
    assert not {"forwarded", "x-real-ip"} & seen.keys()
