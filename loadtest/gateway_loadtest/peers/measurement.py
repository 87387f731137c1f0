"""Measures the peers one after the other: started, measured with the same load, and ended."""

import os
import platform
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from gateway_loadtest.peers import binaries, packages
from gateway_loadtest.peers.sandbox import MissingError, RunningPeer, Sandbox
from gateway_loadtest.peers.side_by_side import LIMIT, Fanout, Peer, SideBySide
from gateway_loadtest.planning import scenarios
from gateway_loadtest.planning.plan import Plan, UsageError
from gateway_loadtest.reporting import summary
from gateway_loadtest.results.result import Result
from gateway_loadtest.running.coordinator import run
from gateway_loadtest.wires.wire_factory import make_wire

PEERS: dict[str, Callable[[Sandbox], RunningPeer]] = {
    LIMIT: binaries.send_loop,
    "gateway, 1 node": packages.gateway,
    "gateway, 2 nodes + Redis": packages.gateway_cluster,
    "Nchan (nginx)": binaries.nchan,
    "NATS server": binaries.nats,
    "Node ws": packages.ws,
    "Socket.IO, 2 nodes + Redis": packages.socketio,
    "python-socketio, 2 nodes + Redis": packages.python_socketio,
    "Django Channels, 2 nodes + Redis": packages.channels,
}
# Subscribers in each channel, and deliveries per second that are asked for with them. Low enough that most servers are
# not busy all the time: what is measured is CPU time by delivery, which does not depend on what else the machine does.
RATES = {1: 2_000.0, 10: 10_000.0, 100: 20_000.0}
# A peer that loses publications or is so late (p99, ms) is asked again, for so many times less, twice at most.
LATE = 1000.0
# Outcomes of a server that could not keep up, or does not keep what it says.
FAILED = ("lost", "refused", "disconnected")
LESS = 4.0
ATTEMPTS = 3
# Connections of one channel while nothing is published.
IDLE_MEMBERS = 10
CONNECT_RATE = 1000.0
# Seconds beyond that for all connections to stand.
CONNECT_TIMEOUT = 20.0

Say = Callable[[str], None]


class Load(NamedTuple):
    """The same for all peers."""

    # Connections while memory is read, and while something is published.
    idle: int = 2000
    subscribers: int = 500
    # Bytes of a publication.
    payload: int = 128
    # For which is published, with each number of subscribers per channel.
    seconds: float = 4.0


def measure(
    names: Collection[str] = (), *, load: Load | None = None, cache: Path | None = None, say: Say = lambda text: None
) -> SideBySide:
    """All peers, or those whose names contain one of `names`; `say` gets a line for each.

    Raises UsageError, PreflightError, and KeyboardInterrupt: whatever was started has ended then.
    """
    load = load or Load()
    wanted = {name: start for name, start in PEERS.items() if not names or any(_within(part, name) for part in names)}
    if not wanted:
        raise UsageError(f"no peer is named {', '.join(names)}; there are: {'; '.join(PEERS)}")
    started = datetime.now(UTC).isoformat(timespec="seconds")
    peers: list[Peer] = []
    missing: dict[str, str] = {}

    def measured(name: str, into: list[Peer]) -> None:
        say(f"{name} ...")
        try:
            with Sandbox(cache or default_cache()) as sandbox:
                into.append(_peer(name, wanted[name](sandbox), sandbox, load))
        except MissingError as error:
            missing[name] = str(error)
            say(f"{name} is missing: {error}")

    for name in wanted:
        measured(name, peers)
    again: list[Peer] = []
    if LIMIT in wanted and len(peers) > 1:
        # All are compared with it: what the machine did to it meanwhile, it did to them.
        measured(LIMIT, again)
    return SideBySide(
        started=started,
        machine=f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, {platform.machine()}",
        idle=load.idle,
        subscribers=load.subscribers,
        payload=load.payload,
        seconds=load.seconds,
        peers=peers,
        again=again[0] if again else None,
        missing=missing,
    )


def default_cache() -> Path:
    """What was installed for the peers; may be deleted."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "gateway-loadtest"


def _within(part: str, name: str) -> bool:
    return part.strip().lower() in name.lower()


def _peer(name: str, running: RunningPeer, sandbox: Sandbox, load: Load) -> Peer:
    # Once for what is loaded, compiled and opened at the first connection; nobody is charged for that.
    _run(running, sandbox, _rooms(load, members=10, connections=100, rate=1000.0, seconds=1.0))
    idle = _run(
        running,
        sandbox,
        {
            "scenario": "idle",
            "channels": max(load.idle // IDLE_MEMBERS, 1),
            "members": IDLE_MEMBERS,
            "rate": 0.0,
            "stages": scenarios.idle(1.0),
            "payload": load.payload,
        },
    )
    return Peer(
        name=name,
        version=running.version,
        nodes=len(running.targets),
        acknowledges=make_wire(running.protocol, "").acknowledges,
        per_connect=idle.costs.per_connect,
        memory=idle.costs.memory_per_connection,
        fanouts=[_fanout(running, sandbox, load, members) for members in RATES],
    )


def _fanout(running: RunningPeer, sandbox: Sandbox, load: Load, members: int) -> Fanout:
    rate = RATES[members]
    for attempt in range(ATTEMPTS):
        settings = _rooms(load, members, load.subscribers, rate, load.seconds)
        result = _run(running, sandbox, settings)
        struggles = result.outcome in FAILED or result.latencies.delivery.p99 > LATE
        if not struggles or attempt == ATTEMPTS - 1:
            break
        rate /= LESS
    return Fanout(
        members=members,
        asked=rate,
        received=result.totals.received / load.seconds,
        per_delivery=result.costs.per_delivery,
        redis_per_publish=result.costs.redis_per_publish,
        p50=result.latencies.delivery.p50,
        p99=result.latencies.delivery.p99,
        lost=result.totals.expected - result.totals.received,
        remarks=[
            *([f"could not keep up with {RATES[members]:,.0f} deliveries/s, was asked for {rate:,.0f}"]
              if rate < RATES[members] else []),
            *([summary.headline(result)] if result.outcome in FAILED else []),
            *result.generator.invalid,
            *result.generator.doubts,
        ],
    )  # fmt: skip


def _rooms(load: Load, members: int, connections: int, rate: float, seconds: float) -> dict[str, object]:
    """`rate`: deliveries per second, all together."""
    channels = max(connections // members, 1)
    return {
        "scenario": "rooms",
        "channels": channels,
        "members": members,
        "rate": rate / (channels * members),
        "stages": scenarios.steady(seconds),
        "payload": load.payload,
    }


def _run(running: RunningPeer, sandbox: Sandbox, settings: dict[str, object]) -> Result:
    """Raises MissingError when the peer does not do what it should at all."""
    plan = Plan(
        **settings,  # type: ignore[arg-type]  # of _rooms and _peer
        targets=running.targets,
        protocol=running.protocol,
        pids=sandbox.pids(),
        redis=running.redis,
        workers=1,
        connect_rate=CONNECT_RATE,
        connect_timeout=CONNECT_TIMEOUT,
        grace=3.0,
    )
    result = run(plan)
    if result.outcome == "interrupted":
        raise KeyboardInterrupt
    if result.outcome == "unreachable" or (plan.publishes and not result.totals.received):
        raise MissingError("; ".join([*result.remarks, *list(result.errors)[:3]]) or "it delivers nothing")
    return result
