"""Reads of streams: how many at once, what is kept meanwhile, and how quiet channels are looked at."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.broker.base import Standing
from gateway.config.settings import NamespaceSettings, ServerSettings
from gateway.hub.fanout import OVERHEAD
from gateway.messages import Channel, HistoryQuery, Joined, Latest, Position, Publication, Retention
from gateway.node import tracked
from gateway.node.latest_channel import LatestChannel
from gateway.node.stream import Stream
from gateway.node.tracker import IDLE_INTERVAL, LOOK_INTERVAL, READS, TICK, TURN_PUBLICATIONS
from tests.node.site import Site
from tests.node.world import KEPT, ROOM, Reader, World, spec


@pytest.fixture
def world() -> World:
    return World()


def test_reads_that_fail_are_told_and_repeated(world: World) -> None:
    """Who wants to join gets the error; who is there is served once Redis is back."""
    early = world.reader().come()
    world.publish(3)
    del world.bus[0]
    world.reads_fail = True
    world.deliver()
    late = world.reader().come()
    refused = world.reader().come(Position(0, ""))
    assert (early.got, late.joined) == ([], None)
    assert refused.failed is not None
    world.reads_fail = False
    world.scheduler.advance(0.2)
    assert early.got == [1, 2, 3]
    assert late.joined == Joined(world.top)


def test_an_idle_channel_is_compared_with_its_stream(world: World) -> None:
    """Something was lost and nothing came since: noticed within the interval; a busy channel is not asked."""
    reader = world.reader().come()
    world.scheduler.advance(IDLE_INTERVAL)
    world.publish(2)
    world.bus.clear()
    world.scheduler.advance(2 * IDLE_INTERVAL)
    assert reader.got == [1, 2]
    reader.leave()
    world.scheduler.advance(2 * IDLE_INTERVAL)
    assert world.messaging.tracker.find(ROOM) is None


def test_the_same_reads_of_one_turn_are_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more than a number of them are under way."""
    asked: list[HistoryQuery] = []
    read = world.broker.read

    def counting(channel: Channel, history: Retention, query: HistoryQuery, done: Callable[..., None]) -> None:
        asked.append(query)
        read(channel, history, query, done)

    monkeypatch.setattr(world.broker, "read", counting)
    world.reader().come()
    world.publish(4)
    world.deliver()
    asked.clear()
    world.broker.hold = True
    readers = [Reader(world, number) for number in range(200)]
    for index, reader in enumerate(readers):
        since = Position(index % 2, world.top.epoch)
        reader.joiner = world.messaging.tracker.join(spec(), since, reader.changed)
        assert reader.joiner is not None
        world.messaging.acquire(ROOM, lambda error: None)
        reader.joiner.start()
    world.scheduler.turn()
    assert len(asked) == 2
    world.broker.release()
    assert all(reader.got == [1, 2, 3, 4][index % 2 :] for index, reader in enumerate(readers))
    other = [Channel("default", f"kept:{number}") for number in range(READS + 10)]
    world.scheduler.run()
    asked.clear()
    for channel in other:
        world.messaging.tracker.read(channel, KEPT, HistoryQuery(1), lambda outcome: None)
    world.scheduler.run()
    assert len(asked) == READS
    world.broker.release()
    world.scheduler.run()
    world.broker.release()
    assert len(asked) == READS + 10


def test_any_number_of_reads_may_fail_at_once(world: World) -> None:
    """A link that breaks answers all that is under way, and then refuses what waits, without a turn between."""
    outcomes: list[object] = []
    world.broker.hold = True
    for number in range(5000):
        world.messaging.tracker.read(Channel("default", f"kept:{number}"), KEPT, HistoryQuery(1), outcomes.append)
    world.scheduler.run()
    world.reads_fail = True
    world.broker.release()
    world.scheduler.run()
    assert len(outcomes) == 5000
    world.reads_fail = world.broker.hold = False
    world.messaging.tracker.read(ROOM, KEPT, HistoryQuery(1), outcomes.append)
    world.scheduler.run()
    assert len(outcomes) == 5001


