"""One process of the generator: its share of the connections and of the publications."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import uvloop

from gateway_loadtest.counting.accounts import Account, Published
from gateway_loadtest.counting.counters import Counters, Counts, Tick
from gateway_loadtest.counting.marks import Marks
from gateway_loadtest.planning.plan import ClientPlan, Plan, StagePlan, dice, publishers, some, subscribers
from gateway_loadtest.running.load_client import Client
from gateway_loadtest.running.schedule import Schedule
from gateway_loadtest.wires.wire_factory import make_wire

# Seconds between looks at the lateness of the loop.
LAG_INTERVAL = 0.05
# Linux: a bound socket gets its port when it connects, so that ports are shared between destinations.
IP_BIND_ADDRESS_NO_PORT = 24
# Attempts to connect that one worker has under way.
CONNECTING = 200


# What the coordinator says.


class Connect(NamedTuple):
    """Open all connections."""


class BeginStage(NamedTuple):
    """Publish, and do what the stage says, from `begin` on (CLOCK_MONOTONIC, nanoseconds)."""

    plan: StagePlan
    rate: float
    begin: int


class EndStage(NamedTuple):
    """The stage is over, whose commands decided how long it lasts."""


class Finish(NamedTuple):
    """Publish only what is due already, wait `patience` seconds for the answers that are missing, and tell what was
    published. Said again, nothing more is published, and the new time counts."""

    patience: float


class Search(NamedTuple):
    """Tell which of these publications somebody has got, though they do not count as accepted: numbers by channel."""

    excluded: dict[int, list[int]]


class Count(NamedTuple):
    """Account for everything, disconnect and end."""

    published: dict[int, Published]


# What a worker says: Tick (every second), Finished, Found, Counts (at the end), or Broken.


class Finished(NamedTuple):
    published: dict[int, Published]


class Found(NamedTuple):
    """Numbers by channel."""

    numbers: dict[int, set[int]]


class Broken(NamedTuple):
    """The worker itself failed."""

    text: str


class Worker:
    """Context of its clients."""

    def __init__(self, pipe: Connection, plan: Plan, run: str, index: int, workers: int) -> None:
        self._pipe = pipe
        self._plan = plan
        self._index = index
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._dice = dice(plan, "worker", index)
        self.random = self._dice.random
        self.channel = plan.channel
        self.counters = Counters()
        self.marks = Marks(run, plan.payload)
        self.targets = plan.targets
        self.first_delay = plan.back_within
        self.grace = int(plan.grace * 1e9)
        self._connecting = asyncio.Semaphore(CONNECTING)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._subscribers = [self._client(each, subscribes=True) for each in subscribers(plan, index, workers)]
        self._publishers = (
            [self._client(each, subscribes=False) for each in publishers(plan)[index::workers]]
            if plan.publishes
            else []
        )
        clients = {channel: client for client in self._publishers for channel in client.plan.channels}
        order = sorted(clients)
        self._dice.shuffle(order)
        self._schedule = Schedule(clients, order, self.marks, self.counters)
        # That have begun.
        self._stages = 0
        self._stage_over = asyncio.Event()
        self._finishing: asyncio.Task[Any] | None = None
        self._over = asyncio.Event()

    # Life

    async def run(self) -> None:
        self._loop.add_reader(self._pipe.fileno(), self._read)
        # uvloop has made it non-blocking: what is larger than the pipe holds would be cut off.
        os.set_blocking(self._pipe.fileno(), True)
        self._start(self._beat())
        self._start(self._watch_lag())
        await self._over.wait()
        self._loop.remove_reader(self._pipe.fileno())
        self._schedule.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Any) -> "asyncio.Task[Any]":
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._tell(Broken(repr(task.exception())))
            self._over.set()

    def _read(self) -> None:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            # The coordinator is gone.
            self._over.set()
            return
        match message:
            case Connect():
                self._start(self._connect())
            case BeginStage():
                self._start(self._act(message))
            case EndStage():
                self._stage_over.set()
                self._schedule.end()
            case Finish(patience):
                if self._finishing is not None:
                    self._finishing.cancel()
                self._finishing = self._start(self._finish(patience))
            case Search(excluded):
                self._tell(Found(self._search(excluded)))
            case Count(published):
                self._count(published)

    def _tell(self, message: Tick | Finished | Found | Counts | Broken) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            self._over.set()

    async def _beat(self) -> None:
        due = math.ceil(self._loop.time())
        while True:
            # Timers keep whole milliseconds, and may be early by one: that is no second of its own.
            await asyncio.sleep(due - self._loop.time())
            self._tell(self.counters.tick())
            due = max(due + 1, math.ceil(self._loop.time()))

    async def _watch_lag(self) -> None:
        """Looks that were missed are made up for, so that shares of them are shares of the time."""
        due = time.monotonic_ns()
        while True:
            due += int(LAG_INTERVAL * 1e9)
            await asyncio.sleep(max(due - time.monotonic_ns(), 0) / 1e9)
            now = time.monotonic_ns()
            self.counters.lag.add(max(now - due, 0))
            self.counters.flush()

    # What is asked

    async def _connect(self) -> None:
        """At an even rate, which all workers share."""
        interval = self._workers / self._plan.connect_rate
        begin = self._loop.time()
        for number, client in enumerate([*self._publishers, *self._subscribers]):
            await asyncio.sleep(max(begin + number * interval - self._loop.time(), 0))
            self.spawn(client)

    async def _act(self, stage: BeginStage) -> None:
        self._stage_over.clear()
        await asyncio.sleep(max(stage.begin - time.monotonic_ns(), 0) / 1e9)
        self._stages += 1
        for client in self._some("drop", stage.plan.drop):
            client.cut()
        slow = self._some("slow", stage.plan.slow)
        for client in slow:
            client.read(False)
        is_open_ended = bool(stage.plan.commands)
        if self._publishers and stage.rate > 0:
            await self._schedule.run(stage.begin, stage.plan.seconds, stage.rate, open_ended=is_open_ended)
        if is_open_ended:
            await self._stage_over.wait()
        end = stage.begin + int(stage.plan.seconds * 1e9)
        await asyncio.sleep(max(end - time.monotonic_ns(), 0) / 1e9)
        for client in slow:
            client.read(True)

    def _some(self, purpose: str, share: float) -> list[Client]:
        """This worker's part of those that all workers choose alike."""
        chosen = some(self._plan, share, purpose, self._stages)
        return [
            client for number, client in enumerate(self._subscribers) if self._index + number * self._workers in chosen
        ]

    async def _finish(self, patience: float) -> None:
        self._schedule.stop()
        await self._schedule.settle(patience)
        self._tell(Finished(self._schedule.published))

    def _search(self, excluded: dict[int, list[int]]) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for client in self._subscribers:
            for channel, subscription in client.subscriptions.items():
                numbers = found.setdefault(channel, set())
                numbers.update(filter(subscription.has, excluded.get(channel, ())))
        return found

    def _count(self, published: dict[int, Published]) -> None:
        accounts: dict[tuple[int, int], Account] = {}
        for client in self._subscribers:
            for channel, subscription in client.subscriptions.items():
                key = (self._plan.publisher_target(channel), client.plan.target)
                accounts.setdefault(key, Account()).add(subscription.account(published.get(channel, Published())))
        self.counters.moved = sum(
            client.target != client.plan.target for client in (*self._subscribers, *self._publishers)
        )
        self._tell(self.counters.counts(accounts))
        for client in (*self._subscribers, *self._publishers):
            client.end()
        self._over.set()

    # Context of a client

    def spawn(self, client: Client) -> None:
        if not client.over:
            self._start(self._open(client))

    async def _open(self, client: Client) -> None:
        async with self._connecting:
            await client.open()

    def source(self) -> Callable[[object], socket.socket] | None:
        sources = self._plan.sources
        if not sources:
            return None
        return partial(_bound, self._dice.choice(sources))

    def ready(self, client: Client) -> None:
        self.counters.ready += 1

    def acknowledged(self, client: Client, number: int, error: str) -> None:
        self._schedule.acknowledged(client, number, error)

    def lost(self, client: Client) -> None:
        self._schedule.lost(client)

    def _client(self, plan: ClientPlan, *, subscribes: bool) -> Client:
        wire = make_wire(self._plan.protocol, self._plan.token_secret, subscribes=subscribes)
        return Client(self, plan, wire, subscribes=subscribes)


def _bound(address: str, _: object) -> socket.socket:
    """A socket that connects from an address."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setblocking(False)
    # Elsewhere than on Linux the port is chosen now.
    with contextlib.suppress(OSError):
        made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    made.bind((address, 0))
    return made


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of a name that is not known the client has heard, and has counted it; uvloop tells it twice."""
    if not isinstance(context.get("exception"), socket.gaierror):
        loop.default_exception_handler(context)


def main(pipe: Connection, plan: Plan, run: str, index: int, workers: int) -> None:
    """The process."""
    # Ctrl-C, and what `timeout` sends, reach the whole group: the coordinator decides what it means.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    # It tells of every pause of a connection; what matters is counted.
    logging.getLogger("picows").setLevel(logging.ERROR)

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(_complain)
        await Worker(pipe, plan, run, index, workers).run()

    uvloop.run(work())
