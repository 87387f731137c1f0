"""`gateway serve --workers N`, as processes that share a port."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.cli.child import ChildSource
from gateway.cli.options import Sources
from gateway.cli.serve import run_workers, worker_settings
from gateway.config.settings import RedisSettings, ServerSettings
from gateway.errors import ConfigError
from gateway.listeners import AddressInUse
from tests.cli.commands import PATIENCE, Command, all_gone, command, get, wait_for
from tests.servers import ValkeyServer, free_port, valkey_server

# Each starts processes.
pytestmark = [pytest.mark.slow, pytest.mark.traced]

LOCAL = "127.0.0.1"
QUICK = {"GATEWAY_DRAIN__WINDOW": "0", "GATEWAY_INTERNAL_LISTEN": f"{LOCAL}:0"}
# Once in 2^39 runs the kernel gives so many connections to one of two workers.
CLIENTS = 40


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


@contextmanager
def workers(folder: Path, valkey: ValkeyServer, **env: str) -> Iterator[tuple[Command, int]]:
    """Two workers that serve; with them the port they share."""
    port = free_port()
    arguments = ("serve", "--workers", "2", "--listen", f"{LOCAL}:{port}", "--redis-url", valkey.unix_url, "--no-auth")
    with command(*arguments, cwd=folder, env={**QUICK, **env}) as supervisor:
        supervisor.expect("2 workers serve")
        yield supervisor, port


def started(supervisor: Command, count: int = 2) -> list[int]:
    """The processes of so many workers, in the order of their start."""
    lines = supervisor.expect("worker ", "started", count=count)
    return [int(match[1]) for line in lines if (match := re.search(r"pid (\d+)", line))]


def test_workers_share_a_port(tmp_path: Path, valkey: ValkeyServer) -> None:
    """Clients come to each of them, and a message crosses from one to the other.

    Ctrl-C, which a terminal sends to its whole foreground group, drains them like SIGTERM: they are not in it.
    """
    internal = free_port(following=1)
    env = {"GATEWAY_INTERNAL_LISTEN": f"{LOCAL}:{internal}", "GATEWAY_NODE_NAME": "shop"}
    with workers(tmp_path, valkey, **env) as (supervisor, port), ExitStack() as stack:
        assert supervisor.expect("no_auth: everybody", '"warning"')
        for name in ("shop-1", "shop-2"):
            supervisor.expect('"serving"', f'"{name}"')
        clients = [stack.enter_context(connect(f"ws://{LOCAL}:{port}/ws/room")) for _ in range(CLIENTS)]
        for each in (internal, internal + 1):
            status, text = get(f"http://{LOCAL}:{each}", "/metrics")
            assert status == 200
            assert re.search(r"^gateway_connections(\{.*\})? [1-9]", text, re.MULTILINE)
        clients[0].send("hello")
        assert [client.recv(timeout=PATIENCE) for client in clients] == ["hello"] * CLIENTS
        os.killpg(supervisor.process.pid, signal.SIGINT)
        for client in clients:
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=PATIENCE)
            assert client.close_code == 3001
        assert supervisor.wait() == 0
        assert all_gone(started(supervisor))
        assert "Traceback" not in "".join(supervisor.errors)


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    """Later each time, while it dies soon after; the others go on. Once it can serve again, it does."""
    with valkey_server() as own, workers(tmp_path, own) as (supervisor, port):
        first, second = started(supervisor)
        own.kill()
        os.kill(first, signal.SIGKILL)
        supervisor.expect(f"worker 1 (pid {first}) was killed by SIGKILL, starting it again in 0.5 s")
        # Without Redis it starts all the same, and waits.
        supervisor.expect("not ready, trying again", "connection refused")
        supervisor.expect('"serving"', count=3)
        unlucky = started(supervisor, count=3)[-1]
        os.kill(unlucky, signal.SIGKILL)
        supervisor.expect(f"worker 1 (pid {unlucky}) was killed by SIGKILL, starting it again in 1.0 s")
        again = started(supervisor, count=4)[-1]
        supervisor.expect("not ready, trying again", "connection refused", count=2)
        own.start()
        supervisor.expect("joined the cluster")
        os.kill(second, signal.SIGKILL)
        supervisor.expect(f"worker 2 (pid {second}) was killed by SIGKILL, starting it again in 0.5 s")
        # The kernel knows that nobody listens there any more.
        assert get(f"http://{LOCAL}:{port}", "/health/live")[0] == 200
        os.kill(again, signal.SIGTERM)
        # What was told to end by somebody else too.
        supervisor.expect(f"worker 1 (pid {again}) ended with exit code 0, starting it again in")
        supervisor.expect('"serving"', count=6)
        assert supervisor.end() == 0
        assert all_gone(started(supervisor, count=5))


def test_a_second_signal_ends_them_at_once(tmp_path: Path, valkey: ValkeyServer) -> None:
    """Whatever the drain was to take; what is stuck is killed, and that is said."""
    with workers(tmp_path, valkey, GATEWAY_DRAIN__DELAY="3600") as (supervisor, _):
        stuck, _ = pids = started(supervisor)
        os.kill(stuck, signal.SIGSTOP)
        supervisor.process.send_signal(signal.SIGTERM)
        supervisor.expect("shutting down")
        assert supervisor.end() == 1
        assert f"worker 1 (pid {stuck}) did not end in time and is killed" in supervisor.errors[-1]
        assert all_gone(pids)


def test_a_killed_parent_takes_them_along(tmp_path: Path, valkey: ValkeyServer) -> None:
    """Nothing goes on that nobody watches."""
    with workers(tmp_path, valkey) as (supervisor, port):
        pids = started(supervisor)
        supervisor.process.kill()
        wait_for(lambda: all_gone(pids))
        with socket.create_server((LOCAL, port)):
            pass


def test_a_worker_that_cannot_start_ends_the_start(tmp_path: Path, valkey: ValkeyServer) -> None:
    """It would die again and again. Those that started are ended."""
    internal = free_port(following=1)
    with socket.create_server((LOCAL, internal + 1)):
        env = {**QUICK, "GATEWAY_INTERNAL_LISTEN": f"{LOCAL}:{internal}"}
        arguments = ("--workers", "2", "--redis-url", valkey.unix_url, "--listen", f"{LOCAL}:0")
        with command("serve", *arguments, cwd=tmp_path, env=env) as supervisor:
            assert supervisor.wait() == 1
            assert supervisor.expect(f"worker 2: {LOCAL}:{internal + 1} is in use by another process")
            assert "worker 2 (pid" in supervisor.errors[-1]
            assert "ended with exit code 1 before it served; the workers were not started" in supervisor.errors[-1]
            assert all_gone(started(supervisor))


def crew(**values: Any) -> tuple[ServerSettings, ChildSource]:
    """The arguments of `run_workers` for two of them."""
    settings = ServerSettings(workers=2, **values)
    return settings, ChildSource(Sources(None, {}), settings)


def test_an_address_that_cannot_be_shared_is_refused() -> None:
    """Before any worker is started."""
    redis = RedisSettings(url=SecretStr("unix:///x"))
    with socket.create_server((LOCAL, 0)) as taken:
        address = f"{LOCAL}:{taken.getsockname()[1]}"
        with pytest.raises(AddressInUse, match=f"{address} is in use by another process"):
            run_workers(*crew(listen=address, redis=redis))
    with pytest.raises(ConfigError, match="listen = 'unix:/x': several workers share a port, expected HOST:PORT"):
        run_workers(*crew(listen="unix:/x", redis=redis))


def settings_of(internal_listen: str, node_name: str = "") -> ServerSettings:
    return ServerSettings(workers=3, internal_listen=internal_listen, node_name=node_name)


def test_each_worker_has_its_own_internal_listener_and_name() -> None:
    """On the ports from the given one on; none is none, any is any."""
    each = worker_settings(settings_of("[::1]:9000", "shop"))
    assert [settings.internal_listen for settings in each] == [("[::1]:9000",), ("[::1]:9001",), ("[::1]:9002",)]
    assert [settings.node_name for settings in each] == ["shop-1", "shop-2", "shop-3"]
    assert [settings.workers for settings in each] == [1, 1, 1]
    for address, addresses in (("", ()), ("127.0.0.1:0", ("127.0.0.1:0",))):
        assert {settings.internal_listen for settings in worker_settings(settings_of(address))} == {addresses}
    several = worker_settings(settings_of("127.0.0.1:9000, *:9100"))
    assert several[2].internal_listen == ("127.0.0.1:9002", "*:9102")
    assert {settings.node_name for settings in worker_settings(settings_of(""))} == {""}


@pytest.mark.parametrize(
    ("address", "text"),
    [("unix:/x", "expected HOST:PORT, the port of the first one"), ("[::1]:65534", "3 workers need as many ports")],
)
def test_internal_listeners_that_do_not_fit_side_by_side_are_refused(address: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        worker_settings(settings_of(address))
    assert f"internal_listen = {address!r}" in str(caught.value)
