"""What a node says of itself, again and again, and what it learns of the cluster meanwhile."""

import logging
from collections.abc import Callable

from gateway.auth.revocations import Revocations
from gateway.broker.base import Registry
from gateway.control import NodeInfo, Revocation
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

INTERVAL = 3.0  # seconds; a lease lives several of them
# Revocations reach a node by control message at once; reading them again covers what it missed while cut off.
REVOCATIONS_EVERY = 10  # announcements


class Announcements:
    """Keeps the lease of a node."""

    def __init__(
        self,
        registry: Registry,
        revocations: Revocations,
        info: Callable[[], NodeInfo],
        learned: Callable[[Revocation], None],
        guard: Guard,
    ) -> None:
        """`learned` gets each revocation that this node did not know."""
        self._learned = learned
        self._registry = registry
        self._revocations = revocations
        self._info = info
        self._rounds = 0
        self._repeating = Repeating(guard, "lease", INTERVAL, self._renew)

    async def start(self) -> None:
        """Raises BrokerUnavailable."""
        await self._learn()
        self._repeating.start()

    async def stop(self) -> None:
        """End the lease."""
        await self._repeating.stop()
        try:
            await self._registry.withdraw()
        except RequestError as error:
            logger.warning("the lease of this node ends by its time limit: %s", error)

    def announce_soon(self) -> None:
        """Something has changed that others should know now."""
        self._repeating.soon()

    async def _learn(self) -> None:
        """Learn what the cluster knows, tell it what it forgot, and say that this node is there."""
        merged = self._revocations.merge(await self._registry.revocations())
        for revocation in merged.learned:
            self._learned(revocation)
        for revocation in merged.forgotten:
            await self._registry.revoke(revocation)
        await self._registry.announce(self._info())

    async def _renew(self) -> None:
        self._rounds += 1
        try:
            if self._rounds % REVOCATIONS_EVERY:
                await self._registry.announce(self._info())
            else:
                await self._learn()
        except RequestError as error:
            logger.warning("this node's lease could not be renewed: %s", error)
