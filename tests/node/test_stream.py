"""Streams on one node: where subscribers stand, how others join them, and what a gap does."""

from collections.abc import Callable

import pytest

from gateway.hub import hub
from gateway.hub.fanout import OVERHEAD
from gateway.hub.hub import TURN_WRITES
from gateway.messages import Joined, Position, Publication
from gateway.node import stream as module
from gateway.node.merge import agree
from tests.node.world import KEPT, ROOM, World, spec


@pytest.fixture
def world() -> World:
    return World()


def test_a_subscriber_joins_where_the_node_stands(world: World) -> None:
    """Nobody there yet: at the top of the stream; what the bus still brings from before is passed over."""
    world.publish(3)
    reader = world.reader().come()
    assert reader.joined == Joined(world.top)
    world.deliver()
    assert reader.got == []
    world.publish(2)
    world.deliver()
    assert reader.got == [4, 5]


def test_who_comes_back_gets_what_it_missed_once(world: World) -> None:
    """From the stream and from the bus; others who are there notice nothing."""
    early = world.reader().come()
    world.publish(2)
    world.deliver()
    back = world.top
    world.publish(3)
    world.deliver()
    late = world.reader().come(back)
    assert late.joined is not None
    assert (late.joined.recovered, late.got) == (True, [3, 4, 5])
    world.publish()
    world.deliver()
    assert early.got == [1, 2, 3, 4, 5, 6]
    assert late.got == [3, 4, 5, 6]
    assert world.metrics.recoveries.value == world.metrics.recoveries_asked.value == 1
    assert world.metrics.recovered_publications.value == 3


def test_a_joiner_that_is_ahead_waits_for_the_bus(world: World) -> None:
    """It has read what the bus has not brought yet: others get it live, the joiner with its reply."""
    early = world.reader().come()
    world.publish()
    world.deliver()
    world.publish(2)
    late = world.reader().come(Position(0, world.top.epoch))
    assert late.joined is None
    world.deliver(1)
    assert (early.got, late.joined) == ([1, 2], None)
    world.deliver()
    assert (early.got, late.got) == ([1, 2, 3], [1, 2, 3])
    world.publish()
    world.deliver()
    assert (early.got, late.got) == ([1, 2, 3, 4], [1, 2, 3, 4])


def test_what_the_bus_never_brings_is_read(world: World) -> None:
    """The joiner has seen more than the node: after a second the node looks itself."""
    early = world.reader().come()
    world.publish()
    world.deliver()
    world.publish(2)
    late = world.reader().come(Position(0, world.top.epoch))
    world.bus.clear()
    world.scheduler.advance(1.1)
    assert (early.got, late.got, world.metrics.refills.value) == ([1, 2, 3], [1, 2, 3], 1)


def test_a_hole_is_filled_without_anybody_noticing(world: World) -> None:
    """What comes behind it waits."""
    reader = world.reader().come()
    world.publish(5)
    world.deliver(1)
    del world.bus[:2]
    world.broker.hold = True
    world.deliver(1)
    world.publish()
    world.deliver()
    assert reader.got == [1]
    world.broker.release()
    assert reader.got == [1, 2, 3, 4, 5, 6]
    assert (reader.gaps, world.metrics.refills.value) == (0, 1)
    assert world.metrics.refilled_publications.value == 4


@pytest.mark.parametrize("lost", ["trimmed", "too many", "another epoch"])
def test_what_cannot_be_filled_is_told(world: World, lost: str) -> None:
    """To everybody who has joined; who comes afterwards begins where the stream is."""
    readers = [world.reader().come() for _ in range(3)]
    world.publish()
    world.deliver()
    if lost == "another epoch":
        world.reset()
    world.publish(60 if lost == "trimmed" else 25)
    del world.bus[:-1]
    world.deliver()
    assert [reader.gaps for reader in readers] == [1, 1, 1]
    assert world.metrics.gaps.value == 3
    again = world.reader().come()
    assert again.joined == Joined(world.top)


@pytest.mark.parametrize(("since", "reason"), [(-1, "future"), (0, "epoch"), (1, "range")])
def test_what_is_gone_is_not_recovered(world: World, since: int, reason: str) -> None:
    """A position in the future, of another epoch, or before what is kept."""
    world.publish(55)
    world.bus.clear()
    at = {-1: Position(99, world.top.epoch), 0: Position(55, "other"), 1: Position(2, world.top.epoch)}[since]
    reader = world.reader().come(at)
    assert reader.joined == Joined(world.top, recovered=False)
    assert world.metrics.recovery_failures.values == {reason: 1}


def test_the_newest_one_in_cache_mode(world: World) -> None:
    """Nothing when it is known; not recovered when it is not kept any more."""
    world.publish(3)
    world.bus.clear()
    epoch = world.top.epoch
    assert world.reader().come(Position(1, epoch), cache=True).got == [3]
    assert world.reader().come(Position(0, ""), cache=True).got == [3]
    assert world.reader().come(world.top, cache=True).got == []
    world.broker.streams.clear(ROOM)
    reader = world.reader().come(Position(1, epoch), cache=True)
    assert reader.joined == Joined(world.top, recovered=False)


def test_who_leaves_on_the_way_in_leaves_nothing(world: World) -> None:
    """Late answers help nobody, and harm nobody."""
    first = world.reader().come()
    world.publish()
    world.deliver()
    world.broker.hold = True
    reader = world.reader().come(Position(0, ""))
    first.leave()
    assert world.messaging.tracker.find(ROOM) is not None
    reader.leave()
    assert world.messaging.tracker.find(ROOM) is None
    world.broker.release()
    assert (reader.joined, reader.failed) == (None, None)


