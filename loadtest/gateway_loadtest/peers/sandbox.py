"""Where servers are kept while they are measured: their files, their processes, and their end."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import psutil

from gateway_loadtest.planning.plan import Protocol

# Seconds for a server to listen, and to end when it is asked to.
START, STOP = 30.0, 10.0
# Seconds for a package client or a compiler.
INSTALL = 600.0
# Seconds between two looks at whether a server listens.
STEP = 0.05
# Not in everybody's PATH.
SERVER_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
PROGRAMS = Path(__file__).parent / "programs"
# Of the servers whose messages have nothing around them.
RAW_PATH = "/{role}/{channel}"


class MissingError(Exception):
    """A peer cannot be measured here. The text says why, and how to get it."""


class RunningPeer(NamedTuple):
    """A peer that runs: where it is, and what it is."""

    protocol: Protocol
    # One for each node.
    targets: tuple[str, ...]
    version: str
    # Between the nodes; empty for a peer of one node.
    redis: str = ""


class Sandbox:
    """The processes of one peer. They end with it."""

    def __init__(self, cache: Path) -> None:
        """`cache`: a folder in which what was installed or compiled is found again."""
        self.cache = cache
        # Of this run only: settings, logs.
        self.folder = Path(tempfile.mkdtemp(prefix="gateway-loadtest-"))
        # A server may give up its privileges, and still has to read what is in here.
        self.folder.chmod(0o755)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._measured: list[int] = []

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The last first: Redis outlives those that use it.
        for process in reversed(self._processes):
            _end(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(
        self, command: Sequence[str | Path], port: int, env: Mapping[str, str] | None = None, *, measured: bool = True
    ) -> None:
        """Start a server and wait until it listens on the port. Raises MissingError."""
        log = self.folder / f"{Path(command[0]).name}-{port}.log"
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(  # noqa: S603 - the peers' own commands
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self.folder,
                    env={**os.environ, **(env or {})},
                    # Ctrl-C is for the generator first: it writes what it has, then the servers end.
                    start_new_session=True,
                )
            except OSError as error:
                raise MissingError(f"{command[0]} cannot be started: {error.strerror}") from None
        self._processes.append(process)
        if measured:
            self._measured.append(process.pid)
        deadline = time.monotonic() + START
        while not _listens(port):
            status = process.poll()
            if status is not None:
                raise MissingError(f"it ended with status {status}: {_tail(log)}")
            if time.monotonic() > deadline:
                raise MissingError(f"it does not listen after {START:g} s: {_tail(log)}")
            time.sleep(STEP)

    def pids(self) -> tuple[int, ...]:
        """Of all processes that are measured, their children too."""
        found = []
        for pid in self._measured:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                found += [pid, *(child.pid for child in process.children(recursive=True))]
        return tuple(found)


def free_port() -> int:
    """From below those that the system gives to outgoing connections, of which there will be thousands."""
    while True:
        port = random.randrange(10_000, 30_000)  # noqa: S311 - not a secret
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def find(name: str, remedy: str, *more: Path) -> Path:
    """A program of the PATH, of Debian's folders for servers, or one of these files. Raises MissingError."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *SERVER_FOLDERS]))
    for path in (Path(found) if found else None, *more):
        if path is not None and path.exists():
            return path
    raise MissingError(f"there is no {name}; to get it: {remedy}")


def make(command: Sequence[str | Path], folder: Path) -> None:
    """Run what installs or compiles. Raises MissingError."""
    name = Path(command[0]).name
    try:
        process = subprocess.Popen(  # noqa: S603 - the peers' own commands
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise MissingError(f"{command[0]} cannot be started: {error.strerror}") from None
    with process:
        try:
            output, errors = process.communicate(timeout=INSTALL)
        except BaseException as error:
            # With its children, who hold its output open.
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise MissingError(f"{name} did not end within {INSTALL:g} s") from None
            raise
    if process.returncode:
        raise MissingError(f"{name} failed: {(errors or output).decode(errors='replace').strip()[-300:]}")


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _tail(log: Path) -> str:
    text = log.read_bytes()[-2000:].decode(errors="replace").strip()
    return text[-300:] or "it says nothing"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With its children, whether or not it cares for them."""
    children: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for each in children:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(children, timeout=STOP)
