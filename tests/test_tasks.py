"""Ending background tasks."""

import asyncio
import gc
from typing import Any

import pytest

from gateway import tasks
from gateway.tasks import end_task


async def stubborn(lost: list[None], more: int) -> None:
    """A task that goes on in spite of so many cancellations."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.append(None)
            if len(lost) > more:
                raise


@pytest.mark.parametrize("more", [0, 1, 3])
def test_a_task_that_loses_cancellations_is_cancelled_again(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.wait_for` loses some before Python 3.12; a node that stops must not wait for ever."""
    monkeypatch.setattr(tasks, "PATIENCE", 0.001)

    async def run() -> None:
        lost: list[None] = []
        task = asyncio.create_task(stubborn(lost, more))
        await asyncio.sleep(0)
        await end_task(task)
        assert task.cancelled()
        assert len(lost) == more + 1

    asyncio.run(run())


@pytest.mark.parametrize(("more", "lines"), [(tasks.TRIES - 1, 0), (tasks.TRIES, 1), (4 * tasks.TRIES, 1)])
def test_a_task_that_does_not_end_is_named_in_the_log(
    more: int, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: an operator sees what holds up the stop."""
    monkeypatch.setattr(tasks, "PATIENCE", 0.001)

    async def run() -> None:
        task = asyncio.create_task(stubborn([], more), name="the reader")
        await asyncio.sleep(0)
        await end_task(task)

    asyncio.run(run())
    assert len(caplog.records) == lines
    for record in caplog.records:
        assert record.levelname == "WARNING"
        assert "the reader" in vars(record)["task"]
        assert "stubborn" in vars(record)["task"]


def test_an_error_of_the_task_is_dropped() -> None:
    """Nobody is told of it later either."""
    reports: list[dict[str, Any]] = []

    async def fail() -> None:
        raise ValueError

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await end_task(task)
        del task
        gc.collect()

    asyncio.run(run())
    assert reports == []


def test_there_may_be_none_or_one_that_has_ended() -> None:
    async def run() -> None:
        await end_task(None)
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        await end_task(task)
        assert not task.cancelled()

    asyncio.run(run())