def test_a_gap_of_the_link_makes_the_node_look(world: World) -> None:
    """Also when it comes while it is looking already."""
    reader = world.reader().come()
    world.publish(2)
    world.bus.clear()
    world.broker.hold = True
    world.node.on_gap([ROOM])
    world.publish(2)
    world.bus.clear()
    world.node.on_gap([ROOM])
    world.broker.hold = False
    world.broker.release()
    world.scheduler.run()
    assert reader.got == [1, 2, 3, 4]


def test_what_has_no_position_passes_by(world: World) -> None:
    """Published with skip_history, in between."""
    reader = world.reader().come()
    world.publish(2)
    passing = Publication(ROOM, b"99", time=1)
    world.node.on_events(ROOM, [world.bus[0], passing, world.bus[1]])
    assert reader.got == [1, 99, 2]


def test_publications_that_the_hub_had_to_drop_are_a_gap(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than may wait behind a large fan-out: subscribers are told, and recover by themselves."""
    reader = world.reader().come()
    monkeypatch.setattr(world.messaging.hub, "deliver", lambda channel, events: 1)
    world.publish()
    world.deliver()
    assert reader.gaps == 1


def test_nothing_comes_from_behind_what_was_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that had it would go on from there, and never ask for what it missed."""
    readers = [world.reader().come() for _ in range(TURN_WRITES * 2)]
    world.scheduler.run()
    monkeypatch.setattr(hub, "WAITING_LIMIT", 2 * (OVERHEAD + 1))
    world.publish(6)
    for publication in world.bus[:1]:
        world.node.on_events(ROOM, [publication])
    world.scheduler.turn()
    for publication in world.bus[1:]:
        world.node.on_events(ROOM, [publication])
    world.bus.clear()
    world.scheduler.run()
    assert {(tuple(reader.got), reader.gaps) for reader in readers} <= {((1,), 1), ((), 1)}
    epoch = world.top.epoch
    for reader in (readers[0], readers[-1]):
        again = world.reader().come(Position(len(reader.got), epoch))
        assert reader.got + again.got == [1, 2, 3, 4, 5, 6]


def test_what_has_no_position_may_drop_what_has_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make room: joins and leaves of a large channel. It is told."""
    readers = [world.reader().come() for _ in range(TURN_WRITES + 1)]
    world.scheduler.run()
    monkeypatch.setattr(hub, "WAITING_LIMIT", 2 * (OVERHEAD + 2))
    world.publish(3)
    world.node.on_events(ROOM, world.bus[:2])
    world.node.on_events(ROOM, [Publication(ROOM, b"99", time=1)])
    world.node.on_events(ROOM, world.bus[2:])
    world.scheduler.run()
    assert {(tuple(reader.got), reader.gaps) for reader in readers} == {((), 1)}
    assert world.reader().come(Position(0, world.top.epoch)).got == [1, 2, 3]


def test_what_has_no_position_waits_for_the_end_of_a_check(world: World) -> None:
    """It may refer to what the check has yet to bring, here also to what is missed during the first one."""
    reader = world.reader().come()
    world.publish(2)
    world.bus.clear()
    world.broker.hold = True
    world.node.on_gap([ROOM])
    world.scheduler.run()
    world.publish(1)
    world.bus.clear()
    world.publish(1)
    world.node.on_events(ROOM, [Publication(ROOM, b"99", time=1), *world.bus])
    world.node.on_gap([ROOM])
    world.broker.hold = False
    world.broker.release()
    world.scheduler.advance(1)
    assert (reader.got, reader.gaps) == ([1, 2, 3, 4, 99], 0)


def test_no_more_than_the_limit_waits_for_the_end_of_a_check(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above it the subscribers are told; and nothing of it comes to those who come afterwards."""
    monkeypatch.setattr(module, "HELD_LIMIT", 10 * OVERHEAD)
    reader = world.reader().come()
    world.broker.hold = True
    world.node.on_gap([ROOM])
    for _ in range(11):
        world.node.on_events(ROOM, [Publication(ROOM, b"99", time=1)])
    world.broker.hold = False
    world.broker.release()
    world.scheduler.run()
    assert (reader.got, reader.gaps) == ([], 1)
    later = world.reader().come()
    world.publish()
    world.deliver()
    assert later.got == [1]


def test_the_newest_one_in_cache_mode_after_a_check(world: World) -> None:
    """The others got there by a check while the newest one was read: it is read again."""
    world.reader().come()
    world.publish(5)
    world.deliver()
    held: list[Callable[[], object]] = []
    world.broker.complete = held.append  # type: ignore[method-assign, assignment]
    late = world.reader().come(Position(1, world.top.epoch), cache=True)
    world.publish(2)
    world.bus.clear()
    world.node.on_gap([ROOM])
    world.scheduler.run()
    while held:
        held.pop(0)()
        world.scheduler.run()
    assert late.joined is not None
    assert (late.joined.recovered, late.got) == (True, [7])


def test_a_subscriber_that_fails_on_its_way_in_does_not_harm_the_others(world: World) -> None:
    """All are told of the same end of a check, one after the other."""

    def fails(error: object) -> None:
        raise RuntimeError("a fault")

    world.broker.hold = True
    world.messaging.acquire(ROOM, lambda error: None)
    world.broker.hold = False
    world.broker.release()
    world.broker.hold = True
    bad = world.messaging.tracker.join(spec(), None, fails)
    assert bad is not None
    bad.start()
    good = world.reader()
    good.joiner = world.messaging.tracker.join(spec(), None, good.changed)
    assert good.joiner is not None
    good.joiner.start()
    world.broker.hold = False
    world.scheduler.run()
    world.broker.release()
    world.scheduler.run()
    assert good.joined is not None
    assert good.joined.position is not None
    assert agree(good.joined.position, world.top, KEPT.meta_ttl)
    assert good.joined.recovered is None
