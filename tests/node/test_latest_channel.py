"""Latest values on one node: what is read, what is passed on, and when."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from gateway.broker.base import HistoryDone
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.errors import INTERNAL, RequestError
from gateway.hub.budget import Holder
from gateway.hub.fanout import OVERHEAD
from gateway.messages import Channel, Destination, Event, HistoryPage, Latest, Position, Publication
from gateway.metrics import Metrics
from gateway.node import tracked
from gateway.node.latest_channel import MOST_WAITING, LatestChannel
from gateway.node.tracked import Changed, Joiner
from gateway.scheduler import Scheduler
from tests.fakes import GUARD, ManualScheduler

DASH = Channel("default", "dash:a")
LATEST = Latest(tag="key", keys=10, ttl=60, interval=1.0)


def value(offset: int, key: str, data: str, *, epoch: str = "e", time: float = 0.0) -> Publication:
    return Publication(DASH, data.encode(), offset=offset, epoch=epoch, tags={"key": key}, time=int(time * 1000))


class Around:
    """A node whose reads are answered by hand."""

    def __init__(self) -> None:
        self.time = ManualScheduler()
        self.scheduler: Scheduler = self.time
        self.metrics = Metrics()
        self.guard = GUARD
        self.holders: set[Holder] = set()
        self.asked: list[HistoryDone] = []
        self.delivered: dict[Destination, list[tuple[str, bytes]]] = {}
        self.times: list[float] = []
        self.busy = False
        # Whether what is delivered still has to be written.
        self.slow = False
        # How many of the next deliveries do not fit.
        self.full = 0
        self.told: list[Destination] = []
        self.max_publications = self.max_bytes = 0

    def read(self, *arguments: object) -> None:
        raise NotImplementedError

    def count(self, destination: Destination) -> int:
        raise NotImplementedError

    def tell(self, destination: Destination, done: Callable[[], None]) -> None:
        self.told.append(destination)
        done()

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        self.asked.append(done)

    def retry(self, channel: Channel, delay: float, again: Callable[[], None], error: RequestError | None) -> None:
        self.time.call_later(delay, again)

    def deliver(self, destination: Destination, events: Sequence[Event]) -> bool:
        if self.full:
            self.full -= 1
            return False
        self.busy = self.slow
        self.times.append(self.time.now())
        got = self.delivered.setdefault(destination, [])
        got += [((each.tags or {}).get("key", ""), each.data) for each in events if isinstance(each, Publication)]
        return True

    def is_busy(self, destination: Destination) -> bool:
        return self.busy

    def answer(self, *publications: Publication, top: Position | RequestError) -> None:
        self.asked.pop(0)(top if isinstance(top, RequestError) else HistoryPage(list(publications), top))

    def now(self, offset: int, key: str, data: str, epoch: str = "e") -> Publication:
        return value(offset, key, data, time=self.time.time(), epoch=epoch)


@pytest.fixture
def around() -> Around:
    return Around()


def coming(channel: LatestChannel, interval: float, changed: Changed) -> Joiner[Any]:
    """A subscriber on its way in."""
    spec = Channels(ServerSettings()).resolve("default", "a")._replace(channel=DASH, latest=LATEST)
    return channel.join(spec, None, changed, interval=interval)


def entered(channel: LatestChannel, interval: float = 1.0) -> tuple[Joiner[Any], list[bytes]]:
    """A subscriber that has joined, and what it got first."""
    joiner = coming(channel, interval, lambda error: None)
    joiner.start()
    joined = joiner.finish()
    channel.entered(joiner.lane)
    return joiner, [each.data for each in joined.publications]


def test_who_comes_before_the_values_waits_for_them(around: Around) -> None:
    """What arrives during the read counts if it is newer; a late answer helps nobody who left."""
    channel = LatestChannel(DASH, LATEST, around)
    told: list[RequestError | None] = []
    joiner = coming(channel, 1.0, told.append)
    gone = coming(channel, 1.0, told.append)
    joiner.start()
    gone.start()
    gone.cancel()
    assert (joiner.ready, told) == (False, [])
    channel.receive([around.now(3, "a", "new")])
    channel.receive([around.now(1, "z", "old", epoch="before")])
    around.answer(around.now(1, "a", "1"), around.now(2, "b", "2"), top=Position(2, "e"))
    assert (joiner.ready, told) == (True, [None])
    assert [each.data for each in joiner.finish().publications] == [b"2", b"new"]


def test_each_lane_gets_the_newest_at_its_own_pace(around: Around) -> None:
    """The first at once; then at most one publication of a key in an interval, together."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    slow, _ = entered(channel)
    quick, _ = entered(channel, 0.0)
    for offset in range(1, 6):
        channel.receive([around.now(offset, "ab"[offset % 2], str(offset))])
        around.time.advance(0.1)
    assert around.delivered[quick.lane] == [(key, str(n).encode()) for n, key in enumerate("babab", 1)]
    assert around.delivered[slow.lane] == [("b", b"1")]
    around.time.advance(1.0)
    assert around.delivered[slow.lane] == [("b", b"1"), ("a", b"4"), ("b", b"5")]
    # 2 and 3 were overtaken in the slow lane.
    assert around.metrics.latest_skipped.value == 2
    around.time.advance(5.0)
    assert len(around.delivered[slow.lane]) == 3