def test_more_than_can_be_kept_meanwhile_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read takes long while much arrives."""
    monkeypatch.setattr(tracked, "RECENT_LIMIT", 3)
    early = world.reader().come()
    world.publish(2)
    world.deliver()
    world.broker.hold = True
    late = world.reader().come(Position(0, world.top.epoch))
    world.publish(6)
    world.deliver()
    world.broker.hold = False
    world.broker.release()
    world.scheduler.advance(1)
    assert early.got == late.got == [1, 2, 3, 4, 5, 6, 7, 8]


def test_small_publications_take_memory_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept during a read is bounded by what it takes, not by what it says."""
    monkeypatch.setattr(tracked, "RECENT_LIMIT", 3 * OVERHEAD)
    early = world.reader().come()
    world.broker.hold = True
    late = world.reader().come(Position(0, world.top.epoch))
    world.publish(10)
    world.deliver()
    stream = world.messaging.tracker.find(ROOM)
    assert isinstance(stream, Stream)
    assert len(stream._recent) <= 3
    world.broker.hold = False
    world.broker.release()
    world.scheduler.advance(1)
    assert early.got == late.got == list(range(1, 11))


def test_one_completion_that_fails_does_not_harm_the_others(world: World) -> None:
    """Who asked the same gets the answer, and the slot of the read is free again."""
    got: list[object] = []

    def failing(outcome: object) -> None:
        raise RuntimeError("a fault")

    for done in (failing, got.append):
        world.messaging.tracker.read(ROOM, KEPT, HistoryQuery(), done)
    world.scheduler.run()
    assert len(got) == 1


def test_reads_of_latest_values_take_their_turn_like_others(world: World) -> None:
    """After a gap every channel asks at once."""
    asked: list[Channel] = []
    world.broker.values = lambda channel, latest, done: asked.append(channel)  # type: ignore[method-assign]
    for number in range(READS + 10):
        world.messaging.tracker.values(
            Channel("default", f"{number}"), Latest("key", 10, 60, 1.0), lambda outcome: None
        )
    world.scheduler.run()
    assert len(asked) == READS


def test_idle_channels_are_looked_at_a_few_at_a_time() -> None:
    """Each has its turn within the interval; the loop is not held, however many there are."""
    site = Site()
    site.assemble(ServerSettings(namespaces={"kept": NamespaceSettings(delivery="recoverable")}))
    asked: list[Channel] = []

    def compare(standings: Sequence[Standing], elsewhere: Callable[[Standing], None]) -> None:
        asked.extend(standing.channel for standing in standings)

    site.broker.compare = compare  # type: ignore[method-assign]
    channels = [Channel("default", f"kept:{number}") for number in range(3000)]
    for channel in channels:
        joiner = site.messaging.tracker.join(spec(channel), None, lambda error: None)
        assert joiner is not None
        joiner.start()
    # The first tick, and the first round: what has just come is not idle.
    site.scheduler.advance(2.5 * IDLE_INTERVAL)
    asked.clear()
    most = 0
    for _ in range(int(IDLE_INTERVAL / TICK)):
        before = len(asked)
        site.scheduler.advance(TICK)
        most = max(most, len(asked) - before)
    assert len(set(asked)) == 3000
    assert most <= 2 * 3000 * TICK / IDLE_INTERVAL


