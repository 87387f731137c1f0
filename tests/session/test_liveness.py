"""Pings, pongs and the wheel they hang on."""

import sys

import pytest

from gateway import errors
from gateway.messages import Connect, Subscribe
from gateway.session.wheel import RESOLUTION, TURN_WEIGHT, TimingWheel
from tests.fakes import GUARD, ManualScheduler
from tests.session.conftest import Client, World

PING: list[dict[str, object]] = [{}]


def to_ping(world: World, client: Client) -> float:
    """Let time pass until the ping; how long it took."""
    start = world.scheduler.now()
    while not (got := client.got()):
        world.scheduler.advance(RESOLUTION)
        assert world.scheduler.now() - start < 60
    assert got == PING
    return world.scheduler.now() - start


def test_the_first_ping_comes_at_a_random_time_then_on_schedule(world: World) -> None:
    clients = [world.connect() for _ in range(20)]
    firsts = {round(to_ping(world, client), 1) for client in clients[:1]}
    assert all(12.5 <= first <= 25.5 for first in firsts)
    client = clients[0]
    assert client.send({}) == []
    assert 24.9 <= to_ping(world, client) <= 25.6


def test_pings_come_on_schedule_on_a_busy_connection(world: World) -> None:
    """centrifuge-python counts only pings as signs of life."""
    client = world.subscriber("news")
    pings = 0
    for _ in range(240):
        world.scheduler.advance(0.25)
        world.publish("news", 1)
        for message in client.got():
            if message == {}:
                pings += 1
                client.raw(b"{}")
    assert pings == 2
    assert client.closed_with() is None


def test_no_pong_closes(world: World) -> None:
    client = world.connect()
    to_ping(world, client)
    world.scheduler.advance(7.5)
    assert client.closed_with() is None
    world.scheduler.advance(1)
    assert client.closed_with() == errors.NO_PONG


def test_a_pong_nobody_asked_for_is_a_bad_request(world: World) -> None:
    client = world.connect()
    client.send({})
    assert client.closed_with() == errors.BAD_COMMAND


def test_a_second_pong_is_a_bad_request(world: World) -> None:
    """So a flood of them ends with the first one too many."""
    client = world.connect()
    to_ping(world, client)
    client.send({}, {}, {})
    assert client.closed_with() == errors.BAD_COMMAND
    assert world.metrics.closed.values == {"3501": 1}


def test_pong_frames_do_not_stand_for_pongs_of_the_protocol(world: World) -> None:
    """Client libraries send them unasked (RFC 6455 5.5.3); the real pong must not come as one too many."""
    client = world.connect()
    to_ping(world, client)
    for _ in range(1000):
        client.session.ponged()
    client.send({})
    assert client.closed_with() is None
    to_ping(world, client)
    client.session.ponged()
    world.scheduler.advance(9)
    assert client.closed_with() == errors.NO_PONG


def test_a_pong_before_connect_is_a_bad_request(world: World) -> None:
    client = world.open()
    client.send({})
    assert client.closed_with() == errors.BAD_COMMAND


