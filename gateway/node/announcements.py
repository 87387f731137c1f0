"""What a node says of itself, again and again, and what it learns of the cluster meanwhile."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from gateway.auth.revocations import Revocations
from gateway.broker.base import Registry
from gateway.control import NodeInfo
from gateway.errors import RequestError

logger = logging.getLogger(__name__)

INTERVAL = 3.0  # seconds; a lease lives several of them
# Revocations reach a node by control message at once; reading them again covers what it missed while cut off.
REVOCATIONS_EVERY = 10  # announcements


class Announcements:
    """Keeps the lease of a node."""

    def __init__(self, registry: Registry, revocations: Revocations, info: Callable[[], NodeInfo]) -> None:
        self._registry = registry
        self._revocations = revocations
        self._info = info
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        """Raises BrokerUnavailable."""
        await self._learn()
        self._stopping = False
        self._task = asyncio.create_task(self._announce_forever())

    async def stop(self) -> None:
        """End the lease."""
        # The registry may lose a cancellation, as `asyncio.wait_for` does before Python 3.12.
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        try:
            await self._registry.withdraw()
        except RequestError as error:
            logger.warning("the lease of this node ends by its time limit: %s", error)

    def announce_soon(self) -> None:
        """Something has changed that others should know now."""
        self._due.set()

    async def _learn(self) -> None:
        """Learn what the cluster knows, tell it what it forgot, and say that this node is there."""
        for forgotten in self._revocations.merge(await self._registry.revocations()):
            await self._registry.revoke(forgotten)
        await self._registry.announce(self._info())

    async def _announce_forever(self) -> None:
        rounds = 0
        while not self._stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._due.wait()
            self._due.clear()
            rounds += 1
            try:
                if rounds % REVOCATIONS_EVERY:
                    await self._registry.announce(self._info())
                else:
                    await self._learn()
            except RequestError as error:
                logger.warning("this node's lease could not be renewed: %s", error)
