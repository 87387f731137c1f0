"""Ending background tasks."""

import asyncio
from typing import Any

# Seconds until a task that goes on is cancelled again.
PATIENCE = 1.0


async def end_task(task: "asyncio.Task[Any] | None") -> None:
    """Cancel a task, and return when it has ended. What it raises is dropped.

    One cancellation may not be enough: before Python 3.12 `asyncio.wait_for`, which redis-py waits with, loses those
    that come in the moment in which the awaited call returns.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=PATIENCE)
    if task is not None and not task.cancelled():
        # Otherwise asyncio reports that nobody looked at it.
        task.exception()
