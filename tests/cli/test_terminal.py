"""`gateway serve` and `gateway cluster` in a terminal, where somebody wants to start again at once."""

import json
import os
import re
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.cli.commands import PATIENCE, Command, command, get
from tests.servers import ValkeyServer, free_port, valkey_server

# Each starts processes.
pytestmark = pytest.mark.slow

ANYBODY = {"GATEWAY_AUTH__ANONYMOUS": "true"}
AT_ONCE = "Ctrl-C closes all connections at once, SIGTERM over drain.window"
OPEN = "SIGTERM and Ctrl-C close all connections at once: drain.window is 0 with no_auth"
# A drain closes this many one after another over its window, and without a window all together.
TABS = 5


class Keyboard(NamedTuple):
    """A pseudo-terminal: the side of the one who types, and that of the program."""

    master: int
    slave: int

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        os.write(self.master, b"\x03")

    def screen(self, last: str) -> str:
        """Wait until this text is shown, and return all that was."""
        shown = ""
        while last not in shown:
            assert select.select([self.master], [], [], PATIENCE)[0], shown
            shown += os.read(self.master, 65536).decode()
        return shown


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    pair = Keyboard(*os.openpty())
    yield pair
    for each in pair:
        os.close(each)


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


@contextmanager
def tabs(url: str) -> Iterator[list[ClientConnection]]:
    """Connections of browser tabs that stay open."""
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(f"{url}/connection/websocket")) for _ in range(TABS)]
        for each in opened:
            each.send('{"id":1,"connect":{}}')
            assert "connect" in json.loads(each.recv(PATIENCE))
        yield opened


