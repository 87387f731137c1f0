"""Fakes of ports: time by hand, a transport that records, a broker that answers when told."""

import heapq
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from gateway.auth.revocations import Revocations
from gateway.broker.base import (
    Broker,
    Health,
    HistoryDone,
    Presence,
    PublishDone,
    Receiver,
    Registry,
    Standing,
    SubscribeDone,
)
from gateway.broker.memory.memory_streams import MemoryStreams
from gateway.channels import Channels
from gateway.control import ChannelCount, ChannelPage, Control, ControlResult, NodeId, NodeInfo, Reloaded, Revocation
from gateway.entrances.directory import Directory
from gateway.errors import BrokerUnavailable, CloseCode
from gateway.guard import Guard
from gateway.messages import (
    PUBLISHED,
    Channel,
    HistoryQuery,
    Latest,
    Publication,
    PublishOptions,
    PublishResult,
    Retention,
)
from gateway.metrics import Metrics
from gateway.node.administration import Administration, Profile
from gateway.node.clients import Clients
from gateway.node.messaging import Messaging
from gateway.node.node import Node
from gateway.protocols.wire_protocol import Message
from gateway.scheduler import Scheduler
from gateway.session.transport import Connection, Write

# For parts whose faults a test does not look at.
GUARD = Guard(Metrics().faults)


class Faultless:
    """What a session has for faults. Here none is expected: the exception that was caught goes on."""

    def write_failed(self) -> None:
        raise

    def fail(self, part: str) -> None:
        raise


