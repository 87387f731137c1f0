"""What is published when the machine stands still, and when the run is told to end."""

import asyncio
import time
from typing import cast

import pytest
import uvloop

from gateway_loadtest.counting.counters import Counters
from gateway_loadtest.counting.marks import Marks
from gateway_loadtest.running.load_client import Client
from gateway_loadtest.running.schedule import Schedule

# Publications, and the seconds in which they are due.
COUNT, SECONDS = 20, 0.2


class Nobody:
    """A client that is not connected: attempts to publish fail, and count."""

    link = None

    def __init__(self) -> None:
        self.pending: dict[int, object] = {}


def published(stops: int, seconds: float = SECONDS) -> int:
    """How many of them are tried, if the loop stands still until all are due, and then `stop` is called so often."""

    async def scenario() -> int:
        nobody = cast(Client, Nobody())
        counters = Counters()
        schedule = Schedule({0: nobody}, [0], Marks("run", 100), counters)
        running = asyncio.create_task(schedule.run(time.monotonic_ns(), seconds, COUNT / seconds))
        while not counters.slots:
            await asyncio.sleep(0)
        time.sleep(2 * SECONDS)
        for _ in range(stops):
            schedule.stop()
        await schedule.settle(30)
        await running
        schedule.close()
        return counters.slots

    return uvloop.run(asyncio.wait_for(scenario(), 60))


def test_what_is_due_when_the_run_ends_is_published() -> None:
    """A generator that was late by the last of its publications has not made fewer of them."""
    assert published(stops=1) == COUNT


@pytest.mark.parametrize(("stops", "seconds"), [(2, SECONDS), (1, 3600.0)], ids=["in a hurry", "not due"])
def test_nothing_else_is(stops: int, seconds: float) -> None:
    """Neither after Ctrl-C nor what is due later; who waits for that goes on at once."""
    assert 0 < published(stops, seconds) < COUNT
