"""Whether this node hears itself through Redis, which an open socket does not guarantee."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.broker import envelope
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.link import pack

# A node counts as deaf when it does not hear itself for so many heartbeats, and at least so many seconds.
DEAF_HEARTBEATS = 3
DEAF_SECONDS = 3.0

HEARTBEAT = envelope.VERSION + b"h"


class Heartbeat:
    """Publishes heartbeats to this node, and counts those that do not come back.

    They are counted and not timed: a broken publish link or a suspended process says nothing about the subscribe link.
    """

    def __init__(self, link: KeptLink, bus: bytes, interval: float, deaf: Callable[[], None]) -> None:
        """`bus`: this node's own channel. `deaf` is called when they do not come back."""
        self._link = link
        self._bus = bus
        self._interval = interval
        self._patience = max(DEAF_HEARTBEATS * interval, DEAF_SECONDS)
        self._deaf = deaf
        self._heard_at = 0.0
        # Heartbeats that Redis accepted and that have not come back.
        self._unheard = 0

    @property
    def silence(self) -> float:
        """Seconds since a heartbeat came back, if that is too long; otherwise 0."""
        silence = asyncio.get_running_loop().time() - self._heard_at
        return silence if silence > self._patience else 0.0

    def beat(self) -> None:
        """One heartbeat; called once an interval."""
        if self._link.current is not None:
            self._link.current.send(pack(b"PUBLISH", self._bus, HEARTBEAT), self._sent)
        if self._unheard * self._interval > self._patience:
            self._deaf()

    def heard(self) -> None:
        """One came back, or the subscribe link is new."""
        self._heard_at = asyncio.get_running_loop().time()
        self._unheard = 0

    def _sent(self, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._unheard += 1
