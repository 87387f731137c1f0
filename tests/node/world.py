"""A node with one channel that has history, whose bus and stream the test holds."""

from collections.abc import Sequence
from typing import Any, Literal

from gateway.broker.base import HistoryDone
from gateway.channels import Channels, ChannelSpec
from gateway.config.settings import NamespaceSettings, ServerSettings
from gateway.epochs import continues
from gateway.errors import UNSUBSCRIBED_INSUFFICIENT, BrokerUnavailable, RequestError
from gateway.hub.encoder import Encoder
from gateway.messages import Channel, HistoryQuery, Joined, Position, Publication, Retention
from gateway.node.tracked import Joiner
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.wire_protocol import Message
from tests.fakes import PlainFraming
from tests.node.site import FakeClient, Site

ROOM = Channel("default", "kept:room")
KEPT = Retention(size=50, ttl=300, meta_ttl=3000)


def spec(channel: Channel = ROOM, *, cache: bool = False) -> ChannelSpec:
    """What the name of such a channel means."""
    recovery: Literal["stream", "cache"] = "cache" if cache else "stream"
    kept = NamespaceSettings(delivery="recoverable", recovery=recovery)
    return Channels(ServerSettings(namespaces={"kept": kept})).resolve(*channel)._replace(history=KEPT)


def _words(messages: Sequence[Message]) -> bytes:
    return b"".join(message.data + b" " for message in messages)


class Reader(FakeClient):
    """A subscriber that counts what it gets, and knows what it was told."""

    def __init__(self, world: "World", number: int) -> None:
        super().__init__(number)
        self.world = world
        self.got: list[int] = []
        self.joined: Joined | None = None
        self.failed: RequestError | None = None
        self.gaps = 0
        self.joiner: Joiner[Any] | None = None
        self.encoder: Encoder | None = None

    def come(self, since: Position | None = None, *, cache: bool = False) -> "Reader":
        """Subscribe, as sessions do."""

        def acquired(error: RequestError | None) -> None:
            assert error is None
            self.joiner = self.world.messaging.prepare_join(spec(cache=cache), since, self.changed, interval=None)
            assert self.joiner is not None
            self.joiner.start()

        self.world.messaging.acquire(ROOM, acquired)
        self.world.scheduler.turn()
        return self

    def changed(self, error: RequestError | None) -> None:
        joiner, self.joiner = self.joiner, None
        if error is not None:
            self.failed = error
            self.world.messaging.release(ROOM)
            return
        assert joiner is not None
        self.joined = joiner.finish()
        self.got += [int(each.data) for each in self.joined.publications]
        self.encoder = self.world.encoder
        self.world.messaging.join(ROOM, ROOM, self, self.encoder, self.write)

    def write(self, block: bytes) -> None:
        self.got += map(int, block.split())

    def unsubscribe_by_server(self, name: str, code: object) -> bool:
        assert (name, code) == (ROOM.name, UNSUBSCRIBED_INSUFFICIENT)
        if self.encoder is None:
            return False
        self.gaps += 1
        self.leave()
        return True

    def leave(self) -> None:
        if self.encoder is not None:
            self.world.messaging.leave(ROOM, ROOM, self, self.encoder)
            self.encoder = None
        elif self.joiner is not None:
            joiner, self.joiner = self.joiner, None
            joiner.cancel()
            self.world.messaging.release(ROOM)


class World(Site):
    """A node whose bus and stream the test holds: what is published reaches the bus when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        settings = ServerSettings(namespaces={"kept": NamespaceSettings(delivery="recoverable")})
        self.assemble(settings, max_publications=20, max_bytes=10_000)
        self.broker.receiver = self.node
        self.encoder = Encoder(PlainProtocol(), PlainFraming(_words, b"p"))
        self.bus: list[Publication] = []
        self.count = 0
        self.readers = 0
        self.reads_fail = False
        self.broker.read = self.read  # type: ignore[method-assign]
        # Where each publication stands.
        self._numbers: dict[Position, int] = {}

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        """Carried out at once; the answer comes when the broker lets go of it."""
        if self.reads_fail:
            done(BrokerUnavailable("down"))
            return
        page = self.broker.streams.read(channel, history, query)
        self.broker.complete(lambda: done(page))

    def number_at(self, position: Position) -> int:
        """The publication at a position; the one before the next for the start of an epoch."""
        if position in self._numbers:
            return self._numbers[position]
        # Of a channel that nothing had been published to: before the first of the stream that it became.
        epoch = self.top.epoch if continues(position.epoch, self.top.epoch, KEPT.meta_ttl) else position.epoch
        return self._numbers.get(Position(1, epoch), self.count + 1) - 1

    def reader(self) -> Reader:
        self.readers += 1
        return Reader(self, self.readers)

    def publish(self, number: int = 1) -> None:
        """Into the stream, and onto a bus that delivers later."""
        for _ in range(number):
            self.count += 1
            publication = Publication(ROOM, b"%d" % self.count, time=1)
            stored = self.broker.streams.append(publication, KEPT, "")
            assert stored is not None
            self.bus.append(stored)
            self._numbers[Position(stored.offset, stored.epoch)] = self.count

    def deliver(self, number: int | None = None) -> None:
        """Let the bus bring what it has."""
        number = len(self.bus) if number is None else number
        arrived, self.bus = self.bus[:number], self.bus[number:]
        if arrived and ROOM in self.broker.subscribed:
            self.node.on_events(ROOM, arrived)
        self.scheduler.run()

    @property
    def top(self) -> Position:
        return self.broker.streams.top(ROOM)

    def reset(self) -> None:
        """The stream begins anew, as after a restart of the server."""
        self.broker.lose_streams()
