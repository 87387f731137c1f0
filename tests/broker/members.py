"""Nodes without anything but their broker, for the tests of the engines."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import NamedTuple, Protocol

from fakeredis import TcpFakeServer
from pydantic import SecretStr

from gateway.broker.base import Broker, EventLog, Ledger, Presence, Registry
from gateway.broker.memory.memory_broker import MemoryBroker
from gateway.broker.memory.memory_events import MemoryEvents
from gateway.broker.memory.memory_registry import MemoryRegistry
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.redis_broker import RedisBroker
from gateway.broker.redis.redis_registry import RedisRegistry
from gateway.config.settings import RedisSettings, ServerSettings
from gateway.control import Answer, Control, NodeId, NodeInfo
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.messages import NO_OPTIONS, Channel, Event, Membership, Publication, PublishOptions, PublishResult
from gateway.metrics import Metrics

# Far more than anything takes; only a test that fails waits that long.
PATIENCE = 20.0

# Those of a node, for publishers.
IN_FORCE = ServerSettings()


class Inbox:
    """A receiver that remembers, and answers control messages with `affected`."""

    def __init__(self) -> None:
        self.affected: Answer = 1
        self.publications: list[Publication] = []
        self.memberships: list[Membership] = []
        # How many came together.
        self.batches: list[int] = []
        self.controls: list[Control] = []
        self.relayed: list[bytes] = []
        self.gaps: list[Channel] = []
        self.unreadable: list[Channel] = []
        # How many times.
        self.caught_up = self.control_lost = 0
        self._changed = asyncio.Event()

    def on_events(self, channel: Channel, events: Sequence[Event]) -> None:
        assert {event.channel for event in events} == {channel}
        for event in events:
            if isinstance(event, Publication):
                self.publications.append(event)
            else:
                self.memberships.append(event)
        self.batches.append(len(events))
        self._changed.set()

    def on_control(self, message: Control) -> Answer:
        self.controls.append(message)
        self._changed.set()
        return self.affected

    async def catch_up(self) -> None:
        self.caught_up += 1

    def on_relayed(self, request: bytes, answer: Callable[[bytes], None]) -> None:
        self.relayed.append(request)
        answer(request[::-1])

    def on_control_lost(self) -> None:
        self.control_lost += 1

    def on_gap(self, channels: Sequence[Channel]) -> None:
        self.gaps.extend(channels)
        self._changed.set()

    def on_unreadable(self, channels: Sequence[Channel]) -> None:
        self.unreadable.extend(channels)
        self._changed.set()

    @property
    def data(self) -> list[bytes]:
        return [publication.data for publication in self.publications]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when something that arrived made the condition true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Member(NamedTuple):
    """One node."""

    broker: Broker
    registry: Registry
    presence: Presence
    ledger: Ledger
    event_log: EventLog
    inbox: Inbox
    metrics: Metrics
    uid: NodeId

    async def subscribe(self, channel: Channel) -> None:
        """Raises RequestError."""
        future: asyncio.Future[RequestError | None] = asyncio.get_running_loop().create_future()
        self.broker.subscribe(channel, future.set_result)
        async with asyncio.timeout(PATIENCE):
            error = await future
        if error is not None:
            raise error

    def start_publish(
        self, publication: Publication, options: PublishOptions = NO_OPTIONS
    ) -> "asyncio.Future[PublishResult | RequestError]":
        """Its outcome, to come."""
        future: asyncio.Future[PublishResult | RequestError] = asyncio.get_running_loop().create_future()
        self.broker.publish(publication, options, future.set_result)
        return future

    async def publish(self, channel: Channel, data: bytes, key: str = "") -> PublishResult:
        """Raises RequestError."""
        options = PublishOptions(key) if key else NO_OPTIONS
        async with asyncio.timeout(PATIENCE):
            outcome = await self.start_publish(Publication(channel, data, time=1), options)
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    async def announce(self, name: str) -> None:
        await self.registry.announce(NodeInfo(self.uid, name, "1.0", 0))


class Engine(Protocol):
    """Makes nodes that see each other."""

    # Whether there can be more than one.
    many: bool

    def members(self, count: int) -> AbstractAsyncContextManager[list[Member]]: ...

    def new_member(self) -> Member:
        """One that is not started."""


class MemoryEngine:
    many = False

    @asynccontextmanager
    async def members(self, count: int) -> AsyncIterator[list[Member]]:
        """One, however many are asked for: nothing leaves the process."""
        member = self.new_member()
        await member.broker.start(member.inbox)
        await member.announce("n1")
        yield [member] * count
        await member.broker.stop()

    def new_member(self) -> Member:
        metrics = Metrics()
        broker = MemoryBroker(metrics)
        events = MemoryEvents(metrics)
        parts = (broker, MemoryRegistry(events), broker.presence, events, events)
        return Member(*parts, Inbox(), metrics, NodeId("n1"))


class RedisEngine:
    many = True
    _prefixes = (f"test{number}" for number in itertools.count())

    def __init__(self, url: str, *, durable: bool = False) -> None:
        """`durable`: as the setting; fakeredis has no INFO to tell its generation."""
        self.url = url
        self.durable = durable

    @asynccontextmanager
    async def members(self, count: int) -> AsyncIterator[list[Member]]:
        """On a server that other tests use too, hence each time with another prefix."""
        settings = self._settings()
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(redis_member(settings, f"n{number}")) for number in range(count)]

    def new_member(self) -> Member:
        return make_redis_member(self._settings(), "n0")

    def _settings(self) -> RedisSettings:
        return RedisSettings(
            url=SecretStr(self.url),
            prefix=next(self._prefixes),
            heartbeat_interval=0.1,
            unsubscribe_linger=0.3,
            durable=self.durable,
        )


@asynccontextmanager
async def redis_member(
    settings: RedisSettings, uid: str, registry_settings: RedisSettings | None = None
) -> AsyncIterator[Member]:
    """A started node."""
    member = make_redis_member(settings, uid, registry_settings)
    await member.broker.start(member.inbox)
    try:
        await member.announce(uid)
        yield member
    finally:
        await member.broker.stop()


def make_redis_member(settings: RedisSettings, uid: str, registry_settings: RedisSettings | None = None) -> Member:
    """A node that is not started. `registry_settings`: where the registry, which uses redis-py, finds the server."""
    metrics, keys = Metrics(), Keys(settings.prefix, settings.partitions)
    registry = RedisRegistry(registry_settings or settings, NodeId(uid), keys, Guard(metrics.faults), lambda: IN_FORCE)
    broker = RedisBroker(settings, NodeId(uid), keys, registry, metrics)
    parts = (broker, registry, broker.presence, broker.ledger, broker.event_log)
    return Member(*parts, Inbox(), metrics, NodeId(uid))


@contextmanager
def fake_server() -> Iterator[str]:
    """fakeredis behind a TCP port: its URL."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
