"""Looks at the servers while the load runs: local processes, /metrics pages, and Redis."""

import re
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import psutil
import redis

from loadtest.plan import Plan
from loadtest.preflight import loopback_ports
from loadtest.result import Server

# Seconds for a /metrics page or an answer of Redis.
TIMEOUT = 2.0


Kind = Literal["process", "metrics", "redis"]


class Reading(NamedTuple):
    """One look."""

    # CPU seconds since the first look; the restarts of a process are bridged.
    cpu: float
    # Bytes.
    rss: int
    output_buffers: int = 0


class Probe(Protocol):
    """One server."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    def read(self) -> Reading | None:
        """None when it cannot be looked at now. Blocks for up to TIMEOUT."""


class _Bridged:
    """CPU time that goes on counting when the process behind it is another one."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._last: float | None = None

    def add(self, cpu: float) -> float:
        if self._last is not None:
            # Less than before: it was started anew.
            self._sum += cpu - self._last if cpu >= self._last else cpu
        self._last = cpu
        return self._sum


class ProcessProbe:
    """A process of this machine: one that was named, or whoever listens on a port."""

    kind: Kind = "process"

    def __init__(self, name: str, pid: int, port: int | None) -> None:
        self.name = name
        self._port = port
        self._cpu = _Bridged()
        self._process: psutil.Process | None = psutil.Process(pid)

    def read(self) -> Reading | None:
        try:
            if self._process is None or not self._process.is_running():
                pids = listening(self._port) if self._port is not None else []
                self._process = psutil.Process(pids[0]) if pids else None
            if self._process is None:
                return None
            with self._process.oneshot():
                times = self._process.cpu_times()
                return Reading(self._cpu.add(times.user + times.system), self._process.memory_info().rss)
        except psutil.Error:
            self._process = None
            return None


def listening(port: int) -> list[int]:
    """The processes that listen on a port, as far as this user may know; one that only passes it on is left out."""
    pids = set()
    with suppress(psutil.Error):
        for each in psutil.net_connections(kind="tcp"):
            listens = each.status == psutil.CONN_LISTEN and getattr(each.laddr, "port", None) == port
            if listens and each.pid is not None:
                pids.add(each.pid)
    parents = set()
    for pid in pids:
        with suppress(psutil.Error):
            parents.add(psutil.Process(pid).ppid())
    return sorted(pids - parents)


class MetricsProbe:
    """A page in the format of Prometheus."""

    kind: Kind = "metrics"

    def __init__(self, url: str) -> None:
        self.name = urlsplit(url).netloc
        self._url = url
        self._cpu = _Bridged()

    def read(self) -> Reading | None:
        try:
            with urllib.request.urlopen(self._url, timeout=TIMEOUT) as page:  # noqa: S310 - checked by metrics_probe
                text = page.read().decode(errors="replace")
        except OSError:
            return None
        return Reading(
            self._cpu.add(_sum(text, "process_cpu_seconds_total")), int(_sum(text, "process_resident_memory_bytes"))
        )


def _sum(text: str, name: str) -> float:
    return sum(map(float, re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)", text, re.MULTILINE)))


class RedisProbe:
    """INFO and CLIENT LIST."""

    kind: Kind = "redis"

    def __init__(self, url: str) -> None:
        self.name = f"redis {urlsplit(url).hostname or url}:{urlsplit(url).port or 6379}"
        self._cpu = _Bridged()
        self._redis = redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)

    def read(self) -> Reading | None:
        try:
            info = self._redis.info()
            clients = self._redis.client_list()
        except (redis.RedisError, OSError):
            return None
        cpu = float(info["used_cpu_sys"]) + float(info["used_cpu_user"])
        buffers = sum(int(each.get("omem", 0)) for each in clients)
        return Reading(self._cpu.add(cpu), int(info["used_memory_rss"]), buffers)


def probes(plan: Plan) -> list[Probe]:
    """Everything there is to look at."""
    found: dict[int, Probe] = {}
    for pid in plan.pids:
        with suppress(psutil.Error):
            found[pid] = ProcessProbe(f"pid {pid}", pid, None)
    if not plan.pids:
        for port in loopback_ports(plan.targets):
            pids = listening(port)
            for pid in pids:
                # Several behind one port cannot be told apart when they come back.
                found.setdefault(pid, ProcessProbe(f":{port} (pid {pid})", pid, port if len(pids) == 1 else None))
    more: list[Probe] = [MetricsProbe(url) for url in plan.metrics]
    if plan.redis:
        more.append(RedisProbe(plan.redis))
    return [*found.values(), *more]


class Record:
    """What one server showed over the run."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.readings: dict[str, Reading] = {}
        self.latest: Reading | None = None
        # Cores in use between the last two looks.
        self.cores = 0.0
        self._buffers = 0
        self._at = 0.0

    @property
    def kind(self) -> Kind:
        return self._probe.kind

    def look(self, now: float, moment: str = "") -> None:
        """Read, and keep it under the name of a moment."""
        reading = self._probe.read()
        if reading is None:
            return
        if self.latest is not None and now > self._at:
            self.cores = (reading.cpu - self.latest.cpu) / (now - self._at)
        self.latest = reading
        self._at = now
        self._buffers = max(self._buffers, reading.output_buffers)
        if moment:
            self.readings[moment] = reading

    def cpu(self, begin: str, end: str) -> float:
        """CPU seconds between two moments; 0 when one was not seen."""
        if begin not in self.readings or end not in self.readings:
            return 0.0
        return self.readings[end].cpu - self.readings[begin].cpu

    def rss(self, moment: str) -> int:
        return self.readings[moment].rss if moment in self.readings else 0

    def server(self) -> Server:
        return Server(
            name=self._probe.name,
            kind=self._probe.kind,
            cpu_seconds=self.latest.cpu if self.latest is not None else 0.0,
            rss_begin=self.rss(BEGIN),
            rss_connected=self.rss(CONNECTED),
            rss_end=self.rss(END),
            output_buffers=self._buffers,
        )


# Moments of a run at which all are looked at.
BEGIN, CONNECTED, END = "begin", "connected", "end"


def processor_seconds(records: Sequence[Record], begin: str, end: str, *, of_redis: bool) -> float:
    """Of all servers together."""
    return sum(each.cpu(begin, end) for each in records if (each.kind == "redis") is of_redis)