def test_a_pong_that_waits_behind_our_own_pause_is_waited_for(world: World) -> None:
    """The client may have answered in time while we did not read."""
    client = world.connect()
    to_ping(world, client)
    world.broker.hold = True
    client.send({"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "unsubscribe": {"channel": "a"}})
    assert not client.transport.reading
    world.scheduler.advance(10)
    assert client.closed_with() is None
    world.broker.release()
    client.send({})
    assert client.closed_with() is None


def test_plain_connections_are_pinged_by_the_transport(world: World) -> None:
    client = world.open_plain(Connect(1), Subscribe(2, "news"), channel="news")

    def until_ping() -> None:
        start = world.scheduler.now()
        while not (written := client.transport.take()):
            world.scheduler.advance(RESOLUTION)
            assert world.scheduler.now() - start < 60
        assert written == b"PING"

    until_ping()
    client.session.ponged()
    # A pong that nobody asked for is legal at this level.
    client.session.ponged()
    until_ping()
    world.scheduler.advance(9)
    assert client.closed_with() == errors.NO_PONG


def test_shutdown_closes_to_reconnect(world: World) -> None:
    client = world.subscriber("news")
    client.session.shutdown()
    assert client.closed_with() == errors.SHUTDOWN
    assert world.broker.subscribed == set()
    assert world.metrics.closed.values == {"3001": 1}


class Timed:
    """Records when its timer fires."""

    def __init__(self, scheduler: ManualScheduler, weight: int = 1) -> None:
        self.due = 0
        self.weight = weight
        self.fired: list[float] = []
        self._scheduler = scheduler

    def on_timer(self) -> None:
        self.fired.append(self._scheduler.now())


def test_the_wheel_fires_once_within_its_resolution() -> None:
    scheduler = ManualScheduler()
    wheel = TimingWheel(scheduler, GUARD)
    delays = [0.0, 0.1, 0.3, 7.77, 100.0]
    timed = [Timed(scheduler) for _ in delays]
    start = scheduler.now()
    for each, delay in zip(timed, delays, strict=True):
        wheel.schedule(each, delay)
    scheduler.advance(200)
    for each, delay in zip(timed, delays, strict=True):
        (fired,) = each.fired
        assert delay <= fired - start <= delay + 2 * RESOLUTION


def test_the_wheel_keeps_only_the_last_deadline() -> None:
    scheduler = ManualScheduler()
    wheel = TimingWheel(scheduler, GUARD)
    later, earlier, cancelled = (Timed(scheduler) for _ in range(3))
    start = scheduler.now()
    wheel.schedule(later, 1)
    wheel.schedule(later, 5)
    wheel.schedule(earlier, 5)
    wheel.schedule(earlier, 1)
    wheel.schedule(earlier, 1)
    wheel.schedule(cancelled, 1)
    wheel.cancel(cancelled)
    scheduler.advance(10)
    assert [round(when - start) for when in later.fired] == [5]
    assert [round(when - start) for when in earlier.fired] == [1]
    assert cancelled.fired == []


def test_the_wheel_rests_when_nothing_is_due_and_starts_again() -> None:
    scheduler = ManualScheduler()
    wheel = TimingWheel(scheduler, GUARD)
    first, second = Timed(scheduler), Timed(scheduler)
    wheel.schedule(first, 1)
    scheduler.advance(1000)
    assert scheduler.turn() == 0
    wheel.schedule(second, 1)
    scheduler.advance(3)
    assert len(first.fired) == len(second.fired) == 1


@pytest.mark.parametrize("moved", [False, True])
def test_the_wheel_keeps_nothing_of_a_deadline_that_is_forgotten_or_moved(*, moved: bool) -> None:
    """Clients that come and go at once would be kept until the deadline that they had."""
    scheduler = ManualScheduler()
    wheel = TimingWheel(scheduler, GUARD)
    timed = Timed(scheduler)
    wheel.schedule(timed, 25)
    references = sys.getrefcount(timed)
    if moved:
        wheel.schedule(timed, 50)
        assert sys.getrefcount(timed) == references
    else:
        wheel.cancel(timed)
        assert sys.getrefcount(timed) == references - 1


@pytest.mark.parametrize(("weight", "a_turn"), [(1, TURN_WEIGHT), (TURN_WEIGHT // 4, 4), (10 * TURN_WEIGHT, 1)])
def test_deadlines_that_pass_together_are_looked_at_in_turns_of_the_loop(weight: int, a_turn: int) -> None:
    """In order, and no turn does more than its share."""
    scheduler = ManualScheduler()
    wheel = TimingWheel(scheduler, GUARD)
    timed = [Timed(scheduler, weight) for _ in range(3 * a_turn)]
    for each in timed:
        wheel.schedule(each, 1)
    scheduler.oversleep(2)
    for turn in range(3):
        scheduler.turn()
        assert [len(each.fired) for each in timed] == [1] * a_turn * (turn + 1) + [0] * a_turn * (2 - turn)


def test_a_deadline_that_waits_for_its_turn_can_be_moved_and_forgotten() -> None:
    scheduler = ManualScheduler()
    wheel = TimingWheel(scheduler, GUARD)
    first, moved, forgotten = (Timed(scheduler, TURN_WEIGHT) for _ in range(3))
    for each in (first, moved, forgotten):
        wheel.schedule(each, 1)
    scheduler.oversleep(2)
    scheduler.turn()
    assert len(first.fired) == 1
    wheel.schedule(moved, 5)
    wheel.cancel(forgotten)
    scheduler.run()
    assert moved.fired == []
    scheduler.advance(10)
    assert (len(first.fired), len(moved.fired), len(forgotten.fired)) == (1, 1, 0)
