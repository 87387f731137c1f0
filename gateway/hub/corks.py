"""Gathers what a connection is told in one turn of the event loop into one write."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.scheduler import Scheduler


class Corked(Protocol):
    """A connection that keeps messages back until the end of the turn."""

    def uncork(self) -> None:
        """Write what was kept back. Must not raise."""


class Corks:
    """The corked connections of a node.

    A delivery, which bypasses the corks, pulls all of them first, so that what a connection was told earlier is
    written before it.
    """

    __slots__ = ("_corked", "_scheduled", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._corked: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, corked: Corked) -> None:
        """The connection has begun to keep messages back."""
        self._corked.append(corked.uncork)
        if not self._scheduled:
            self._scheduled = True
            self._scheduler.call_soon(self._end_turn)

    def pull(self) -> None:
        """Let all of them write."""
        while self._corked:
            self._corked.popleft()()

    def _end_turn(self) -> None:
        self._scheduled = False
        self.pull()
