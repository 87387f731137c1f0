"""SIGHUP and `gateway reload`, with processes that read a real file."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gateway.tokens import connection_token
from tests.cli.commands import PATIENCE, Command, command, wait_for
from tests.cli.conftest import Run
from tests.servers import free_port, valkey_server

# Each starts processes.
pytestmark = pytest.mark.slow

OLD, NEW = "the first secret of 32 bytes or more", "the second secret of 32 bytes or more"
KEY = "an API key of enough bytes: 32 or more"
FILE = "gateway.toml"
LOCAL = "127.0.0.1"
QUICK = {"GATEWAY_DRAIN__WINDOW": "0", "GATEWAY_INTERNAL_LISTEN": ""}


def write(folder: Path, secret: str, *more: str) -> None:
    """Settings in which clients with a user id may do anything; as editors do it, at once."""
    lines = [
        *(line for line in more if not line.startswith("[")),
        f"api.keys = ['{KEY}']",
        f"auth.hmac_secret = '{secret}'",
        "channels = { allow_subscribe = ['client'], allow_publish = ['client'] }",
        *(line for line in more if line.startswith("[")),
    ]
    (folder / "next").write_text("\n".join(lines))
    (folder / "next").replace(folder / FILE)


class Client:
    """Subscribed to `news`."""

    def __init__(self, socket: ClientConnection, token: str) -> None:
        self.socket = socket
        self._lines: list[dict[str, Any]] = []
        self._send(id=1, connect={"token": token})
        assert self._line()["id"] == 1
        self._send(id=2, subscribe={"channel": "news"})
        assert "subscribe" in self._line()

    def works(self) -> None:
        """The connection is open, and so is the subscription."""
        self._send(id=3, publish={"channel": "news", "data": self.socket.local_address[1]})
        while self._line().get("push", {}).get("pub", {}).get("data") != self.socket.local_address[1]:
            pass

    def _send(self, **command: Any) -> None:
        self.socket.send(json.dumps(command))

    def _line(self) -> dict[str, Any]:
        if not self._lines:
            self._lines += [json.loads(line) for line in str(self.socket.recv(PATIENCE)).split("\n")]
        return self._lines.pop(0)


@contextmanager
def client(port: int, secret: str) -> Iterator[Client]:
    with connect(f"ws://{LOCAL}:{port}/connection/websocket", proxy=None) as socket:
        yield Client(socket, connection_token(secret, "ada"))


def is_admitted(port: int, secret: str) -> bool:
    try:
        with client(port, secret):
            return True
    except ConnectionClosed as closed:
        if closed.rcvd is None or closed.rcvd.code != 3500:
            raise
        return False


@contextmanager
def node(folder: Path, *arguments: str, **env: str) -> Iterator[tuple[Command, int]]:
    """One that serves, with its port."""
    with command("serve", "--listen", f"{LOCAL}:0", *arguments, cwd=folder, env={**QUICK, **env}) as process:
        public = json.loads(process.expect('"serving"')[0])["public"]
        yield process, int(public.rpartition(":")[2])


def test_a_node_reads_its_settings_again_on_sighup(tmp_path: Path) -> None:
    """As often as it comes. Connections stay open; of keys, only the new ones count; what is wrong changes nothing."""
    write(tmp_path, OLD)
    with node(tmp_path) as (process, port), client(port, OLD) as early:
        write(tmp_path, NEW, "listen = '127.0.0.1:1'", "[limits]", "[namespaces.room]", "[drain]\ndelay = 1")
        process.process.send_signal(signal.SIGHUP)
        (line,) = process.expect("reloaded the settings")
        assert json.loads(line)["changed"] == "auth.hmac_secret, namespaces.room"
        # `--listen` beats the file, then and now.
        (line,) = process.expect("settings have changed that need a restart")
        assert json.loads(line)["settings"] == "drain.delay"
        assert not is_admitted(port, OLD)
        assert is_admitted(port, NEW)
        early.works()
        (tmp_path / FILE).write_text("[auth")
        process.process.send_signal(signal.SIGHUP)
        process.expect("the new settings cannot be used, the previous ones stay in force: gateway.toml: not TOML")
        (tmp_path / FILE).unlink()
        process.process.send_signal(signal.SIGHUP)
        process.expect("the new settings cannot be used", "gateway.toml: the settings file cannot be read")
        assert is_admitted(port, NEW)
        early.works()
        write(tmp_path, OLD)
        process.process.send_signal(signal.SIGHUP)
        process.expect("reloaded the settings", count=2)
        assert is_admitted(port, OLD)
        early.works()
        assert process.end() == 0
        assert "Traceback" not in "".join(process.errors)


def test_the_command_reaches_a_node(tmp_path: Path, run: Run) -> None:
    """And says what the node did; what is wrong ends it with 1."""
    write(tmp_path, OLD)
    with node(tmp_path, GATEWAY_NODE_NAME="one") as (_, port), client(port, OLD) as early:
        arguments = ("reload", "--url", f"http://{LOCAL}:{port}", "--api-key", KEY)
        write(tmp_path, NEW, "workers = 2", "redis.url = 'redis://h:1'")
        result = run(*arguments, "one")
        assert result.stdout == "node one: changed auth.hmac_secret; needs a restart for workers, redis.url\n"
        write(tmp_path, "short")
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "node one: nothing was changed: auth.hmac_secret" in result.stderr
        assert "short" not in result.stderr
        assert "no such node; the nodes are: one" in run(*arguments, "two").stderr
        assert is_admitted(port, NEW)
        early.works()


def test_the_environment_stays_what_it_was(tmp_path: Path) -> None:
    """It belongs to the process, and beats the file also when that is read again."""
    write(tmp_path, OLD)
    with node(tmp_path, GATEWAY_AUTH__HMAC_SECRET=NEW) as (process, port):
        assert is_admitted(port, NEW)
        write(tmp_path, "x" * 40, "[namespaces.room]")
        process.process.send_signal(signal.SIGHUP)
        (line,) = process.expect("reloaded the settings")
        assert json.loads(line)["changed"] == "namespaces.room"
        assert is_admitted(port, NEW)


def test_a_file_that_comes_later_is_read(tmp_path: Path) -> None:
    """A node that was started without one looks again."""
    with node(tmp_path, GATEWAY_AUTH__HMAC_SECRET=OLD) as (process, _):
        write(tmp_path, NEW)
        process.process.send_signal(signal.SIGHUP)
        (line,) = process.expect("reloaded the settings")
        assert "api.keys" in json.loads(line)["changed"]


def test_a_node_whose_terminal_was_closed_ends(tmp_path: Path) -> None:
    """As a process that nobody sees any more is expected to; its clients are told to go elsewhere."""
    write(tmp_path, OLD)
    terminal, stdin = os.openpty()
    with command("serve", "--listen", f"{LOCAL}:0", cwd=tmp_path, env=QUICK, stdin=stdin) as process:
        os.close(stdin)
        process.expect('"serving"')
        process.process.send_signal(signal.SIGHUP)
        process.expect("reloaded the settings")
        os.close(terminal)
        assert process.end(signal.SIGHUP) == 0


def test_nohup_is_respected(tmp_path: Path, run: Run) -> None:
    """Who ignores the signal on purpose still has the command."""
    write(tmp_path, OLD)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        started = node(tmp_path)
        process, port = started.__enter__()
    finally:
        signal.signal(signal.SIGHUP, before)
    with ExitStack() as stack:
        stack.push(started)
        write(tmp_path, NEW)
        process.process.send_signal(signal.SIGHUP)
        assert is_admitted(port, OLD)
        assert run("reload", "--url", f"http://{LOCAL}:{port}", "--api-key", KEY).exit_code == 0
        assert is_admitted(port, NEW)
        assert len(process.expect("reloaded the settings")) == 1


def test_all_workers_read_their_settings_again(tmp_path: Path, run: Run) -> None:
    """On the signal to their parent, and on the command to any of them; one that dies comes back with the new ones."""
    with valkey_server() as valkey, ExitStack() as stack:
        write(tmp_path, OLD, f"redis.url = '{valkey.unix_url}'", "node_name = 'w'")
        port = free_port()
        arguments = ("serve", "--workers", "2", "--listen", f"{LOCAL}:{port}")
        env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": f"{LOCAL}:0"}
        supervisor = stack.enter_context(command(*arguments, cwd=tmp_path, env=env))
        supervisor.expect("2 workers serve")
        clients = [stack.enter_context(client(port, OLD)) for _ in range(10)]
        write(tmp_path, NEW, f"redis.url = '{valkey.unix_url}'", "node_name = 'other'")
        supervisor.process.send_signal(signal.SIGHUP)
        lines = supervisor.expect("reloaded the settings", '"w-', count=2)
        assert {json.loads(line)["node"] for line in lines} == {"w-1", "w-2"}
        assert {json.loads(line)["changed"] for line in lines} == {"auth.hmac_secret"}
        waiting = supervisor.expect("settings have changed that need a restart", count=2)
        assert {json.loads(line)["settings"] for line in waiting} == {"node_name"}
        for _ in range(10):
            assert not is_admitted(port, OLD)
        api = ("--url", f"http://{LOCAL}:{port}", "--api-key", KEY)
        write(tmp_path, OLD, f"redis.url = '{valkey.unix_url}'")
        result = run("reload", *api)
        assert sorted(result.stdout.splitlines()) == [
            "node w-1: changed auth.hmac_secret; needs a restart for node_name",
            "node w-2: changed auth.hmac_secret; needs a restart for node_name",
        ]
        for each in clients:
            each.works()
        assert "differ" not in run("nodes", *api).stdout
        # One that dies comes back as the others are, or, when the file is wrong, as it was started.
        for text, said in ((None, "w-1"), ("[auth", "worker 1 starts with the previous ones: gateway.toml: not TOML")):
            write(tmp_path, NEW, f"redis.url = '{valkey.unix_url}'")
            if text is None:
                run("reload", *api)
            else:
                (tmp_path / FILE).write_text(text)
            before = len(supervisor.expect("worker 1", "started"))
            first = re.findall(r"worker 1 \(pid (\d+)\) started", "".join(supervisor.errors))[-1]
            os.kill(int(first), signal.SIGKILL)
            supervisor.expect("worker 1", "started", count=before + 1)
            supervisor.expect(said)
            supervisor.expect('"serving"', '"w-1"', count=before + 1)
            for _ in range(10):
                assert is_admitted(port, NEW)
                assert not is_admitted(port, OLD)
        assert supervisor.end() == 0
        assert "Traceback" not in "".join(supervisor.errors)


def test_a_signal_that_comes_while_nodes_start_is_not_lost(tmp_path: Path) -> None:
    """Whenever it comes: nobody is killed by it, and what was read before it is read again."""
    with valkey_server() as valkey:
        write(tmp_path, OLD, f"redis.url = '{valkey.unix_url}'")
        port = free_port()
        arguments = ("serve", "--workers", "2", "--listen", f"{LOCAL}:{port}")
        env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": f"{LOCAL}:0"}
        with command(*arguments, cwd=tmp_path, env=env) as supervisor:
            supervisor.expect("worker 2", "started")
            write(tmp_path, NEW, f"redis.url = '{valkey.unix_url}'")
            supervisor.process.send_signal(signal.SIGHUP)
            supervisor.expect("2 workers serve")
            supervisor.expect("reloaded the settings", "changed", count=2)
            assert is_admitted(port, NEW)
            assert not is_admitted(port, OLD)


def test_a_cluster_keeps_the_keys_that_were_made_for_it(tmp_path: Path, run: Run) -> None:
    """Where the file has none; the pages of its nodes may connect as before."""
    (tmp_path / FILE).write_text("[channels]\nallow_subscribe = ['client']\nallow_publish = ['client']")
    with command("cluster", "--nodes", "2", "--listen", f"{LOCAL}:0", cwd=tmp_path) as cluster:
        ready = cluster.ready()
        port = int(ready["url"].rpartition(":")[2])
        with client(port, ready["hmac_secret"]) as early:
            with (tmp_path / FILE).open("a") as file:
                file.write("\n[namespaces.room]\n[limits]\nchannels = 7\n")
            cluster.process.send_signal(signal.SIGHUP)
            lines = cluster.expect("reloaded the settings", "changed", count=2)
            assert {json.loads(line)["changed"] for line in lines} == {"limits.channels, namespaces.room"}
            assert not any("need a restart" in line for line in cluster.errors)
            with client(port, ready["hmac_secret"]):
                early.works()
            with (tmp_path / FILE).open("a") as file:
                file.write(f"\n[auth]\nhmac_secret = '{NEW}'\n")
            result = run("reload", "node-2", "--url", ready["url"], "--api-key", ready["api_key"])
            assert result.stdout == "node node-2: changed auth.hmac_secret\n"
            # One of two is as good as the other: both differ, until all have read it.
            api = ("--url", ready["url"], "--api-key", ready["api_key"])
            wait_for(lambda: run("nodes", *api).stdout.count("settings differ: auth") == 2)
            run("reload", *api)
            wait_for(lambda: "differ" not in run("nodes", *api).stdout)
            early.works()
        assert cluster.end() == 0


def test_a_node_that_differs_shows(tmp_path: Path, run: Run) -> None:
    """Among three: which one, and where."""
    with valkey_server() as valkey, ExitStack() as stack:
        ports = []
        for name in ("one", "two", "three"):
            folder = tmp_path / name
            folder.mkdir()
            more = ["[namespaces.room]", "[redis]\ndurable = true"] if name == "two" else []
            write(folder, NEW if name == "two" else OLD, *more)
            env = {"GATEWAY_NODE_NAME": name, "GATEWAY_REDIS__URL": valkey.unix_url}
            ports.append(stack.enter_context(node(folder, **env))[1])
        result = run("nodes", "--url", f"http://{LOCAL}:{ports[0]}", "--api-key", KEY)
        _, one, three, two = result.stdout.splitlines()
        assert two.endswith("settings differ: auth, namespaces, redis")
        assert "differ" not in one + three
        assert one.split()[-1] == three.split()[-1]
        assert re.fullmatch("[0-9a-f]{8}", one.split()[-1])
