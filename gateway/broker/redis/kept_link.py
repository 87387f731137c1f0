"""A link that is replaced whenever it breaks."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.broker.redis.link import Link
from gateway.errors import BrokerUnavailable
from gateway.guard import Guard
from gateway.metrics import Metrics
from gateway.tasks import end_task

logger = logging.getLogger(__name__)

# Seconds between attempts to connect: the first is soon; all are jittered so that nodes do not reconnect in step.
FIRST_DELAY = 0.1
LAST_DELAY = 1.0


class KeptLink:
    """One of the links of a node."""

    def __init__(
        self,
        name: str,
        target: str,
        open_link: Callable[[], Awaitable[Link]],
        lost: Callable[[str], None],
        metrics: Metrics,
        guard: Guard,
    ) -> None:
        """`name` and `target` are for the log. `lost` is called with the reason when the link is gone."""
        self._name = name
        self._target = target
        self._open = open_link
        self._lost = lost
        self._metrics = metrics
        self._guard = guard
        self._task: asyncio.Task[None] | None = None
        # None while there is none.
        self.current: Link | None = None
        self.reason = "this node has not connected to it yet"

    @property
    def trouble(self) -> str:
        """Why nothing can be sent."""
        return f"no connection to Redis: {self.reason}" if self.current is None else self.current.trouble

    @property
    def pending_bytes(self) -> int:
        """Of commands that are not answered yet."""
        return self.current.pending_bytes if self.current is not None else 0

    async def ask(self, *command: Any) -> Any:
        """Send one command and wait. Raises hiredis.ReplyError or a RequestError."""
        return await self._there().ask(*command)

    async def ask_packed(self, command: bytes) -> Any:
        """As `ask`, with a packed command."""
        return await self._there().ask_packed(command)

    async def ask_all(self, commands: Sequence[bytes]) -> list[Any]:
        """Send packed commands at once and wait: their replies, errors among them. Raises BrokerUnavailable."""
        return await self._there().ask_all(commands)

    def _there(self) -> Link:
        if self.current is None:
            raise BrokerUnavailable(self.trouble)
        return self.current

    async def start(self) -> None:
        """Connect for the first time. Raises BrokerUnavailable."""
        try:
            self.current = await self._open()
        except BrokerUnavailable as error:
            self.reason = error.detail
            raise
        self._task = asyncio.create_task(self._keep(self.current))

    async def stop(self) -> None:
        """Disconnect. Safe to call twice, and before start."""
        if self._task is not None:
            self.reason = "stopped"
            await end_task(self._task)
            self._task = None
        self.abort("the broker is stopped")
        self.current = None

    def abort(self, reason: str) -> None:
        """Drop the current link; another one takes its place."""
        if self.current is not None:
            self.current.abort(reason)

    async def _keep(self, link: Link) -> None:
        while True:
            self.reason = await asyncio.shield(link.lost)
            self._metrics.broker_reconnects.add(self._name)
            logger.warning("Redis at %s: the %s link broke: %s", self._target, self._name, self.reason)
            self.current = None
            self._guard.call("link", self._name, self._lost, self.reason)
            self.current = link = await self._reopen()
            logger.warning("Redis at %s: the %s link is back", self._target, self._name)

    async def _reopen(self) -> Link:
        delay = FIRST_DELAY
        while True:
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - jitter
            try:
                return await self._open()
            except BrokerUnavailable as error:
                self.reason = error.detail
            except Exception:
                # Without another attempt the link would stay down for ever.
                self._guard.failed("link", self._name)
                self.reason = "internal error"
            delay = min(delay * 2, LAST_DELAY)
