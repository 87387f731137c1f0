"""What a run found, as it is written to JSON and read again by `report` and `compare`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from gateway_loadtest import __version__

# Changes when a result of before cannot be read any more.
FORMAT = 2


class ResultError(Exception):
    """A file is not a result of this tool."""


# Stages that are no stages of the plan: before them, and after.
CONNECTING, SETTLING = "connect", "settle"
# Bytes of memory per connection below which it is no measure: no server keeps one in less, but reuses what it had.
LEAST_MEMORY = 1024
# Share of a core in the busiest second, below which the generator has not kept itself waiting.
IDLE = 0.5
# As far as a run can go: a file that says more is none of this tool.
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Cost = Annotated[float, msgspec.Meta(ge=0, le=1e15)]


class Spread(msgspec.Struct, frozen=True):
    """A distribution of durations, milliseconds, from an HDR histogram with three significant digits."""

    count: Count = 0
    min: Milliseconds = 0.0
    mean: Milliseconds = 0.0
    p50: Milliseconds = 0.0
    p90: Milliseconds = 0.0
    p95: Milliseconds = 0.0
    p99: Milliseconds = 0.0
    p999: Milliseconds = 0.0
    max: Milliseconds = 0.0
    # For plots: (up to so many ms, count), ascending, empty ranges left out.
    bars: list[tuple[Annotated[float, msgspec.Meta(ge=0.001, le=1e9)], Count]] = []


class Latencies(msgspec.Struct, frozen=True):
    """How long things took; an empty spread where nothing of the kind happened."""

    # From opening the TCP connection until the protocol's handshake is answered.
    connect: Spread = Spread()
    subscribe: Spread = Spread()
    # From the moment a publication was due (not: sent) until its acknowledgement.
    acknowledgement: Spread = Spread()
    # From the moment a publication was due until one subscriber had it.
    delivery: Spread = Spread()
    # From the loss of a connection until its subscriptions stand again.
    recovery: Spread = Spread()


class Pair(msgspec.Struct, frozen=True):
    """What went from the publishers at one target to the subscribers at another: where they were at first."""

    publisher: str
    subscriber: str
    # Acknowledged publications times those subscribed.
    expected: int = 0
    received: int = 0
    # Expected, and never received, though nobody said so.
    lost: int = 0
    duplicated: int = 0
    misordered: int = 0
    # Holes in the sequence of what was accepted, however long each was.
    gaps: int = 0
    # Missed by a subscriber that the server told of it, or that was away and cannot recover there; only what was due
    # before its subscription stood again.
    missed_and_told: int = 0


class Stage(msgspec.Struct, frozen=True):
    """A stretch of the run; seconds since its begin."""

    name: str
    begin: Seconds
    end: Seconds


class Moment(msgspec.Struct, frozen=True):
    """One second of the run, as a rule: published and delivered are rates, errors those since the moment before."""

    at: Seconds
    connections: Count
    published: Count
    delivered: Count
    errors: Count
    # Of the deliveries of this second, milliseconds; 0 when there were none.
    p50: Milliseconds
    p99: Milliseconds
    max: Milliseconds
    # Cores in use: by the generator's busiest worker, and by each server (in the order of `servers`).
    generator_cpu: Cost
    server_cpu: list[Cost] = []


class Server(msgspec.Struct, frozen=True):
    """One process at the other end, or one /metrics page, or Redis. Zero where it cannot be told."""

    name: str
    kind: Literal["process", "metrics", "redis"]
    cpu_seconds: float = 0.0
    # Resident memory, bytes: before the first connection, with all of them, at the end.
    rss_begin: int = 0
    rss_connected: int = 0
    rss_end: int = 0
    # Redis: the largest sum of its clients' output buffers that was seen, bytes.
    output_buffers: int = 0


class Costs(msgspec.Struct, frozen=True):
    """What the servers spent, all together (Redis not counted); zero where it cannot be told."""

    # CPU microseconds while publishing, by everything that was delivered, and by everything that was published.
    per_delivery: Cost = 0.0
    per_publish: Cost = 0.0
    # CPU microseconds while connecting, by connection; bytes of memory by connection.
    per_connect: Cost = 0.0
    memory_per_connection: Cost = 0.0
    # CPU microseconds of Redis, by publication.
    redis_per_publish: Cost = 0.0


class Environment(msgspec.Struct, frozen=True):
    """Where the generator ran, and what it met; empty or zero where it cannot be told."""

    # Model of the processor, and its architecture.
    machine: str = ""
    cores: Count = 0
    # Bytes.
    memory: Count = 0
    kernel: str = ""
    python: str = ""
    # Versions that the servers told when clients connected, and those of Redis.
    servers: list[str] = []
    redis: list[str] = []


class Generator(msgspec.Struct, frozen=True):
    """Whether this tool, or the machine it runs on, was the bottleneck."""

    workers: int
    # Share of a core of the busiest worker: mean over the publishing, and the busiest second.
    cpu: float
    cpu_max: float
    # How late its event loops were, milliseconds.
    lag: Spread
    # Publications sent more than `late_after` milliseconds after they were due.
    slots: int
    late_slots: int
    late_after: float
    # Why the figures say more of the generator, or of its machine, than of the servers; empty when they do not.
    invalid: list[str] = []
    # Why only the slowest latencies do.
    doubts: list[str] = []

    @property
    def is_idle(self) -> bool:
        """Whether it never had much to do: what it did late, it did late because its machine was busy."""
        return 0 < self.cpu_max < IDLE


class Totals(msgspec.Struct, frozen=True):
    """Counts over the run."""

    connections: int = 0
    # Of those, that publish and do not subscribe.
    publishers: int = 0
    # At the end, of those: connected, with all subscriptions.
    standing: int = 0
    connects_failed: int = 0
    # Connections lost, and those of them that this tool cut.
    disconnects: int = 0
    cut: int = 0
    reconnects: int = 0
    # Clients that were at another target in the end than at first; that stopped reading for a while.
    moved: int = 0
    stopped: int = 0
    recovered: int = 0
    not_recovered: int = 0
    published: int = 0
    acknowledged: int = 0
    # Refused by the server, or not sent since there was no connection; with a connection lost before the answer;
    # without an answer though the connection stood.
    refused: int = 0
    unknown: int = 0
    unanswered: int = 0
    expected: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    misordered: int = 0
    gaps: int = 0
    missed_and_told: int = 0
    # Deliveries to clients that are not subscribed to the channel.
    misrouted: int = 0
    # Deliveries per second in the publishing stages.
    delivery_rate: float = 0.0
    publish_rate: float = 0.0


Outcome = Literal["passed", "lost", "refused", "disconnected", "invalid", "unreachable", "broken", "interrupted"]


class Result(msgspec.Struct, frozen=True):
    """A run."""

    scenario: str
    # The options as they were used.
    options: dict[str, Any]
    targets: list[str]
    # Of the begin, ISO 8601, UTC.
    started: str
    seconds: float
    outcome: Outcome
    # One sentence each: what the outcome rests on, and what else should be known.
    remarks: list[str]
    totals: Totals
    latencies: Latencies
    pairs: list[Pair]
    stages: list[Stage]
    timeline: list[Moment]
    servers: list[Server]
    costs: Costs
    generator: Generator
    environment: Environment = Environment()
    # What went wrong, with how often.
    errors: dict[str, int] = {}
    format: int = FORMAT
    version: str = __version__


def encode(result: Result) -> bytes:
    """As JSON, which `read` reads."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"


def read(path: Path) -> Result:
    """Raises ResultError, with the path in its text."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ResultError(f"{path} is not a result of gateway-loadtest: {error}") from None
    if result.format != FORMAT:
        raise ResultError(f"{path} is a result of format {result.format}; this version reads format {FORMAT}")
    return result
