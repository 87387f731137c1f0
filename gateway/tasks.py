"""Ending background tasks."""

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)

# Seconds until a task that goes on is cancelled again.
PATIENCE = 1.0
# Cancellations after which a line in the log tells what holds up the stop.
TRIES = 5


async def end_task(task: "asyncio.Task[Any] | None") -> None:
    """Cancel a task, and return when it has ended. What it raises is dropped.

    One cancellation may not be enough: before Python 3.12 `asyncio.wait_for`, which redis-py waits with, loses those
    that come in the moment in which the awaited call returns. A task that ignores TRIES of them is logged, once.
    """
    tries = 0
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=PATIENCE)
        tries += 1
        if tries == TRIES and not task.done():
            # Its representation has its name and the line of code at which it waits.
            logger.warning("a task that was cancelled does not end, and holds up a stop", extra={"task": repr(task)})
    if task is not None and not task.cancelled():
        # Otherwise asyncio reports that nobody looked at it.
        task.exception()