class ManualScheduler:
    """A Scheduler whose time stands still until it is told to pass."""

    def __init__(self, unix: float = 1_700_000_000.0) -> None:
        self._now = 1000.0
        self._unix = unix
        self._number = count()
        self._later: list[tuple[float, int, Callable[[], object]]] = []

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return self._unix + self._now - 1000.0

    def jump(self, seconds: float) -> None:
        """Set the machine's clock; no time passes."""
        self._unix += seconds

    def oversleep(self, seconds: float) -> None:
        """Let time pass, running nothing: the loop was busy."""
        self._now += seconds

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.call_later(0.0, callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        heapq.heappush(self._later, (self._now + delay, next(self._number), callback))

    def turn(self) -> int:
        """One turn of the loop: what is due now, not what it schedules. Returns how many ran."""
        due = []
        while self._later and self._later[0][0] <= self._now:
            due.append(heapq.heappop(self._later)[2])
        for callback in due:
            callback()
        return len(due)

    def run(self) -> None:
        """Turns until nothing is due."""
        while self.turn():
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass, running everything at its moment."""
        end = self._now + seconds
        self.run()
        while self._later and self._later[0][0] <= end:
            self._now = max(self._now, self._later[0][0])
            self.run()
        self._now = end


class PlainFraming:
    """A Framing that does nothing but what it is given."""

    tells_codes = True

    def __init__(
        self, frame: Callable[[Sequence[Message]], bytes], ping: bytes = b"", *, answers_pings: bool = True
    ) -> None:
        self.frame = frame
        self.ping = ping
        self.answers_pings = answers_pings

    def close(self, code: CloseCode) -> bytes:
        return b""


class RecordingTransport:
    """A Transport that keeps what is written, and congests when told."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.close_code: CloseCode | None = None
        self.aborted = False
        self.released = False
        self.is_authenticated = False
        self.reading = True
        self.connection: Connection | None = None
        # Bytes after which the socket is congested, None for never.
        self.capacity: int | None = None
        self.write: Write = self._write

    def _write(self, frame: bytes) -> None:
        self.written.append(frame)
        if self.capacity is not None and self.connection is not None:
            self.capacity -= len(frame)
            if self.capacity <= 0:
                self.capacity = None
                self.connection.pause_writing()

    def close(self, code: CloseCode, goodbye: bytes) -> None:
        self.close_code = code
        self.written.append(goodbye)

    def drive(self, connection: Connection) -> None:
        self.connection = connection

    def release(self, goodbye: bytes) -> None:
        self.released = True
        self.written.append(goodbye)

    def abort(self) -> None:
        self.aborted = True

    def authenticated(self) -> None:
        self.is_authenticated = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def take(self) -> bytes:
        """What was written since the last call, as one block."""
        block = b"".join(self.written)
        self.written.clear()
        return block


class ManualBroker:
    """A Broker whose answers come when the test says so. Everything else is as the port promises."""

    def __init__(self) -> None:
        self.receiver: Receiver | None = None
        self.subscribed: set[Channel] = set()
        self.published: list[tuple[Publication, PublishOptions]] = []
        self.up = True
        # Milliseconds pass, so that no two streams begin at once.
        ticks = count(1)
        self._clock: Callable[[], float] = lambda: next(ticks) / 1000
        self.streams = MemoryStreams(self._clock)
        # Held completions, in order, while `hold` is set.
        self.hold = False
        self.held: list[Callable[[], object]] = []

    def lose_streams(self) -> None:
        """As a server that lost all it had: what is published begins a stream of another generation."""
        self.streams = MemoryStreams(self._clock)

    async def start(self, receiver: Receiver) -> None:
        await receiver.catch_up()
        self.receiver = receiver

    async def stop(self) -> None:
        self.receiver = None

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        if not self.up:
            done(BrokerUnavailable("down"))
            return
        self.complete(lambda: self._publish(publication, options, done))

    def _publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        self.published.append((publication, options))
        result = PUBLISHED
        if options.history is not None:
            stored = self.streams.append(publication, options.history, options.version_epoch)
            result = PublishResult(*self.streams.top(publication.channel))
            if stored is None:
                done(result)
                return
            publication = stored
        if options.latest is not None:
            publication = self.streams.set_value(publication, options.latest)
            result = PublishResult(publication.offset, publication.epoch)
        done(result)
        if publication.channel in self.subscribed and self.receiver is not None:
            self.receiver.on_events(publication.channel, [publication])

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        if not self.up:
            done(BrokerUnavailable("down"))
            return
        self.complete(lambda: done(self.streams.read(channel, history, query)))

    def compare(self, standings: Sequence[Standing], elsewhere: Callable[[Standing], None]) -> None:
        for standing in standings:
            top = self.streams.top(standing.channel)
            if self.up and top != standing.position and (top.offset or standing.position.offset):
                self.complete(partial(elsewhere, standing))

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        if not self.up:
            done(BrokerUnavailable("down"))
            return
        self.complete(lambda: done(self.streams.values(channel, latest)))

    async def clear(self, channel: Channel) -> None:
        self.streams.clear(channel)

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        if not self.up:
            done(BrokerUnavailable("down"))
            return

        def complete() -> None:
            if self.up:
                self.subscribed.add(channel)
            done(None if self.up else BrokerUnavailable("down"))

        self.complete(complete)

    def unsubscribe(self, channel: Channel) -> None:
        self.subscribed.remove(channel)

    async def control(self, message: Control) -> ControlResult:
        assert self.receiver is not None
        return ControlResult.of(1, [self.receiver.on_control(message)])

    async def relay(self, node: NodeId, request: bytes, seconds: float) -> bytes | None:
        return None

    def health(self) -> Health:
        return Health(self.up, "" if self.up else "down")

    def release(self) -> None:
        """Let go of what is held."""
        held, self.held = self.held, []
        for complete in held:
            complete()

    def complete(self, complete: Callable[[], object]) -> None:
        if self.hold:
            self.held.append(complete)
        else:
            complete()


class DictRegistry:
    """A Registry in dictionaries, for one node."""

    def __init__(self) -> None:
        self.watches: Callable[[Channel], bool] = lambda channel: False
        self.leases: dict[NodeId, NodeInfo] = {}
        self.occupancy: dict[Channel, int] = {}
        self.revoked: list[Revocation] = []

    async def announce(self, info: NodeInfo) -> bool:
        """As of a lease that has run out, where there is none."""
        lasted = info.uid in self.leases
        self.leases[info.uid] = info
        return lasted

    async def withdraw(self) -> None:
        self.leases.clear()

    async def nodes(self) -> list[NodeInfo]:
        return list(self.leases.values())

    def set_occupancy(self, channel: Channel, subscriptions: int) -> None:
        self.occupancy[channel] = subscriptions

    async def channels(self, app: str, pattern: str, limit: int, cursor: str) -> ChannelPage:
        return ChannelPage([ChannelCount(key.name, count) for key, count in self.occupancy.items() if count], "")

    async def revoke(self, revocation: Revocation, *, ahead: int | None = None) -> Revocation:
        self.revoked.append(revocation)
        return revocation

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        self.revoked += revocations

    async def revocations(self) -> list[Revocation]:
        return self.revoked


class FakeHost:
    """A process that has settings for its node, and counts how often the clients were to be sent away."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.reloaded = Reloaded(NodeId("nobody"))
        self.drains = 0

    def reload(self) -> Reloaded:
        return self.reloaded

    def drain_clients(self) -> None:
        self.drains += 1


class Assembly:
    """A node and its parts, put together as the composition root does."""

    def __init__(
        self,
        profile: Profile,
        *,
        broker: Broker,
        registry: Registry,
        presence: Presence,
        channels: Channels,
        scheduler: Scheduler,
        revocations: Revocations,
        metrics: Metrics,
        max_publications: int = 1000,
        max_bytes: int = 500_000,
    ) -> None:
        self.host = FakeHost()
        self.clients = Clients(scheduler.now)
        self.messaging = Messaging(
            broker=broker,
            registry=registry,
            presence=presence,
            channels=channels,
            scheduler=scheduler,
            metrics=metrics,
            max_publications=max_publications,
            max_bytes=max_bytes,
        )
        self.administration = Administration(
            profile,
            self.host,
            clients=self.clients,
            hub=self.messaging.hub,
            broker=broker,
            registry=registry,
            revocations=revocations,
            scheduler=scheduler,
            guard=Guard(metrics.faults),
        )
        self.node = Node(
            broker, self.messaging, self.administration, metrics, Directory(profile.uid, broker.relay).on_relayed
        )