def test_who_comes_does_not_change_the_pace_of_the_others(around: Around) -> None:
    """Each gets the newest at once, and again when the time of the others has come."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    first, _ = entered(channel, 10.0)
    got = []
    for offset in range(1, 201):
        channel.receive([around.now(offset, "a", str(offset))])
        around.time.advance(0.1)
        got += entered(channel, 10.0)[1]
    assert got == [str(offset).encode() for offset in range(1, 201)]
    assert [after - before for before, after in pairwise(around.times)] == [pytest.approx(10.0)] * 2
    assert around.delivered[first.lane] == [("a", b"1"), ("a", b"100"), ("a", b"200")]


def test_values_go_out_in_the_order_of_the_newest(around: Around) -> None:
    """The same on all nodes, whatever their pace."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    joiner, _ = entered(channel)
    for offset, key in enumerate("xabac", 1):
        channel.receive([around.now(offset, key, str(offset))])
    around.time.advance(5)
    assert around.delivered[joiner.lane] == [("x", b"1"), ("b", b"3"), ("a", b"4"), ("c", b"5")]


def test_what_is_still_being_written_is_waited_for(around: Around) -> None:
    """Nothing piles up in front of a crowd: it gets the newest when its time comes."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    joiner, _ = entered(channel, 0.0)
    around.busy = True
    for offset in range(1, 6):
        channel.receive([around.now(offset, "a", str(offset))])
        around.time.advance(1)
    assert around.delivered == {}
    around.busy = False
    around.time.advance(1)
    assert around.delivered == {joiner.lane: [("a", b"5")]}


def test_what_the_hub_had_to_drop_goes_out_again(around: Around) -> None:
    """Also removals, also when something without a position pushed it out; but not what is overtaken."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(around.now(1, "a", "1"), around.now(2, "b", "2"), top=Position(2, "e"))
    joiner, _ = entered(channel)
    around.full = 1
    removal = Publication(DASH, b"null", offset=4, epoch="e", tags={"key": "b", "removed": "true"})
    channel.receive([around.now(3, "a", "3"), removal, around.now(5, "c", "5")])
    around.time.run()
    assert around.delivered == {}
    channel.receive([around.now(6, "a", "6")])
    around.slow = True
    around.time.advance(1)
    everything = [("b", b"null"), ("c", b"5"), ("a", b"6")]
    assert around.delivered[joiner.lane] == everything
    around.full = 1
    channel.pass_on([Publication(DASH, b"typing")])
    around.busy = False
    around.time.advance(1)
    assert around.delivered[joiner.lane] == everything * 2


def test_what_waits_is_bounded_though_keys_come_and_go(around: Around) -> None:
    """Each leaves a removal; with a long interval they do not pile up."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    joiner, _ = entered(channel, 3600.0)
    channel.receive([around.now(1, "first", "1")])
    around.time.run()
    most = MOST_WAITING * LATEST.keys
    for number in range(most + 1):
        removal = Publication(DASH, b"null", offset=2 + number, epoch="e", tags={"key": f"{number}", "removed": "true"})
        channel.receive([removal])
    around.time.run()
    assert len(around.delivered[joiner.lane]) == 1 + most + 1


def test_who_ends_on_the_way_in_leaves_no_lane(around: Around) -> None:
    """It was ready, and its connection ended before it joined."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    here, _ = entered(channel)
    gone = coming(channel, 7.0, lambda error: None)
    gone.start()
    gone.finish()
    channel.receive([around.now(1, "a", "1")])
    around.time.advance(20)
    assert list(around.delivered) == [here.lane]


