"""What connections are told in one turn of the event loop, gathered into one write each."""

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

    Whoever writes past a cork, as a delivery does, pulls all of them first: what a connection was told before stands
    before it then.
    """

    __slots__ = ("_corked", "_scheduled", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._corked: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, corked: Corked) -> None:
        """The connection keeps something back now, and did not before."""
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
