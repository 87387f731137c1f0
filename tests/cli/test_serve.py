"""`gateway serve`, as a process: alone, and as workers that share a port."""

import http.client
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.cli.commands import PATIENCE, Command, command, is_alive
from tests.servers import free_port, valkey_server

QUICK = {"GATEWAY_DRAIN__WINDOW": "0"}


def status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ports(node: Command) -> tuple[int, int]:
    """Public and internal, from the log."""
    line = json.loads(node.expect('"serving"')[0])
    return int(line["public"].rpartition(":")[2]), int(line["internal"].rpartition(":")[2])


def test_a_node_alone_serves_and_drains(tmp_path: Path) -> None:
    """On the first signal clients are told to come back elsewhere, and it ends well."""
    env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": "127.0.0.1:0"}
    with command("serve", "--listen", "127.0.0.1:0", "--no-auth", cwd=tmp_path, env=env) as node:
        public, internal = ports(node)
        assert node.expect("no_auth: everybody", "warning")
        assert status(public, "/health/ready") == 200
        assert status(internal, "/metrics") == 200
        with connect(f"ws://127.0.0.1:{public}/ws/room") as client:
            client.send("hello")
            assert client.recv(timeout=PATIENCE) == "hello"
            node.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=PATIENCE)
            assert client.close_code == 3001
        assert node.wait() == 0


def test_it_warns_of_what_is_closed(tmp_path: Path) -> None:
    """A node with its defaults lets nobody in, and says so."""
    env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": ""}
    with command("serve", "--listen", "127.0.0.1:0", cwd=tmp_path, env=env) as node:
        node.expect("nobody can connect")
        node.expect("api.keys is empty")
        node.expect('"serving"')
        assert node.end(signal.SIGINT) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Whatever the drain was to take."""
    env = {"GATEWAY_DRAIN__DELAY": "3600", "GATEWAY_INTERNAL_LISTEN": "127.0.0.1:0"}
    with command("serve", "--listen", "127.0.0.1:0", cwd=tmp_path, env=env) as node:
        public, _ = ports(node)
        node.process.send_signal(signal.SIGTERM)
        wait_for(lambda: status(public, "/health/ready") == 503)
        assert node.end() == -signal.SIGTERM


def test_a_unix_socket_is_listened_on_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": ""}
    with command("serve", "--listen", f"unix:{path}", cwd=tmp_path, env=env) as node:
        node.expect('"serving"')
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert node.end() == 0
        assert not path.exists()


def test_tls_works_without_a_proxy(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    env = {
        **QUICK,
        "GATEWAY_INTERNAL_LISTEN": "",
        "GATEWAY_TLS__CERTIFICATE": "certificate.pem",
        "GATEWAY_TLS__KEY": "key.pem",
    }
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with command("serve", "--listen", "localhost:0", "--no-auth", cwd=tmp_path, env=env) as node:
        line = json.loads(node.expect('"serving"')[0])
        port = line["public"].rpartition(":")[2]
        assert line["public"].startswith("https://")
        with connect(f"wss://localhost:{port}/ws/room", ssl=context) as client:
            client.send("hello")
            assert client.recv(timeout=PATIENCE) == "hello"
        assert node.end() == 0


@pytest.mark.parametrize(
    ("arguments", "env", "text"),
    [
        (("--workers", "2"), {}, "redis.url"),
        (("--redis-url", "redis://127.0.0.1:1"), {}, "127.0.0.1:1: Connection refused"),
        ((), {"GATEWAY_LISTNE": "x"}, "GATEWAY_LISTNE"),
        ((), {"GATEWAY_LIMITS__CHANNELS": "many"}, "limits.channels"),
        (("--workers", "2", "--redis-url", "unix:///x", "--listen", "unix:/x"), {}, "expected HOST:PORT"),
        (("--workers", "2", "--redis-url", "unix:///x"), {"GATEWAY_INTERNAL_LISTEN": "unix:/x"}, "internal_listen"),
        (("--workers", "9", "--redis-url", "unix:///x"), {"GATEWAY_INTERNAL_LISTEN": "[::1]:65530"}, "as many ports"),
        (("--demo", "--listen", "0.0.0.0:0"), {}, "allow_open_network"),
        ((), {"GATEWAY_TLS__KEY": "key.pem"}, "tls.certificate"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], text: str) -> None:
    """With the name of the setting, and no traceback."""
    with command("serve", "--listen", "127.0.0.1:0", *arguments, cwd=tmp_path, env=env) as node:
        assert node.wait() != 0
        said = "".join(node.errors)
        assert text in said
        assert "Traceback" not in said


def test_workers_share_a_port_and_are_started_again(tmp_path: Path) -> None:
    """A message crosses from one to the other; one that is killed comes back; SIGTERM ends all."""
    public, internal = free_port(), free_port()
    env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": f"127.0.0.1:{internal}", "GATEWAY_NODE_NAME": "shop"}
    with valkey_server() as valkey:
        arguments = ("--workers", "2", "--redis-url", valkey.url, "--listen", f"127.0.0.1:{public}", "--no-auth")
        with command("serve", *arguments, cwd=tmp_path, env=env) as node:
            node.expect("2 workers serve")
            names = {json.loads(line)["node"] for line in node.expect('"serving"', count=2)}
            assert names == {"shop-1", "shop-2"}
            assert status(internal, "/metrics") == status(internal + 1, "/metrics") == 200
            with connect(f"ws://127.0.0.1:{public}/ws/room") as client:
                client.send("hello")
                assert client.recv(timeout=PATIENCE) == "hello"
            victim = _worker_pids(node)[0]
            os.kill(victim, signal.SIGKILL)
            node.expect(f"pid {victim}", "SIGKILL", "starting it again")
            node.expect('"serving"', count=3)
            assert status(public, "/health/ready") == 200
            pids = _worker_pids(node)
            assert node.end() == 0
            assert not any(is_alive(pid) for pid in pids)


def _worker_pids(node: Command) -> list[int]:
    """The nodes among the children: they run Python."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command_line = (stat.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == node.process.pid and b"gateway.cli.child" in command_line:
            found.append(int(stat.parent.name))
    return found


def test_a_worker_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    """It would die again and again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        internal = taken.getsockname()[1]
        env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": f"127.0.0.1:{internal}"}
        with valkey_server() as valkey:
            arguments = ("--workers", "2", "--redis-url", valkey.url, "--listen", "127.0.0.1:0")
            with command("serve", *arguments, cwd=tmp_path, env=env) as node:
                assert node.wait() == 1
                assert f"127.0.0.1:{internal} is in use" in "".join(node.errors)
                assert "the workers were not started" in node.errors[-1]
