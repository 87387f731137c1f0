"""What a fault happens to: nodes behind proxies, their Valkey, and the clients with their checker."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.processes import usage
from tests.faults.checker import Checker
from tests.faults.processes import Node, Processes, Valkey, until
from tests.faults.proxy import Proxy
from tests.faults.publishers import HttpPublisher, Load, Publisher, WebSocketPublisher
from tests.faults.subscribers import Subscriber
from tests.faults.verdicts import Kept, Top
from tests.faults.writer import Writer

NODES = 3
# Seconds after a fault in which everybody must have come to the top.
SETTLE_SECONDS = 30.0
LOOK_SECONDS = 0.5

# Channels by how often something is published to them; nothing comes to the idle ones but what a fault wants.
HOT = [f"hot-{number}" for number in range(4)]
WARM = [f"warm-{number}" for number in range(8)]
COLD = [f"cold-{number}" for number in range(4)]
IDLE = [f"idle-{number}" for number in range(4)]
# For large messages.
WIDE = [f"wide-{number}" for number in range(2)]
CHANNELS = [*HOT, *WARM, *COLD, *IDLE, *WIDE]
_WEIGHTS = [6.0] * len(HOT) + [2.0] * len(WARM) + [0.2] * len(COLD)

# What the nodes are told; the rest is the default.
HISTORY_SIZE = 1_000
HISTORY_SECONDS = 300
OUTBOX = 1024 * 1024
# Recoveries bring half an outbox at most; a little less is surely within.
KEPT = Kept(HISTORY_SIZE, OUTBOX // 2 * 9 // 10, HISTORY_SECONDS - 10.0)

_COUNTERS = {
    "refilled": "gateway_refills_total",
    "asked": "gateway_recoveries_asked_total",
    "done": "gateway_recoveries_done_total",
    "told": "gateway_gaps_announced_total",
}


class Pace(NamedTuple):
    """How long and how much."""

    subscribers: int
    # Publications a second, of all publishers of a kind, and how many there are of each.
    http_rate: float
    websocket_rate: float
    publishers: int
    # Seconds of faults that may be short or long.
    outage: float
    valkey_stop: float
    node_stop: float
    drain: float


LONG = Pace(24, 280.0, 640.0, 5, outage=3.0, valkey_stop=20.0, node_stop=12.0, drain=3.0)
SHORT = Pace(18, 100.0, 200.0, 2, outage=1.0, valkey_stop=4.0, node_stop=11.0, drain=1.0)


class Site:
    """Everything that runs."""

    def __init__(self, processes: Processes, folder: Path, seed: int, pace: Pace, *, durable: bool = False) -> None:
        """`durable`: of a Valkey that loses nothing when it is killed, and nodes that are told so."""
        self.pace = pace
        self.durable = durable
        self.dice = random.Random(seed)
        self.checker = Checker(KEPT)
        # What happened, by kind.
        self.notes: Counter[str] = Counter()
        self.processes = processes
        self.folder = folder
        self._valkeys = 0
        self.valkey = self.make_valkey()
        self.proxies = [Proxy(self.valkey.port) for _ in range(NODES)]
        self.nodes: list[Node] = []
        self.subscribers: list[Subscriber] = []
        self.publishers: list[Publisher] = []
        self.writer = Writer(self.checker)
        self._seed = seed
        self._looking: asyncio.Task[None] | None = None
        # Of the nodes' counters: the last values, and what they have counted in all their lives.
        self._last: dict[tuple[str, str], float] = {}
        self.counted: Counter[str] = Counter()

    def make_valkey(self) -> Valkey:
        """A server to be started."""
        self._valkeys += 1
        return Valkey(self.processes, f"valkey-{self._valkeys}", self.folder)

    @property
    def log_options(self) -> Sequence[str]:
        """Of a Valkey that writes a log."""
        return ("--appendonly", "yes", "--appendfsync", "always" if self.durable else "everysec")

    # Start and stop

    async def start(self) -> None:
        """Returns when everybody is subscribed and something is published."""
        await self.valkey.start(*self.log_options)
        for number, proxy in enumerate(self.proxies):
            await proxy.start()
            self.nodes.append(Node(self.processes, f"node-{number}", self.folder, proxy.port, self._environment()))
        for node in self.nodes:
            node.begin()
        await self.ready()
        self._make_clients([node.port for node in self.nodes])
        # To every other one: whoever subscribes to the rest is there before their streams.
        for channel in CHANNELS[::2]:
            await self.writer.publish(self.nodes[0].port, channel)
        for subscriber in self.subscribers:
            subscriber.start()
        self._looking = asyncio.get_running_loop().create_task(self._look())
        await self.settle()
        for publisher in self.publishers:
            publisher.start()

    def _environment(self) -> dict[str, str]:
        return {
            "GATEWAY_CHANNELS__DELIVERY": "recoverable",
            "GATEWAY_CHANNELS__HISTORY_SIZE": str(HISTORY_SIZE),
            "GATEWAY_CHANNELS__HISTORY_TTL": str(HISTORY_SECONDS),
            "GATEWAY_REDIS__DURABLE": str(self.durable).lower(),
            "GATEWAY_LIMITS__OUTBOX": str(OUTBOX),
            "GATEWAY_DRAIN__WINDOW": str(self.pace.drain),
            # Clients find out sooner that nobody is there.
            "GATEWAY_HEARTBEAT__PING_INTERVAL": "4",
            "GATEWAY_HEARTBEAT__PONG_TIMEOUT": "3",
        }

    def _make_clients(self, ports: Sequence[int]) -> None:
        pace = self.pace
        for number in range(pace.subscribers):
            channels = [HOT[number % 4], HOT[(number + 1) % 4], WARM[number % 8], WARM[(number + 3) % 8]]
            channels += [COLD[number % 4], IDLE[number % 4], WIDE[number % 2]]
            # Some leave a node that is silent, some wait until it goes on.
            patience = 6.0 if number % 2 else 60.0
            seed = self._seed * 1_000 + number
            name = f"subscriber-{number}"
            self.subscribers.append(
                Subscriber(name, channels, self.checker, ports, patience=patience, seed=seed, notes=self.notes)
            )
        channels = [*HOT, *WARM, *COLD]
        for number in range(pace.publishers):
            seed = self._seed * 1_000 + 500 + number
            http = Load(channels, _WEIGHTS, pace.http_rate / pace.publishers, 150)
            websocket = Load(channels, _WEIGHTS, pace.websocket_rate / pace.publishers, 150)
            self.publishers += [
                HttpPublisher(http, self.checker, ports, seed, self.notes, keyed=number % 2 == 0),
                WebSocketPublisher(websocket, self.checker, ports, seed, self.notes),
            ]

    async def stop(self) -> None:
        """The clients and proxies; the processes belong to the caller."""
        if self._looking is not None:
            self._looking.cancel()
        for subscriber in self.subscribers:
            await subscriber.stop()
        for publisher in self.publishers:
            await publisher.stop()
        self.writer.close()
        for proxy in self.proxies:
            await proxy.stop()

    # Looking after it

    async def ready(self) -> None:
        """Until all nodes take clients."""
        for node in self.nodes:
            await node.ready()

    async def settle(self) -> None:
        """Until all subscribers are where the streams ended when this was called. Raises ProcessError after 30 s."""
        await self.ready()
        await self._catch_up(await self.tops())
        await self.count()

    async def _catch_up(self, tops: Mapping[str, Top]) -> None:
        def complaint() -> str:
            late = self.checker.behind(tops)
            first = late[0]
            return (
                f"{len(late)} subscriptions do not come to the top, for instance {first.client} of {first.channel}: "
                f"at {first.epoch}:{first.offset}, live={first.live}, top {tops[first.channel]}; {list(first.events)}"
            )

        await until(lambda: not self.checker.behind(tops), SETTLE_SECONDS, complaint)

    async def tops(self) -> dict[str, Top]:
        """Where the streams end, as the gateway says."""
        port = self.dice.choice(self.nodes).port
        return {channel: await self.writer.top(port, channel) for channel in CHANNELS}

    async def finish(self) -> None:
        """Stop publishing, let all arrive, and have the checker decide."""
        for publisher in self.publishers:
            publisher.going.clear()
        await until(lambda: not any(each.busy for each in self.publishers), SETTLE_SECONDS, lambda: "publishes hang")
        await self.settle()
        self.checker.finish(await self.tops(), asyncio.get_running_loop().time())

    async def count(self) -> None:
        """Add up what the nodes have counted; called often enough, little is lost with a node that is killed."""
        for node in self.nodes:
            mebibytes = usage(node.pid).rss // 2**20
            self.notes["largest node, MiB"] = max(self.notes["largest node, MiB"], mebibytes)
            status, text = await node.get("/metrics")
            if status == 200:
                self._add(node.name, text.decode())

    def _add(self, node: str, text: str) -> None:
        for name, metric in _COUNTERS.items():
            value = sum(float(each) for each in re.findall(rf"^{metric}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))
            before = self._last.get((node, name), 0.0)
            self._last[node, name] = value
            # Less than before: it was started anew.
            self.counted[name] += int(value - before if value >= before else value)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for subscriber in self.subscribers:
                subscriber.look()

    def troubles(self) -> list[str]:
        """What must not happen and is no matter of the checker."""
        found = [each for subscriber in self.subscribers for each in subscriber.terminal]
        found += [f"a publisher failed: {each.failure!r}" for each in self.publishers if each.failure is not None]
        if self._looking is not None and self._looking.done():
            found.append("the look at the subscribers ended")
        found += [f"{node.name} is not running" for node in self.nodes if not node.running]
        found += [f"{node.log}: {line}" for node in self.nodes for line in _outcries(node.log)]
        return found


def _outcries(log: Path) -> Iterable[str]:
    """Lines of a log that a node must not write."""
    if not log.exists():
        return
    with log.open(errors="replace") as lines:
        for line in lines:
            if "Traceback" in line or "internal error" in line or "never awaited" in line:
                yield line.strip()
