"""The life cycle of a node: joining the cluster, health, and leaving."""

import asyncio
import logging
from collections.abc import Callable

from gateway.broker.base import Broker, Health
from gateway.errors import BrokerUnavailable, ConfigError
from gateway.metrics import Metrics
from gateway.node.administration import Administration
from gateway.node.messaging import Messaging
from gateway.node.vitals import LoopLag
from gateway.tasks import end_task

logger = logging.getLogger(__name__)

# Seconds between attempts to join the cluster, and attempts between two log lines about it.
JOIN_DELAY = 1.0
TELL_EVERY = 30


class Node:
    """One server process in its cluster. Implements the broker's Receiver port, with the methods of its parts."""

    def __init__(
        self,
        broker: Broker,
        messaging: Messaging,
        administration: Administration,
        metrics: Metrics,
        on_relayed: Callable[[bytes, Callable[[bytes], None]], None],
    ) -> None:
        """`on_relayed`: as in the port."""
        self._broker = broker
        self._administration = administration
        self._metrics = metrics
        self._lag: LoopLag | None = None
        self._joining: asyncio.Task[None] | None = None
        # Why it has not joined the cluster yet; empty once it has.
        self._unjoined = "this node has not connected to its cluster yet"
        # Bound directly, to save a call per delivery.
        self.on_events = messaging.on_events
        self.on_gap = messaging.on_gap
        self.on_unreadable = messaging.on_unreadable
        self.on_control = administration.on_control
        self.on_control_lost = administration.on_control_lost
        self.catch_up = administration.catch_up
        self.on_relayed = on_relayed

    async def start(self) -> None:
        """Join the cluster, at once or as soon as the broker is available. Raises ConfigError."""
        self._lag = LoopLag(self._metrics)
        if not await self._is_joined():
            self._joining = asyncio.create_task(self._join_later())

    async def _is_joined(self) -> bool:
        try:
            await self._broker.start(self)
            try:
                await self._administration.start()
            except BaseException:
                await self._broker.stop()
                raise
        except BrokerUnavailable as error:
            self._unjoined = error.detail
            return False
        self._unjoined = ""
        return True

    async def _join_later(self) -> None:
        """Keep trying: Redis may be started later, or still be loading, and this process should not need a restart."""
        attempts = 0
        while True:
            if attempts % TELL_EVERY == 0:
                logger.warning("not ready, trying again: %s (setting redis.url)", self._unjoined)
            attempts += 1
            await asyncio.sleep(JOIN_DELAY)
            try:
                if await self._is_joined():
                    break
            except ConfigError as error:
                # Another node joined first, with different settings.
                self._unjoined = str(error)
        logger.warning("joined the cluster after %d attempts", attempts)

    async def stop(self) -> None:
        """Leave the cluster, once the clients are gone; the link to Redis closes last."""
        if self._lag is not None:
            self._lag.stop()
        await end_task(self._joining)
        if not self._unjoined:
            await self._administration.stop()
        await self._broker.stop()

    def health(self) -> Health:
        """Whether this node can serve: readiness."""
        return Health(False, self._unjoined) if self._unjoined else self._broker.health()

    @property
    def draining(self) -> bool:
        """Whether new clients should be sent to other nodes."""
        return self._administration.draining
