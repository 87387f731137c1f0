"""Periodic work of a node. A round that fails does not prevent the next ones."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.log import LogLimit
from gateway.tasks import end_task

logger = logging.getLogger(__name__)

# Seconds between two lines about the same failure.
LOG_INTERVAL = 10.0


def _unexplained() -> bool:
    return False


class Repeating:
    """Calls `step` every `interval` seconds, counted from the end of the previous call."""

    def __init__(
        self,
        guard: Guard,
        part: str,
        interval: float,
        step: Callable[[], Awaitable[object]],
        explained: Callable[[], bool] = _unexplained,
    ) -> None:
        """A RequestError of a step is a warning in the log, any other exception a fault of `part` (see Guard).

        `explained` is asked after a RequestError: whether the log says already why such work fails now.
        """
        self._guard = guard
        self._part = part
        self._interval = interval
        self._step = step
        self._explained = explained
        self._lines = LogLimit(LOG_INTERVAL)
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The first call comes after an interval."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; no call is in progress afterwards. Safe to call twice, and before start."""
        task, self._task = self._task, None
        await end_task(task)

    def soon(self) -> None:
        """Do not wait for the interval to pass."""
        self._due.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._due.wait()
            self._due.clear()
            try:
                await self._step()
            except RequestError as error:
                detail = error.detail or str(error)
                if not self._explained() and (suppressed := self._lines.passes(about=detail)) is not None:
                    logger.warning("%s", detail, extra=suppressed)
            except Exception:
                self._guard.failed(self._part)
