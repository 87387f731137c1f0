"""Whether this node hears itself through Redis: an open socket says nothing about that."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.broker import envelope
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.link import pack

# A node is deaf when it does not hear itself for so many heartbeats, and at least for so many seconds.
DEAF_HEARTBEATS = 3
DEAF_SECONDS = 3.0

HEARTBEAT = envelope.VERSION + b"h"


class Heartbeat:
    """Publishes heartbeats to ourselves, and counts those that do not come back.

    They are counted rather than timed: neither a publish link that was away nor a process that was held up says
    anything about the subscribe link.
    """

    def __init__(self, link: KeptLink, bus: bytes, interval: float, deaf: Callable[[], None]) -> None:
        """`bus`: this node's own channel. `deaf` is called when they do not come back."""
        self._link = link
        self._bus = bus
        self._interval = interval
        self._patience = max(DEAF_HEARTBEATS * interval, DEAF_SECONDS)
        self._deaf = deaf
        self._heard_at = 0.0
        # Heartbeats that Redis took, and that have not come back.
        self._unheard = 0

    @property
    def silence(self) -> float:
        """Seconds for which nothing has come back, when that is too long; else 0."""
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
