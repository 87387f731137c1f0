"""`gateway serve`, as a process of one node."""

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.cli.commands import PATIENCE, Command, command, get, wait_for
from tests.cli.conftest import Run
from tests.servers import ValkeyServer, free_port, valkey_server

ANYWHERE = ("serve", "--listen", "127.0.0.1:0")
# No wait for clients to leave, and no port that another node may hold.
QUICK = {"GATEWAY_DRAIN__WINDOW": "0", "GATEWAY_INTERNAL_LISTEN": ""}


def addresses(node: Command) -> tuple[str, str]:
    """Where it serves, publicly and internally, from the log."""
    line = json.loads(node.expect('"serving"')[0])
    return line["public"], line["internal"]


def test_a_node_alone_serves_and_drains(tmp_path: Path) -> None:
    """On the first signal clients are told to come back elsewhere, and it ends well."""
    env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": "127.0.0.1:0"}
    with command(*ANYWHERE, "--no-auth", cwd=tmp_path, env=env) as node:
        public, internal = addresses(node)
        assert node.expect("no_auth: everybody", '"warning"')
        assert get(public, "/health/ready")[0] == 200
        assert get(public, "/metrics")[0] == 404
        assert get(internal, "/metrics")[0] == 200
        with connect(f"{public.replace('http', 'ws')}/ws/room") as client:
            client.send("hello")
            assert client.recv(timeout=PATIENCE) == "hello"
            node.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=PATIENCE)
            assert client.close_code == 3001
        assert node.wait() == 0
        assert "Traceback" not in "".join(node.errors)


def test_the_demo_page_may_connect_to_its_node(tmp_path: Path) -> None:
    """From every address of this machine that it can be opened at, also after a reload; other pages may not."""
    port = free_port()
    with command("serve", "--demo", "--listen", f"127.0.0.1:{port}", cwd=tmp_path, env=QUICK) as node:
        public, _ = addresses(node)
        ws = f"{public.replace('http', 'ws')}/connection/websocket"
        for _ in range(2):
            for host in ("127.0.0.1", "localhost"):
                with connect(ws, origin=Origin(f"http://{host}:{port}")) as page:
                    assert page.ping().wait(PATIENCE)
            with pytest.raises(InvalidStatus), connect(ws, origin=Origin("http://evil.example")):
                pass
            node.process.send_signal(signal.SIGHUP)
            node.expect("reloaded the settings")
        assert node.expect("origin http://evil.example is not in origins.allowed")
        assert node.end() == 0


def test_it_warns_of_what_is_closed(tmp_path: Path) -> None:
    """A node with its defaults lets nobody in, and says so. Ctrl-C ends it too."""
    with command(*ANYWHERE, cwd=tmp_path, env=QUICK) as node:
        node.expect("nobody can connect", '"warning"')
        node.expect("api.keys is empty", '"warning"')
        addresses(node)
        assert node.end(signal.SIGINT) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Whatever the drain was to take; until then the load balancer sees that it is not ready."""
    env = {**QUICK, "GATEWAY_DRAIN__DELAY": "3600"}
    with command(*ANYWHERE, "--log-level", "info", cwd=tmp_path, env=env) as node:
        public, _ = addresses(node)
        node.process.send_signal(signal.SIGTERM)
        wait_for(lambda: get(public, "/health/ready")[0] == 503)
        assert get(public, "/health/live")[0] == 200
        assert node.end() == -signal.SIGTERM


def test_a_unix_socket_is_listened_on_and_removed(tmp_path: Path) -> None:
    """It takes the place of one that a killed node left behind, and not of one that is used."""
    path = tmp_path / "gateway.sock"
    arguments = ("serve", "--listen", f"unix:{path}")
    with command(*arguments, cwd=tmp_path, env=QUICK) as killed:
        addresses(killed)
        with command(*arguments, cwd=tmp_path, env=QUICK) as second:
            assert second.wait() == 1
            assert f"unix:{path} is in use by another process" in second.errors[-1]
        killed.process.kill()
        killed.wait()
    assert path.exists()
    with command(*arguments, cwd=tmp_path, env=QUICK) as node:
        addresses(node)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert node.end() == 0
        assert not path.exists()


def test_tls_works_without_a_proxy(tmp_path: Path) -> None:
    """By files that the settings name."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    (tmp_path / "gateway.toml").write_text('[tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\n')
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with command("serve", "--listen", "localhost:0", "--no-auth", cwd=tmp_path, env=QUICK) as node:
        public, _ = addresses(node)
        assert public.startswith("https://")
        url = f"wss://localhost:{public.rpartition(':')[2]}/ws/room"
        assert asyncio.run(echoed(url, context)) == "hello"
        assert node.end() == 0


