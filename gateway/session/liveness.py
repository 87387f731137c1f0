"""Whether a client is still there: it is pinged at intervals, and has to answer."""

import random

from gateway import errors
from gateway.config.settings import HeartbeatSettings
from gateway.errors import Disconnect
from gateway.session.inbox import Inbox
from gateway.session.outgoing import Outgoing


class Liveness:
    """Pings and pongs of one connection. Times are monotonic seconds."""

    __slots__ = ("_ping_at", "_pong_by")

    def __init__(self) -> None:
        self._ping_at = self._pong_by = 0.0

    def start(self, now: float, interval: float) -> None:
        """Schedule the first ping at a random time, to spread clients out."""
        self._ping_at = now + interval * random.uniform(0.5, 1)  # noqa: S311 - jitter

    @property
    def due(self) -> float:
        """When to `look` again; 0 before the start."""
        return self._pong_by or self._ping_at

    @property
    def is_asking(self) -> bool:
        """Whether the client owes an answer."""
        return self._pong_by > 0

    def answered(self) -> None:
        """The client answered the ping. Raises Disconnect when none was sent."""
        if not self._pong_by:
            raise Disconnect(errors.BAD_COMMAND, "pong without a ping")
        self._pong_by = 0.0

    def look(self, now: float, settings: HeartbeatSettings, out: Outgoing, inbox: Inbox) -> None:
        """Send a ping, or check for the answer. Raises Disconnect when the client is gone."""
        if self._pong_by and now >= self._pong_by:
            if not out.encoder.answers_pings and (out.has_read or not out.is_congested):
                # It reads, which is all that such a client can do.
                self._pong_by = 0.0
                return
            if not inbox.is_paused or (out.is_congested and not out.has_read):
                raise Disconnect(errors.NO_PONG)
            if inbox.is_stuck and not out.is_congested:
                raise Disconnect(errors.SERVER_ERROR, "a request waits for what does not come")
            # The answer may be waiting in the socket, which is not being read.
            out.has_read = False
            self._pong_by = now + settings.pong_timeout
        elif not self._pong_by and self._ping_at and now >= self._ping_at:
            out.ping()
            self._ping_at = now + settings.ping_interval
            self._pong_by = now + settings.pong_timeout
