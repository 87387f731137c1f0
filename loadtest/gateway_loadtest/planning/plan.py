"""What a run does: who connects where, what is published, and what happens meanwhile."""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway_loadtest.planning.target_urls import HIDDEN, is_redis, is_url, public, shown

Protocol = Literal["centrifuge", "centrifuge_http_stream", "centrifuge_sse", "sse", "raw", "nats", "socketio"]
PROTOCOLS: tuple[Protocol, ...] = (
    "centrifuge",
    "centrifuge_http_stream",
    "centrifuge_sse",
    "sse",
    "raw",
    "nats",
    "socketio",
)
# Whose clients send commands in HTTP requests, over a connection beside the one of the response.
EMULATED: tuple[Protocol, ...] = ("centrifuge_http_stream", "centrifuge_sse")
# Whose targets are those of HTTP.
OVER_HTTP: tuple[Protocol, ...] = (*EMULATED, "sse")
# A connection is its channel.
ONE_CHANNEL: tuple[Protocol, ...] = ("sse", "raw")
# Where the protocol sse has a channel.
SSE_PATH = "/sse/{channel}"
REDIS = "redis://[:PASSWORD@]HOST[:PORT][/DB], rediss:// or unix:///PATH[?db=N], the password percent-encoded"
# Bytes that a mark needs at most: a run of 6 characters, three numbers and their separators.
SMALLEST_PAYLOAD = 64
# Seconds that anything may last: a year.
LONGEST = 31_536_000.0
# Channels that share one publishing connection, so that a channel's publications keep their order.
PUBLISHERS_PER_TARGET = 16


class UsageError(Exception):
    """The options, or a scenario file, make no run."""


class StagePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of the run."""

    name: str
    seconds: float
    # Publications per channel and second; None: as in the plan.
    rate: float | None = None
    # Share of the subscribers, 0 to 1, whose connections are cut when it begins.
    drop: float = 0.0
    # Share of the subscribers, 0 to 1, that read nothing until it ends.
    slow: float = 0.0
    # Run one after the other by the shell, each when the one before has ended, `pause` seconds between them.
    commands: tuple[str, ...] = ()
    pause: float = 0.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A run. All that is random follows from `seed`."""

    scenario: str
    targets: tuple[str, ...]
    protocol: Protocol = "centrifuge"
    stages: tuple[StagePlan, ...]
    # Rooms, and subscribers in each.
    channels: int = 0
    members: int = 0
    # Channels that one connection is subscribed to.
    channels_per_connection: int = 1
    # Connections that do nothing but stay.
    idle: int = 0
    # Publications per channel and second.
    rate: float = 1.0
    # Bytes of a publication.
    payload: int = 128
    # Without a `:`, as in a namespace: servers that are open for tests take it.
    prefix: str = "load-"
    token_secret: str = ""
    workers: int = 0
    # Connections opened per second, by all workers together.
    connect_rate: float = 500.0
    connect_timeout: float = 60.0
    # Seconds in which those that were cut come back.
    back_within: float = 1.0
    # Seconds without a delivery after which nothing more is waited for.
    grace: float = 10.0
    # Addresses of this machine to connect from; none: the system chooses.
    sources: tuple[str, ...] = ()
    max_loss: int = 0
    # Publications that may be refused, or lose their connection before the answer; None: any number where commands
    # break something, else none.
    max_refused: int | None = None
    seed: int = 1
    # Where to look at the servers; where none is named, local processes that listen on a target's port are found.
    pids: tuple[int, ...] = ()
    metrics: tuple[str, ...] = ()
    redis: str = ""

    def __post_init__(self) -> None:
        self._check(bool(self.targets), "at least one target")
        for target in self.targets:
            plain, secure = ("http", "https") if self.protocol in OVER_HTTP else ("ws", "wss")
            forms = f"{plain}://host:port or {secure}://host:port"
            self._check(is_url(target, plain, secure), f"a target as {forms}, not {shown(target)}")
            if self.protocol == "sse":
                path = urlsplit(target).path
                self._check(
                    path in ("", "/") or path.endswith(SSE_PATH),
                    f"a target without a path, or with one that ends with {SSE_PATH}: {shown(target)}",
                )
            if self.protocol == "raw":
                self._check("{channel}" in target, f"{{channel}} in the target of the protocol raw: {shown(target)}")
        for page in self.metrics:
            self._check(is_url(page, "http", "https"), f"a metrics page as http://host:port/metrics, not {shown(page)}")
        self._check(not self.redis or is_redis(self.redis), f"a Redis as {REDIS}")
        self._check(self.protocol in PROTOCOLS, f"a protocol of {', '.join(PROTOCOLS)}, not {self.protocol!r}")
        for name in ("channels", "members", "idle", "workers", "max_loss", "rate"):
            self._check(0 <= getattr(self, name) < math.inf, f"{name} of at least 0")
        for name in ("grace", "back_within"):
            self._check(0 <= getattr(self, name) < LONGEST, f"{name} from 0 seconds to a year")
        self._check((self.max_refused or 0) >= 0, "max_refused of at least 0")
        for name in ("connect_rate", "connect_timeout"):
            self._check(0 < getattr(self, name) < math.inf, f"{name} above 0")
        self._check(self.channels * self.members + self.idle > 0, "at least one connection")
        self._check(self.payload >= SMALLEST_PAYLOAD, f"a payload of at least {SMALLEST_PAYLOAD} bytes")
        self._check(self.channels_per_connection > 0, "at least one channel per connection")
        self._check(
            self.protocol not in ONE_CHANNEL or self.channels_per_connection == 1,
            f"one channel per connection in {self.protocol}",
        )
        self._check(bool(self.stages), "at least one stage")
        for stage in self.stages:
            self._check(0 <= stage.seconds < LONGEST, f"stage {stage.name!r}: seconds from 0 to a year")
            self._check(0 <= (stage.rate or 0) < math.inf, f"stage {stage.name!r}: a rate of at least 0")
            self._check(0 <= stage.pause < LONGEST, f"stage {stage.name!r}: a pause of at least 0")
            self._check(0 <= stage.drop <= 1 and 0 <= stage.slow <= 1, f"stage {stage.name!r}: shares between 0 and 1")

        if self.publishes:
            publications = sum(self.rate_of(stage) * stage.seconds for stage in self.stages) * self.channels
            self._check(publications >= 1, "at least one publication: a higher rate, or more seconds")

    def _check(self, holds: bool, needed: str) -> None:
        if not holds:
            raise UsageError(f"a run needs {needed}")

    @property
    def connections(self) -> int:
        """Of subscribers and idle ones; publishers come on top."""
        return self._chunks * self.members + self.idle

    @property
    def _chunks(self) -> int:
        return -(-self.channels // self.channels_per_connection)

    @property
    def publishers(self) -> int:
        return len(publishers(self)) if self.publishes else 0

    @property
    def sockets(self) -> int:
        """Of all connections: those whose clients send in requests of their own have two."""
        return (self.connections + self.publishers) * (2 if self.protocol in EMULATED else 1)

    @property
    def publishes(self) -> bool:
        return self.channels > 0 and any(self.rate_of(stage) > 0 for stage in self.stages)

    def rate_of(self, stage: StagePlan) -> float:
        return self.rate if stage.rate is None else stage.rate

    @property
    def refusals(self) -> float:
        """Publications that need not be accepted."""
        if self.max_refused is not None:
            return self.max_refused
        return math.inf if any(stage.commands for stage in self.stages) else 0

    @property
    def breaks(self) -> bool:
        """Whether subscribers lose their connection by what the run does: then they may miss something, and be told."""
        return any(stage.drop or stage.slow or stage.commands for stage in self.stages)

    def channel(self, index: int) -> str:
        return f"{self.prefix}{index}"

    def publisher_target(self, channel: int) -> int:
        return channel % len(self.targets)

    @property
    def options(self) -> dict[str, Any]:
        """For the result: without secrets."""
        options: dict[str, Any] = msgspec.to_builtins(self)
        for name in ("token_secret", "redis"):
            options[name] = HIDDEN if options[name] else ""
        for name in ("targets", "metrics"):
            options[name] = [public(url) for url in options[name]]
        return options


class ClientPlan(NamedTuple):
    """One connection: where, and what it is subscribed to."""

    target: int
    channels: Sequence[int]


def subscribers(plan: Plan, worker: int, workers: int) -> Iterator[ClientPlan]:
    """The share of one worker: every so many, from number `worker` on. Subscribers of a channel are spread over all
    targets, and begin at another than its publisher's."""
    step = plan.channels_per_connection
    number = 0
    for member in range(plan.members):
        for chunk in range(plan._chunks):
            if number % workers == worker:
                channels = range(chunk * step, min((chunk + 1) * step, plan.channels))
                yield ClientPlan((chunk + member + 1) % len(plan.targets), channels)
            number += 1
    for index in range(plan.idle):
        if (number + index) % workers == worker:
            yield ClientPlan(index % len(plan.targets), ())


def publishers(plan: Plan) -> list[ClientPlan]:
    """The publishing connections: every channel has one."""
    groups: dict[tuple[int, int], list[int]] = {}
    for channel in range(plan.channels):
        target = plan.publisher_target(channel)
        # In the protocol raw a connection is its channel.
        slot = channel if plan.protocol == "raw" else channel // len(plan.targets) % PUBLISHERS_PER_TARGET
        groups.setdefault((target, slot), []).append(channel)
    return [ClientPlan(target, channels) for (target, _), channels in groups.items()]


def some(plan: Plan, share: float, *purpose: object) -> set[int]:
    """A share of the subscribers, by their numbers in the order of `subscribers`; one at least, unless it is 0."""
    number = max(round(share * plan.connections), 1) if share else 0
    return set(dice(plan, *purpose).sample(range(plan.connections), number))


def dice(plan: Plan, *purpose: object) -> random.Random:
    return random.Random(f"{plan.seed}:{purpose}")  # noqa: S311 - repeatable, not secret