class Crowd(Site):
    """A node with many channels that have joined, and a count of the reads that are begun."""

    def __init__(self, delivery: str, count: int) -> None:
        super().__init__()
        namespace = NamespaceSettings.model_validate({"delivery": delivery})
        self.assemble(ServerSettings(namespaces={"kept": namespace}))
        self.reads = 0
        self.broker.read = self._counting(self.broker.read)  # type: ignore[method-assign]
        self.broker.values = self._counting(self.broker.values)  # type: ignore[method-assign]
        for number in range(count):
            channel = Channel("default", f"kept:{number}")
            self.messaging.acquire(channel, lambda error: None)
            latest = Latest(tag="key", keys=1_000, ttl=60, interval=1.0) if delivery == "latest" else None
            self.messaging.tracker.join(spec(channel)._replace(latest=latest), None, lambda error: None)
        self.scheduler.run()

    def _counting(self, read: Callable[..., None]) -> Callable[..., None]:
        def counting(*arguments: Any) -> None:
            self.reads += 1
            read(*arguments)

        return counting

    def turns(self) -> list[int]:
        """Reads begun in each turn until nothing is due."""
        begun: list[int] = []
        while True:
            before = self.reads
            if not self.scheduler.turn():
                return begun
            begun.append(self.reads - before)


@pytest.mark.parametrize("delivery", ["latest", "recoverable"])
def test_while_there_is_no_broker_nobody_asks_again_and_again(delivery: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each channel is read once more when it is back, a few a turn; the log tells of it at intervals, with a count."""
    channels = 5 * READS
    crowd = Crowd(delivery, channels)
    crowd.broker.up = False
    for number in range(channels):
        stream = crowd.messaging.tracker.find(Channel("default", f"kept:{number}"))
        assert stream is not None
        stream.check()
    assert max(crowd.turns()) <= READS
    crowd.scheduler.advance(10.0)
    assert len([record for record in caplog.records if "could not be read" in record.message]) <= 4
    crowd.reads = 0
    crowd.scheduler.advance(20.0)
    # Once an idle interval each channel with latest values is looked at anyway.
    assert crowd.reads <= channels
    crowd.scheduler.advance(LOOK_INTERVAL)
    crowd.reads = 0
    crowd.broker.up = True
    crowd.scheduler.advance(LOOK_INTERVAL)
    assert channels <= crowd.reads <= 1.2 * channels


def test_what_a_broker_refuses_at_once_is_spread_over_turns() -> None:
    """Thousands of channels may wait for their turn when the link breaks."""
    crowd = Crowd("recoverable", 5 * READS)
    crowd.broker.hold = True
    for number in range(5 * READS):
        stream = crowd.messaging.tracker.find(Channel("default", f"kept:{number}"))
        assert stream is not None
        stream.check()
    assert sum(crowd.turns()) == READS
    crowd.broker.up, crowd.broker.hold = False, False
    crowd.broker.release()
    begun = crowd.turns()
    assert (sum(begun), max(begun)) == (4 * READS, READS)


def test_old_values_of_a_channel_that_is_never_quiet_are_forgotten() -> None:
    """One key is written all the time, others once: the node asks the broker what is left."""
    crowd = Crowd("latest", 1)
    channel = Channel("default", "kept:0")
    stream = crowd.messaging.tracker.find(channel)
    assert isinstance(stream, LatestChannel)
    latest = stream.latest
    for second in range(int(2 * IDLE_INTERVAL + latest.ttl)):
        for key in ("busy", f"once {second}"):
            publication = Publication(channel, b"1", tags={"key": key}, time=int(crowd.scheduler.time() * 1000))
            crowd.node.on_events(channel, [crowd.broker.streams.set_value(publication, latest)])
        if second == 1:
            crowd.reads = 0
        crowd.scheduler.advance(1.0)
    assert 1 <= crowd.reads <= 5


def test_what_many_reads_brought_is_handed_over_in_turns(world: World) -> None:
    """In order, whether it comes in one turn of the loop or in several; a turn writes no more than its share."""
    world.publish(KEPT.size)
    world.deliver()
    answered: list[int] = []
    world.broker.hold = True
    for number in range(50):
        query = HistoryQuery(100 + number)
        world.messaging.tracker.read(ROOM, KEPT, query, lambda outcome, number=number: answered.append(number))  # type: ignore[misc]
    world.scheduler.run()
    world.broker.release()
    a_turn = -(-TURN_PUBLICATIONS // (KEPT.size + 1))
    for turns in range(1, 4):
        assert answered == list(range(min(turns * a_turn, 50)))
        world.scheduler.turn()
    assert len(answered) == 50
