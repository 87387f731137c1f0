"""Commands that go on until they are ended, as processes."""

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Far more than anything takes; only a test that fails waits that long.
PATIENCE = 60.0


class Command:
    """A running `gateway ...` whose lines can be waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.errors: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.errors.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def ready(self) -> dict[str, Any]:
        """What the cluster says on standard output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), "".join(self.errors)
        found: dict[str, Any] = json.loads(line.removeprefix("ready "))
        return found

    def expect(self, *texts: str, count: int = 1) -> list[str]:
        """Wait until so many lines on standard error hold all these texts, and return them."""
        with self._news:
            found: list[str] = []

            def enough() -> bool:
                found[:] = [line for line in self.errors if all(text in line for text in texts)]
                return len(found) >= count or self._ended

            self._news.wait_for(enough, PATIENCE)
            assert len(found) >= count, f"no {texts} in: {''.join(self.errors)}"
            return found

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process, wait for its end, and return its exit code."""
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(PATIENCE)
        self._reader.join()
        return code

    def close(self) -> None:
        """End what is left of it."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in filter(None, (self.process.stdout, self.process.stderr)):
            stream.close()


def get(url: str, path: str) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask until it is so, where nothing tells."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def command(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    terminal: int | None = None,
) -> Iterator[Command]:
    """`gateway ARGUMENTS` in a group of its own, with its log as JSON.

    `terminal`: the side of a pseudo-terminal that programs have. It becomes the controlling terminal, so that a Ctrl-C
    typed at the other side is one for the command.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    started = Command(
        subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments],
            stdin=stdin if terminal is None else terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**inherited, "GATEWAY_LOG__FORMAT": "json", "PYTHONUNBUFFERED": "1", **(env or {})},
            start_new_session=True,
            preexec_fn=None if terminal is None else lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
    )
    try:
        yield started
    finally:
        started.close()


def is_alive(pid: int) -> bool:
    """Whether there is such a process; a zombie is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{pid}/stat")
        if stat.parent.parent.joinpath("self").exists():
            return stat.read_text().rpartition(")")[2].split()[0] != "Z"
        os.kill(pid, 0)
        return True
    return False


def all_gone(pids: Iterable[int]) -> bool:
    return not any(map(is_alive, pids))