def closed(client: ClientConnection) -> int | None:
    """Wait for the close; its code, None if there is none in time."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(PATIENCE)
    return client.close_code


def answers(client: ClientConnection) -> bool:
    """Whether the node still serves it."""
    try:
        return client.ping().wait(PATIENCE) and client.close_code is None
    except ConnectionClosed:
        return False


def windows(node: Command, count: int = 1) -> list[float]:
    """Wait until so many nodes shut down, and return the seconds over which they close their connections."""
    return [json.loads(line)["window"] for line in node.expect("shutting down", count=count)]


def ports() -> tuple[str, str]:
    first = free_port(following=1)
    return f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}"


def serving(node: Command) -> str:
    """Wait until it serves, and return its URL for WebSockets."""
    url: str = json.loads(node.expect('"serving"')[0])["public"]
    return url.replace("http", "ws")


def test_ctrl_c_in_a_terminal_drains_nothing(tmp_path: Path, keyboard: Keyboard) -> None:
    """All tabs are told to come back, without a window, and the same ports serve again as soon as it has ended."""
    listen, internal = ports()
    arguments = ("serve", "--listen", listen, "--internal-listen", internal)
    for _ in range(2):
        with command(*arguments, cwd=tmp_path, env=ANYBODY, terminal=keyboard.slave) as node:
            assert len(node.expect(AT_ONCE)) == 1
            with tabs(serving(node)) as clients:
                keyboard.interrupt()
                assert {closed(each) for each in clients} == {3001}
            assert node.wait() == 0


def test_a_window_in_the_settings_is_kept_in_a_terminal(tmp_path: Path, keyboard: Keyboard) -> None:
    """Of the tabs the first is closed and the others wait for their turn; a second Ctrl-C ends it."""
    listen, internal = ports()
    env = {**ANYBODY, "GATEWAY_DRAIN__WINDOW": "3600"}
    arguments = ("serve", "--listen", listen, "--internal-listen", internal)
    with command(*arguments, cwd=tmp_path, env=env, terminal=keyboard.slave) as node, tabs(serving(node)) as clients:
        keyboard.interrupt()
        node.expect("shutting down")
        assert get(f"http://{internal}", "/health/ready")[0] == 503
        assert sum(map(answers, clients)) >= TABS - 1
        keyboard.interrupt()
        assert node.wait() == -signal.SIGINT
        assert not any(AT_ONCE in line for line in node.errors)


def test_sigterm_drains_in_a_terminal_too(tmp_path: Path, keyboard: Keyboard) -> None:
    """`docker run -it` gives a terminal to a node that `docker stop` ends. Ctrl-C, being the second, ends it then."""
    listen, internal = ports()
    arguments = ("serve", "--listen", listen, "--internal-listen", internal)
    with command(*arguments, cwd=tmp_path, env=ANYBODY, terminal=keyboard.slave) as node:
        node.expect(AT_ONCE)
        with tabs(serving(node)):
            node.process.send_signal(signal.SIGTERM)
            assert windows(node) == [10.0]
            keyboard.interrupt()
            assert node.wait() == -signal.SIGINT


def test_workers_drain_at_sigterm_in_a_terminal_too(tmp_path: Path, keyboard: Keyboard, valkey: ValkeyServer) -> None:
    """Their supervisor passes the signal on."""
    listen, _ = ports()
    arguments = ("serve", "--workers", "2", "--listen", listen, "--internal-listen", "127.0.0.1:0")
    env = {**ANYBODY, "GATEWAY_REDIS__URL": valkey.unix_url}
    with command(*arguments, cwd=tmp_path, env=env, terminal=keyboard.slave) as supervisor:
        supervisor.expect("2 workers serve")
        with tabs(f"ws://{listen}"):
            supervisor.process.send_signal(signal.SIGTERM)
            assert windows(supervisor, 2) == [10.0, 10.0]
            assert supervisor.end() == 0


def test_without_a_terminal_a_node_drains(tmp_path: Path) -> None:
    """In production nobody is there to wait, and clients come back one after another."""
    listen, internal = ports()
    with command("serve", "--listen", listen, "--internal-listen", internal, cwd=tmp_path, env=ANYBODY) as node:
        with tabs(serving(node)):
            node.process.send_signal(signal.SIGTERM)
            assert windows(node, 1) == [10.0]
            assert node.end() == -signal.SIGTERM
        assert not any(AT_ONCE in line for line in node.errors)


def test_without_authentication_nothing_is_drained_either(tmp_path: Path) -> None:
    """It is a node for development, wherever it was started from."""
    listen, internal = ports()
    arguments = ("serve", "--no-auth", "--listen", listen, "--internal-listen", internal)
    with command(*arguments, cwd=tmp_path) as node:
        node.expect(OPEN)
        with tabs(serving(node)) as clients:
            node.process.send_signal(signal.SIGTERM)
            assert {closed(each) for each in clients} == {3001}
        assert node.wait() == 0


def test_workers_in_a_terminal_drain_nothing(tmp_path: Path, keyboard: Keyboard, valkey: ValkeyServer) -> None:
    """They have the window of their supervisor, also after a reload."""
    listen, _ = ports()
    arguments = ("serve", "--workers", "2", "--listen", listen, "--internal-listen", "127.0.0.1:0")
    env = {**ANYBODY, "GATEWAY_REDIS__URL": valkey.unix_url}
    for _ in range(2):
        with command(*arguments, cwd=tmp_path, env=env, terminal=keyboard.slave) as supervisor:
            supervisor.expect(AT_ONCE)
            supervisor.expect("2 workers serve")
            with tabs(f"ws://{listen}") as clients:
                supervisor.process.send_signal(signal.SIGHUP)
                supervisor.expect("reloaded the settings", count=2)
                keyboard.interrupt()
                assert {closed(each) for each in clients} == {3001}
                assert windows(supervisor, 2) == [0.0, 0.0]
            assert supervisor.wait() == 0
            assert not any("need a restart" in line for line in supervisor.errors)


def test_a_cluster_ends_at_once(tmp_path: Path, keyboard: Keyboard) -> None:
    """With tabs open, and its ports serve the next one. A variable of another program does not disturb it."""
    first = free_port(following=2)
    arguments = ("cluster", "--nodes", "2", "--no-auth", "--listen", f"127.0.0.1:{first}")
    for _ in range(2):
        with command(*arguments, cwd=tmp_path, env={"GATEWAY_TOKEN": "x"}, terminal=keyboard.slave) as cluster:
            cluster.expect("warning: GATEWAY_TOKEN is not a variable of this gateway")
            cluster.expect("Ctrl-C ends everything")
            with tabs(f"ws://127.0.0.1:{first}") as clients:
                keyboard.interrupt()
                assert {closed(each) for each in clients} == {3001}
            assert cluster.wait() == 0


@pytest.mark.parametrize(
    ("options", "keys"), [(("--no-auth",), ()), ((), ("API key", "HMAC secret"))], ids=["open", "with keys"]
)
def test_a_cluster_tells_people_no_json(
    tmp_path: Path, keyboard: Keyboard, options: tuple[str, ...], keys: tuple[str, ...]
) -> None:
    """Where nodes and Valkey are, and the keys that were made; an open cluster has none."""
    first = free_port(following=2)
    arguments = ("cluster", "--nodes", "2", "--listen", f"127.0.0.1:{first}", *options)
    with command(*arguments, cwd=tmp_path, terminal=keyboard.slave) as cluster:
        *_, last = (r"embedded Valkey", *keys)
        text = keyboard.screen(last)
        while not text.endswith("\n"):
            text += keyboard.screen("\n")
        lines = text.splitlines()
        assert lines[0] == f"ready: http://127.0.0.1:{first}"
        for line, (name, port) in zip(lines[1:3], (("node-1", first + 1), ("node-2", first + 2)), strict=True):
            assert re.fullmatch(rf"  {name} \(pid \d+\): http://127\.0\.0\.1:{port}", line)
        assert re.fullmatch(r"  embedded Valkey \(pid \d+\): unix://\S+", lines[3])
        for line, name in zip(lines[4:], keys, strict=True):
            assert re.fullmatch(rf"  {name}: [0-9a-f]{{64}}", line)
        assert cluster.end() == 0
