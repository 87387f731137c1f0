"""Looks at the servers while the load runs: local processes, /metrics pages, and Redis."""

import math
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Timer
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import psutil
import redis

from gateway_loadtest.planning.plan import Plan
from gateway_loadtest.planning.preflight import PreflightError, loopback_ports
from gateway_loadtest.text import answered, plain

# Seconds for a /metrics page or an answer of Redis.
TIMEOUT = 2.0
# Bytes of a /metrics page: some hundred times as many as one of the gateway has.
LARGEST_PAGE = 16 * 2**20


Kind = Literal["process", "metrics", "redis"]


class Reading(NamedTuple):
    """What a server showed at one time."""

    # CPU seconds since the first reading; the restarts of a process are bridged.
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

    @property
    def version(self) -> str: ...

    def read(self) -> Reading:
        """Blocks for up to TIMEOUT, and as long again to connect. Raises UnreadableError."""


class UnreadableError(Exception):
    """A server cannot be looked at now."""


class _Bridged:
    """CPU time that goes on counting when the process behind it is another one."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._last: float | None = None

    def begin_anew(self) -> None:
        """Another process counts from 0."""
        if self._last is not None:
            self._last = 0.0

    def add(self, cpu: float) -> float:
        if self._last is not None:
            # Less than before: it was started anew, unnoticed.
            self._sum += cpu - self._last if cpu >= self._last else cpu
        self._last = cpu
        return self._sum


class ProcessProbe:
    """A process of this machine: one that was named, or whoever listens on a port."""

    kind: Kind = "process"
    version = ""

    def __init__(self, name: str, pid: int, port: int | None) -> None:
        self.name = name
        self._port = port
        self._cpu = _Bridged()
        self._process: psutil.Process | None = psutil.Process(pid)

    def read(self) -> Reading:
        try:
            if self._process is None or not self._process.is_running():
                pids = listening(self._port) if self._port is not None else []
                self._process = psutil.Process(pids[0]) if pids else None
                self._cpu.begin_anew()
            if self._process is None:
                raise UnreadableError("the process has ended")
            with self._process.oneshot():
                times = self._process.cpu_times()
                return Reading(self._cpu.add(times.user + times.system), self._process.memory_info().rss)
        except psutil.NoSuchProcess as error:
            self._process = None
            raise UnreadableError(str(error)) from None
        except psutil.Error as error:
            raise UnreadableError(str(error)) from None


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
    version = ""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name = parts.netloc.rpartition("@")[2]
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._cpu = _Bridged()

    def read(self) -> Reading:
        try:
            text = self._page()
            cpu, rss = (_sum(text, name) for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"))
        except (OSError, ValueError, HTTPException) as error:
            raise UnreadableError(str(error) or repr(error)) from None
        return Reading(self._cpu.add(cpu), int(rss))

    def _page(self) -> str:
        """Raises OSError, HTTPException."""
        with closing(self._connection(self._host, self._port, timeout=TIMEOUT)) as connection:
            connection.connect()
            with _deadline(connection.sock):
                connection.request("GET", self._path)
                answer = connection.getresponse()
                page = answer.read(LARGEST_PAGE + 1)
                if answer.status != 200:
                    raise OSError(f"the answer is {answered(answer.status, page)}")
        if len(page) > LARGEST_PAGE:
            raise OSError(f"the page has more than {LARGEST_PAGE} bytes")
        return page.decode(errors="replace")


@contextmanager
def _deadline(sock: socket.socket) -> Iterator[None]:
    """Ends what the block does with a socket, whose own timeout begins anew with every byte. Raises TimeoutError."""
    begin = time.monotonic()

    def end() -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = Timer(TIMEOUT, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    # Where it was ended, the page is not whole, which HTTP/1.0 does not show.
    if time.monotonic() - begin >= TIMEOUT:
        raise TimeoutError(f"no whole answer within {TIMEOUT:g} s")


def _sum(text: str, name: str) -> float:
    """Over all label values. Raises ValueError."""
    values = [float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)", text, re.MULTILINE)]
    if not values:
        raise ValueError(f"the page has no {name}")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} is no number")
    return sum(values)


class RedisProbe:
    """INFO and CLIENT LIST."""

    kind: Kind = "redis"

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name = f"redis {parts.hostname}:{parts.port or 6379}" if parts.hostname else f"redis {parts.path}"
        self.version = ""
        self._cpu = _Bridged()
        self._redis = redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)

    def read(self) -> Reading:
        try:
            info = self._redis.info()
            clients = self._redis.client_list()
        except (redis.RedisError, OSError) as error:
            raise UnreadableError(str(error)) from None
        self.version = _version(info)
        cpu = float(info["used_cpu_sys"]) + float(info["used_cpu_user"])
        buffers = sum(int(each.get("omem", 0)) for each in clients)
        return Reading(self._cpu.add(cpu), int(info["used_memory_rss"]), buffers)


def _version(info: Mapping[str, object]) -> str:
    """Valkey names a version of Redis that it is compatible with beside its own."""
    valkey = info.get("valkey_version")
    return plain(f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version', '')}")


def probes_of(plan: Plan) -> list[Probe]:
    """Everything there is to look at. Raises PreflightError."""
    found: dict[int, Probe] = {}
    for pid in plan.pids:
        try:
            found[pid] = ProcessProbe(f"pid {pid}", pid, None)
        except psutil.Error as error:
            raise PreflightError(f"--pid {pid}: {error}") from None
    # Who names some means those, and not the same ones once more.
    if not plan.pids and not plan.metrics:
        for port in loopback_ports(plan.targets):
            pids = listening(port)
            for pid in pids:
                # One that ends just now is none. Several behind one port cannot be told apart when they come back.
                with suppress(psutil.Error):
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
        # Cores in use between the last two readings.
        self.cores = 0.0
        # Why the last reading failed, or nothing.
        self.trouble = ""
        # The most that was seen, bytes.
        self.output_buffers = 0
        self._at = 0.0

    @property
    def name(self) -> str:
        return self._probe.name

    @property
    def kind(self) -> Kind:
        return self._probe.kind

    @property
    def version(self) -> str:
        """As it told; empty before, and where none is asked for."""
        return self._probe.version

    def read(self, checkpoint: str = "") -> None:
        """Read, and keep it under the name of a checkpoint."""
        try:
            reading = self._probe.read()
        except UnreadableError as error:
            self.trouble = str(error)
            self.cores = 0.0
            return
        self.trouble = ""
        now = time.monotonic()
        if self.latest is not None and now > self._at:
            self.cores = (reading.cpu - self.latest.cpu) / (now - self._at)
        self.latest = reading
        self._at = now
        self.output_buffers = max(self.output_buffers, reading.output_buffers)
        if checkpoint:
            self.readings[checkpoint] = reading

    def cpu(self, begin: str, end: str) -> float:
        """CPU seconds between two checkpoints; 0 when one was not seen."""
        if begin not in self.readings or end not in self.readings:
            return 0.0
        return self.readings[end].cpu - self.readings[begin].cpu

    def rss(self, checkpoint: str) -> int:
        return self.readings[checkpoint].rss if checkpoint in self.readings else 0


# Checkpoints of a run, at which all are read.
BEGIN, CONNECTED, END = "begin", "connected", "end"


def processor_seconds(records: Sequence[Record], begin: str, end: str, *, of_redis: bool) -> float:
    """Of all servers together."""
    return sum(each.cpu(begin, end) for each in records if (each.kind == "redis") is of_redis)
