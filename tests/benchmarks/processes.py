"""The processes under measurement, and what the kernel says they used."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """CPU seconds and resident bytes of a process."""

    cpu: float
    rss: int


def usage(pid: int) -> Usage:
    """From /proc: run time in nanoseconds where the kernel has it (schedstat), else in clock ticks."""
    try:
        # Of all threads; the main thread's file alone would miss a helper thread.
        tasks = Path(f"/proc/{pid}/task").iterdir()
        cpu = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except FileNotFoundError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(cpu, int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE)


class Node(NamedTuple):
    """A running node."""

    url: str
    pid: int
    ready: dict[str, Any]

    @property
    def redis_pid(self) -> int:
        return int(self.ready["redis_pid"])


@contextmanager
def node(*, auth: bool = False, settings: dict[str, str] | None = None) -> Iterator[Node]:
    """One node with an embedded Valkey; open, or with tokens."""
    flags = [] if auth else ["--no-auth"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "cluster", "--nodes", "1", "--listen", "127.0.0.1:0", *flags],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={
                **os.environ,
                "GATEWAY_LIMITS__COMMANDS_PER_SECOND": "0",
                "GATEWAY_LIMITS__PUBLISHES_PER_SECOND": "0",
                "GATEWAY_LIMITS__UNAUTHENTICATED": "20000",
                # What is open is recoverable and has presence, unless something else is said.
                "GATEWAY_CHANNELS__DELIVERY": "live",
                "GATEWAY_CHANNELS__PRESENCE": "false",
                **(settings or {}),
            },
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("ready "):
                log.seek(0)
                raise RuntimeError(f"the cluster did not start: {log.read()}")
            ready = json.loads(line.removeprefix("ready "))
            (only,) = ready["nodes"]
            yield Node(only["url"], only["pid"], ready)
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()
