"""Work that comes again and again: whatever one round does, the next one comes, until it is stopped."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import INTERNAL, RequestError
from gateway.guard import Guard
from gateway.metrics import LabelledCounter
from gateway.repeating import Repeating

# Seconds. Longer than any test: a round comes when it is asked for.
NEVER = 3600.0


class Rounds:
    """Counts rounds; each raises what is to be raised in it, if anything."""

    def __init__(self, *errors: Exception | None) -> None:
        self._errors = list(errors)
        self.count = 0
        self._news = asyncio.Condition()

    async def step(self) -> None:
        async with self._news:
            self.count += 1
            self._news.notify_all()
        if self._errors and (error := self._errors.pop(0)) is not None:
            raise error

    async def reach(self, count: int) -> None:
        async with self._news:
            await self._news.wait_for(lambda: self.count >= count)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(within_a_minute())


def repeating(rounds: Rounds, interval: float, faults: LabelledCounter | None = None) -> Repeating:
    return Repeating(Guard(faults or LabelledCounter("faults", "part", "")), "part", interval, rounds.step)


def test_it_comes_again_after_the_interval() -> None:
    async def test() -> None:
        rounds = Rounds()
        work = repeating(rounds, 0.001)
        work.start()
        await rounds.reach(3)
        await work.stop()

    run(test)


def test_it_comes_at_once_when_it_is_asked_for_and_not_before() -> None:
    async def test() -> None:
        rounds = Rounds()
        work = repeating(rounds, NEVER)
        work.start()
        await asyncio.sleep(0)
        assert rounds.count == 0
        for count in (1, 2):
            work.soon()
            await rounds.reach(count)
        await work.stop()
        assert rounds.count == 2

    run(test)


def test_what_fails_in_one_round_does_not_end_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """A fault is counted; what the broker refuses is a line of the log."""

    async def test() -> None:
        faults = LabelledCounter("faults", "part", "")
        rounds = Rounds(ValueError("planted"), RequestError(INTERNAL, "no connection"))
        work = repeating(rounds, NEVER, faults)
        work.start()
        for count in (1, 2, 3):
            work.soon()
            await rounds.reach(count)
        await work.stop()
        assert faults.values == {"part": 1}

    run(test)
    assert [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "gateway.repeating"] == [
        ("WARNING", "no connection")
    ]


@pytest.mark.parametrize("explained", [False, True])
def test_the_same_failure_has_one_line_and_none_if_the_log_explains_it(
    caplog: pytest.LogCaptureFixture, explained: bool
) -> None:
    """Another failure has a line of its own."""

    async def test() -> None:
        rounds = Rounds(*(RequestError(INTERNAL, text) for text in ("refused", "refused", "full", "refused")))
        faults = LabelledCounter("faults", "part", "")
        work = Repeating(Guard(faults), "part", NEVER, rounds.step, lambda: explained)
        work.start()
        for count in range(1, 6):
            work.soon()
            await rounds.reach(count)
        await work.stop()

    run(test)
    told = [each.getMessage() for each in caplog.records if each.name == "gateway.repeating"]
    assert told == ([] if explained else ["refused", "full"])


def test_nothing_is_under_way_once_it_is_stopped() -> None:
    """A round that takes its time is cancelled. Stopping twice, or before the start, does nothing."""

    async def test() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def step() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        work = Repeating(Guard(LabelledCounter("faults", "part", "")), "part", 0.0, step)
        await work.stop()
        work.start()
        await begun.wait()
        await work.stop()
        assert ended.is_set()
        await work.stop()

    run(test)