async def echoed(url: str, context: ssl.SSLContext) -> str | bytes:
    """In one thread: before Python 3.13, two that read and write the same TLS connection can lock up."""
    async with asyncio.timeout(PATIENCE), connect_async(url, ssl=context, proxy=None) as client:
        await client.send("hello")
        return await client.recv()


@pytest.mark.parametrize(
    ("arguments", "env", "text"),
    [
        (("--workers", "2"), {}, "redis.url: not set, but workers = 2"),
        (("--workers", "0"), {}, "workers = '0'"),
        ((), {"GATEWAY_LISTNE": "x"}, "GATEWAY_LISTNE"),
        ((), {"GATEWAY_LIMITS__CHANNELS": "many"}, "limits.channels = 'many'"),
        (("--demo", "--listen", "0.0.0.0:0"), {}, "allow_open_network"),
        (("--no-auth", "--internal-listen", "0.0.0.0:0"), {}, "allow_open_network"),
        ((), {"GATEWAY_TLS__KEY": "key.pem"}, "tls.certificate"),
        (("--config", "missing.toml"), {}, "missing.toml"),
    ],
)
def test_bad_settings_are_refused_by_name(run: Run, arguments: tuple[str, ...], env: dict[str, str], text: str) -> None:
    """Before anything is started."""
    result = run("serve", "--listen", "127.0.0.1:0", *arguments, **env)
    assert (result.exit_code, result.stdout) == (1, "")
    assert text in result.stderr


def test_a_node_may_start_before_its_redis(tmp_path: Path) -> None:
    """Not ready, and it says why; alive, and telling metrics; ready as soon as Redis is there."""
    server = ValkeyServer()
    env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": "127.0.0.1:0"}
    try:
        with command(*ANYWHERE, "--no-auth", "--redis-url", server.url, cwd=tmp_path, env=env) as node:
            node.expect("not ready, trying again", "connection refused", "redis.url")
            public, internal = addresses(node)
            status, body = get(internal, "/health/ready")
            assert status == 503
            assert "connection refused" in json.loads(body)["reason"]
            assert get(internal, "/health/live")[0] == 200
            assert "gateway_broker_up 0.0" in get(internal, "/metrics")[1]
            with connect(f"{public.replace('http', 'ws')}/connection/websocket") as client:
                client.send('{"id":1,"connect":{}}\n{"id":2,"publish":{"channel":"room","data":1}}')
                replies: list[dict[str, Any]] = []
                while len(replies) < 2:
                    replies += map(json.loads, client.recv(PATIENCE).splitlines())
                assert "connect" in replies[0]
                assert replies[1]["error"]["code"] == 100
                server.start()
                node.expect("joined the cluster")
                wait_for(lambda: get(internal, "/health/ready")[0] == 200)
                client.send('{"id":3,"publish":{"channel":"room","data":1}}')
                assert json.loads(client.recv(PATIENCE)) == {"id": 3, "publish": {}}
            assert node.end() == 0
            assert "Traceback" not in "".join(node.errors)
    finally:
        server.stop()


def test_a_node_waits_for_a_password_that_is_right(tmp_path: Path) -> None:
    """It may be mended on the server; the log says what Redis said, and shows none."""
    env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": "127.0.0.1:0"}
    with valkey_server(password="right") as server:
        url = server.url.replace("right", "wrong-one")
        with command(*ANYWHERE, "--redis-url", url, cwd=tmp_path, env=env) as node:
            node.expect("not ready, trying again", "refuses this password", "redis.url")
            _, internal = addresses(node)
            assert "refuses this password" in get(internal, "/health/ready")[1]
            with redis.Redis.from_url(server.url) as client:
                client.config_set("requirepass", "wrong-one")
            node.expect("joined the cluster")
            assert node.end() == 0
            assert "wrong-one" not in "".join(node.errors)


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    """With the setting that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with command("serve", "--listen", address, cwd=tmp_path, env=QUICK) as node:
            assert node.wait() == 1
            assert node.errors[-1] == f"Error: {address} is in use by another process (setting listen)\n"


def test_the_installed_command_is_the_same(tmp_path: Path) -> None:
    """`gateway` and `python -m gateway`."""
    installed = [str(Path(sys.executable).with_name("gateway"))]
    module = [sys.executable, "-m", "gateway"]
    said = [subprocess.check_output([*each, "serve", "--help"], cwd=tmp_path) for each in (installed, module)]
    assert said[0] == said[1]
