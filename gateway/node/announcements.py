"""A node's periodic announcements, and the revocations that it exchanges with the registry."""

import logging
from collections.abc import Awaitable, Callable

from gateway.auth.revocations import Revocations
from gateway.broker.base import Registry
from gateway.control import NodeInfo, Revocation
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

INTERVAL = 3.0  # seconds; a lease lasts several intervals
# Revocations arrive as control messages, which a node that was cut off reads later. The full list is read when the
# registry may have lost some, and also this often, in case a node of another version treated one differently.
REVOCATIONS_EVERY = 10  # announcements


class Announcements:
    """Renews a node's lease, and keeps its revocations in step with the registry's."""

    def __init__(
        self,
        registry: Registry,
        revocations: Revocations,
        info: Callable[[], NodeInfo],
        learned: Callable[[Revocation], None],
        tell: Callable[[], Awaitable[object]],
        guard: Guard,
        explained: Callable[[], bool],
    ) -> None:
        """`learned` gets each revocation new to this node; `tell` makes all nodes read the revocations again.

        `explained` is asked when an announcement has failed (see Repeating).
        """
        self._learned = learned
        self._tell = tell
        self._registry = registry
        self._revocations = revocations
        self._info = info
        self._rounds = 0
        # Whether to read the revocations again, and whether to tell the other nodes that the registry had lost some.
        self._must_learn = False
        self._must_tell = False
        self._repeating = Repeating(guard, "lease", INTERVAL, self._renew, explained)

    async def start(self) -> None:
        """Raises BrokerUnavailable."""
        await self._registry.announce(self._info())
        self._repeating.start()

    async def stop(self) -> None:
        """End the lease, after saving to the registry any revocations that only this node may know."""
        await self._repeating.stop()
        try:
            await self.learn()
            await self._registry.withdraw()
        except RequestError as error:
            logger.warning("this node's lease could not be ended, and will expire: %s", error.detail or error)

    def announce_soon(self) -> None:
        """Announce soon: something has changed that other nodes should know now."""
        self._repeating.soon()

    def learn_soon(self) -> None:
        """Read the revocations soon: some that the registry had lost are back."""
        self._must_learn = True
        self._repeating.soon()

    async def learn(self) -> None:
        """Read the registry's revocations, and restore those it has lost. Raises BrokerUnavailable."""
        merged = self._revocations.merge(await self._registry.revocations())
        for revocation in merged.learned:
            self._learned(revocation)
        if merged.forgotten:
            await self._registry.restore(merged.forgotten)
            # Nodes may have started while the registry lacked them.
            self._must_tell = True
            self._repeating.soon()

    async def _renew(self) -> None:
        self._rounds += 1
        has_lasted = await self._registry.announce(self._info())
        self._must_learn |= not has_lasted or self._rounds % REVOCATIONS_EVERY == 0
        if self._must_learn:
            await self.learn()
            self._must_learn = False
        if self._must_tell:
            await self._tell()
            self._must_tell = False
