"""What a node says of itself, again and again, and what it learns of the cluster meanwhile."""

import logging
from collections.abc import Awaitable, Callable

from gateway.auth.revocations import Revocations
from gateway.broker.base import Registry
from gateway.control import NodeInfo, Revocation
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

INTERVAL = 3.0  # seconds; a lease lives several of them
# Revocations come as control messages, which a node that was cut off reads later. They are read whole when the registry
# may have lost them, and so often besides, for one of which a node of another version made something else.
REVOCATIONS_EVERY = 10  # announcements


class Announcements:
    """Keeps the lease of a node, and the revocations in the registry."""

    def __init__(
        self,
        registry: Registry,
        revocations: Revocations,
        info: Callable[[], NodeInfo],
        learned: Callable[[Revocation], None],
        tell: Callable[[], Awaitable[object]],
        guard: Guard,
    ) -> None:
        """`learned` gets each revocation that this node did not know; `tell` lets all nodes read them again."""
        self._learned = learned
        self._tell = tell
        self._registry = registry
        self._revocations = revocations
        self._info = info
        self._rounds = 0
        # Revocations are to be read again; others are to be told that there are some which the registry had lost.
        self._must_learn = False
        self._must_tell = False
        self._repeating = Repeating(guard, "lease", INTERVAL, self._renew)

    async def start(self) -> None:
        """Raises BrokerUnavailable."""
        await self._registry.announce(self._info())
        self._repeating.start()

    async def stop(self) -> None:
        """End the lease. What this node alone may know of revocations is in the registry by then."""
        await self._repeating.stop()
        try:
            await self.learn()
            await self._registry.withdraw()
        except RequestError as error:
            logger.warning("the lease of this node ends by its time limit: %s", error)

    def announce_soon(self) -> None:
        """Something has changed that others should know now."""
        self._repeating.soon()

    def learn_soon(self) -> None:
        """The registry knows something again that it had lost."""
        self._must_learn = True
        self._repeating.soon()

    async def learn(self) -> None:
        """Learn which revocations the registry knows, and tell it those it has lost. Raises BrokerUnavailable."""
        merged = self._revocations.merge(await self._registry.revocations())
        for revocation in merged.learned:
            self._learned(revocation)
        if merged.forgotten:
            await self._registry.restore(merged.forgotten)
            # Nodes may have started while it had not.
            self._must_tell = True
            self._repeating.soon()

    async def _renew(self) -> None:
        self._rounds += 1
        try:
            has_lasted = await self._registry.announce(self._info())
            self._must_learn |= not has_lasted or self._rounds % REVOCATIONS_EVERY == 0
            if self._must_learn:
                await self.learn()
                self._must_learn = False
            if self._must_tell:
                await self._tell()
                self._must_tell = False
        except RequestError as error:
            logger.warning("this node's lease could not be renewed: %s", error)
