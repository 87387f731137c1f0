"""The Scheduler port on an event loop."""

import asyncio
import time

import uvloop

from gateway.scheduler import Scheduler
from gateway.transports.loop_scheduler import LoopScheduler


def test_callbacks_run_in_order_and_time_is_the_loops() -> None:
    """`call_soon` before `call_later`, monotonic time of the loop, Unix time of the system."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        scheduler: Scheduler = LoopScheduler()
        order: list[str] = []
        done = asyncio.Event()
        scheduler.call_later(0.02, done.set)
        scheduler.call_later(0.01, lambda: order.append("later"))
        scheduler.call_soon(lambda: order.append("soon"))
        start = scheduler.now()
        await done.wait()
        assert order == ["soon", "later"]
        assert start < scheduler.now() <= loop.time()
        assert abs(scheduler.time() - time.time()) < 60

    asyncio.run(run())
    uvloop.run(run())
