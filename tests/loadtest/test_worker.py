"""A worker by itself, at the other end of its pipe."""

import asyncio
import multiprocessing
import threading
import time
from typing import Any

import uvloop

from gateway_loadtest.planning.plan import Plan, StagePlan
from gateway_loadtest.running.worker import Broken, Worker

PLAN = Plan(
    scenario="rooms", targets=("ws://127.0.0.1:1",), stages=(StagePlan("steady", 1.0),), channels=1, members=1, rate=0.0
)


def test_what_it_tells_may_be_larger_than_the_pipe_holds() -> None:
    """Of a run in which a million publications were refused, say."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    heard: list[Any] = []

    def listen() -> None:
        while not any(isinstance(message, Broken) for message in heard):
            heard.append(ours.recv())

    async def scenario() -> None:
        worker = Worker(theirs, PLAN, "run", 0, 1)
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0)
        worker._tell(Broken("x" * 20_000_000))
        await asyncio.to_thread(listener.join)
        ours.close()
        await running

    listener = threading.Thread(target=listen)
    listener.start()
    uvloop.run(asyncio.wait_for(scenario(), 30))
    assert len(heard[-1].text) == 20_000_000


def test_a_loop_that_stood_still_was_late_all_the_time() -> None:
    """One look that came late would hide that most of the time nothing went on."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()

    async def scenario() -> Worker:
        worker = Worker(theirs, PLAN, "run", 0, 1)
        watching = asyncio.create_task(worker._watch_lag())
        await asyncio.sleep(0)
        time.sleep(0.5)
        while worker.counters.lag.histogram.get_total_count() < 10:
            await asyncio.sleep(0.01)
        watching.cancel()
        return worker

    worker = uvloop.run(asyncio.wait_for(scenario(), 30))
    assert worker.counters.lag.histogram.get_value_at_percentile(50) > 150_000
    ours.close()
    theirs.close()