def test_a_hole_or_another_epoch_makes_it_read_again(around: Around) -> None:
    """Newer values are passed on, those that are gone end; the same is not told again."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(around.now(1, "a", "1"), around.now(2, "b", "2"), top=Position(2, "e"))
    joiner, _ = entered(channel, 0.0)
    channel.receive([around.now(4, "a", "4")])
    around.answer(around.now(2, "b", "2"), around.now(3, "c", "3"), around.now(4, "a", "4"), top=Position(4, "e"))
    around.time.run()
    assert around.delivered[joiner.lane] == [("c", b"3"), ("a", b"4")]
    channel.receive([around.now(1, "a", "new", epoch="f")])
    around.answer(around.now(1, "a", "new", epoch="f"), top=Position(1, "f"))
    around.time.run()
    assert around.delivered[joiner.lane][2:] == [("b", b"null"), ("c", b"null"), ("a", b"new")]


def test_a_check_while_reading_is_another_read(around: Around) -> None:
    channel = LatestChannel(DASH, LATEST, around)
    channel.check()
    assert len(around.asked) == 1
    around.answer(top=Position(0, "e"))
    assert len(around.asked) == 1
    around.answer(top=Position(0, "e"))
    assert around.asked == []


def test_a_read_that_fails_is_repeated(around: Around) -> None:
    """More and more slowly; who waits is told."""
    channel = LatestChannel(DASH, LATEST, around)
    told: list[RequestError | None] = []
    coming(channel, 1.0, told.append).start()
    error = RequestError(INTERNAL)
    around.answer(top=error)
    assert told == [error]
    for delay in (0.05, 0.1, 0.2):
        around.time.advance(delay * 0.9)
        assert around.asked == []
        around.time.advance(delay * 0.2)
        around.answer(top=error)
    channel.close()
    around.time.advance(10)
    assert around.asked == []


def test_nobody_else_reads_what_is_to_be_read_again(around: Around) -> None:
    """A hole, or a look at the channel, asks for no read besides."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=RequestError(INTERNAL))
    channel.check()
    assert around.asked == []
    around.time.advance(1)
    assert len(around.asked) == 1


def test_who_has_missed_something_is_told(around: Around) -> None:
    """Those in one lane, or all of them."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    slow, quick = (entered(channel, interval)[0].lane for interval in (2.0, 0.0))
    channel.lose(quick)
    assert around.told == [quick]
    channel.lose()
    assert around.told == [quick, slow, quick]


def test_old_values_are_not_given_to_anybody(around: Around) -> None:
    """After `ttl` seconds."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(around.now(1, "a", "1"), top=Position(1, "e"))
    around.time.advance(59)
    assert entered(channel)[1] == [b"1"]
    around.time.advance(2)
    assert entered(channel)[1] == []


def test_what_is_written_is_not_kept_for_another_time(around: Around) -> None:
    """Only while the hub may still have to drop it."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    joiner, _ = entered(channel)
    channel.receive([around.now(1, "a", "1")])
    around.time.run()
    assert around.delivered[joiner.lane] == [("a", b"1")]
    assert channel._paces[joiner.lane].sent == {}


def test_it_is_used_while_somebody_is_there(around: Around) -> None:
    channel = LatestChannel(DASH, LATEST, around)
    joiner = coming(channel, 1.0, lambda error: None)
    assert channel.is_used
    around.answer(top=Position(0, "e"))
    joiner.finish()
    channel.entered(joiner.lane)
    assert (channel.is_used, channel.members) == (True, 1)
    channel.left(joiner.lane)
    assert (channel.is_used, channel.members) == (False, 0)


def test_a_read_that_is_older_than_the_bus_changes_nothing(around: Around) -> None:
    """Nothing comes twice, and nothing goes back in time."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(around.now(1, "a", "1"), top=Position(1, "e"))
    joiner, _ = entered(channel, 0.0)
    channel.check()
    channel.receive([around.now(2, "b", "2")])
    around.time.run()
    around.answer(around.now(1, "a", "1"), top=Position(1, "e"))
    channel.receive([around.now(3, "a", "3")])
    around.time.run()
    assert around.delivered[joiner.lane] == [("b", b"2"), ("a", b"3")]
    assert around.metrics.latest_skipped.value == 0


def test_a_hole_during_a_read_is_filled(around: Around) -> None:
    """What came from behind the hole does not make what is in it old."""
    channel = LatestChannel(DASH, LATEST, around)
    around.answer(top=Position(0, "e"))
    joiner, _ = entered(channel, 0.0)
    channel.check()
    channel.receive([around.now(3, "c", "3")])
    around.answer(around.now(1, "a", "1"), top=Position(1, "e"))
    around.answer(around.now(1, "a", "1"), around.now(2, "b", "2"), around.now(3, "c", "3"), top=Position(3, "e"))
    around.time.run()
    assert around.delivered[joiner.lane] == [("a", b"1"), ("b", b"2"), ("c", b"3")]


def test_what_is_kept_during_a_read_is_bounded(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit it is read again."""
    monkeypatch.setattr(tracked, "RECENT_LIMIT", 2 * OVERHEAD + 10)
    channel = LatestChannel(DASH, LATEST, around)
    for offset in range(1, 6):
        channel.receive([around.now(offset, "a", str(offset))])
    assert channel._recent is not None
    assert len(channel._recent) <= 2
    around.answer(top=Position(0, "e"))
    assert len(around.asked) == 1
    around.answer(around.now(5, "a", "5"), top=Position(5, "e"))
    assert entered(channel)[1] == [b"5"]
