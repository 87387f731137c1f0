"""Spreading the end of many connections, on a loop whose time jumps instead of passing."""

import asyncio
import random
import selectors
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.transports.drain import BATCH, Drain
from tests.fakes import GUARD


class JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, time is moved on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


def drained(window: float, count: int, *, turns: int = 3000) -> tuple[list[float], list[int]]:
    """At which times, and in which order, this many connections are closed."""
    random.seed(17)
    times: list[float] = []
    order: list[int] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        drain = Drain(window, GUARD)

        def close(number: int) -> Callable[[], None]:
            def call() -> None:
                order.append(number)
                times.append(loop.time())

            return call

        for number in range(count):
            drain.add(close(number))
        assert drain.started
        for _ in range(turns):
            if len(order) == count:
                break
            await asyncio.sleep(window / 1000)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(run())
    return times, order


def test_connections_are_closed_over_the_whole_window() -> None:
    """Evenly, in small batches, all of them, and not after its end."""
    times, order = drained(10.0, 5000)
    assert sorted(order) == list(range(5000))
    assert max(times) <= 10.1
    per_second = Counter(int(time) for time in times)
    assert all(250 < per_second[second] < 750 for second in range(9))
    assert max(Counter(times).values()) <= BATCH + 1


def test_so_many_that_the_usual_interval_is_too_long() -> None:
    """The batches stay small and come faster."""
    times, order = drained(10.0, 30_000)
    assert sorted(order) == list(range(30_000))
    assert max(times) <= 10.2
    per_second = Counter(int(time) for time in times)
    assert all(2000 < per_second[second] < 4000 for second in range(9))
    assert max(Counter(times).values()) <= 3 * BATCH


def test_few_connections_are_spread_too() -> None:
    """A handful does not leave at one moment."""
    times, _ = drained(10.0, 10)
    assert max(times) - min(times) > 4
    assert max(Counter(times).values()) <= 2


def test_the_order_is_random() -> None:
    """Clients that arrived together do not come back together."""
    _, order = drained(1.0, 200)
    assert order != sorted(order)
    assert order != sorted(order, reverse=True)


@pytest.mark.parametrize("turns", [0, 1, 10])
def test_who_hurries_ends_a_window(turns: int) -> None:
    """At that moment, also what waits for its turn in an hour, and what comes later."""
    closed: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        drain = Drain(36_000.0, GUARD)
        for _ in range(3 * BATCH):
            drain.add(lambda: closed.append(loop.time()))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert len(closed) < BATCH
        hurried = loop.time()
        drain.hurry()
        drain.add(lambda: closed.append(loop.time()))
        await asyncio.sleep(0.001)
        assert len(closed) == 3 * BATCH + 1
        assert max(closed) == hurried

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(run())


@pytest.mark.parametrize("started", [False, True])
def test_who_hurries_has_no_window(started: bool) -> None:
    """Neither one that would begin now nor one that is empty so far."""
    closed: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        drain = Drain(3600.0, GUARD)
        if started:
            drain.start()
        drain.hurry()
        for _ in range(3 * BATCH):
            drain.add(lambda: closed.append(loop.time()))
        while len(closed) < 3 * BATCH:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(run())
    assert len(set(closed)) == 1


def test_without_a_window_everything_is_closed_at_once_in_batches() -> None:
    """No callback holds the loop for long."""
    turns: list[int] = []

    async def run() -> None:
        drain = Drain(0.0, GUARD)
        closed: list[None] = []
        for _ in range(3 * BATCH):
            drain.add(lambda: closed.append(None))
        while len(closed) < 3 * BATCH:
            await asyncio.sleep(0)
            turns.append(len(closed))

    asyncio.run(run())
    assert sorted(set(turns)) in ([BATCH, 2 * BATCH, 3 * BATCH], [0, BATCH, 2 * BATCH, 3 * BATCH])


def test_a_connection_that_comes_after_the_window_is_closed_at_once() -> None:
    """A handshake that was under way when the server ended."""

    async def run() -> None:
        drain = Drain(0.0, GUARD)
        drain.add(lambda: None)
        await asyncio.sleep(0.01)
        closed = asyncio.Event()
        drain.add(closed.set)
        await closed.wait()

    asyncio.run(run())
