"""What an application is to be told, in the memory of one process."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from gateway.broker.base import Ending, Happening
from gateway.log import LogLimit
from gateway.messages import Channel
from gateway.metrics import Metrics

logger = logging.getLogger(__name__)

# Ends that wait to be told, and changes of channels: some hundred bytes each.
MOST_EVENTS = 100_000
# Seconds between two lines about events that were dropped.
LOG_INTERVAL = 10.0


class MemoryEvents:
    """Implements Ledger and EventLog for a cluster of one node."""

    lasting = False

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives Unix seconds."""
        self._metrics = metrics
        self._clock = clock
        self._lines = LogLimit(LOG_INTERVAL)
        self.on_news: Callable[[], object] = lambda: None
        self.on_closed: Callable[[Sequence[str]], None] = lambda keys: None
        self._begun: dict[str, bytes] = {}
        self._numbers = count(1)
        # Those that were not taken yet, in order. No other node could take them again.
        self._ends: deque[Happening] = deque()
        self._changes: deque[Happening] = deque()

    def begin(self, key: str, about: bytes) -> None:
        self._begun[key] = about

    def end(self, key: str, ending: Ending) -> None:
        about = self._begun.pop(key, None)
        if about is not None:
            self._add(Happening(*self._stamp(), about, ending))

    async def settle(self) -> None:
        pass

    def changed(self, channel: Channel, *, is_occupied: bool) -> None:
        """A channel became occupied or vacated."""
        self._add(Happening(*self._stamp(), channel=channel, is_occupied=is_occupied))

    def _stamp(self) -> tuple[str, int]:
        """Id and time."""
        return str(next(self._numbers)), int(self._clock() * 1000)

    def _add(self, happening: Happening) -> None:
        waiting = self._ends if happening.ending is not None else self._changes
        if len(waiting) >= MOST_EVENTS:
            self._metrics.hook_events_dropped.add("full")
            if (suppressed := self._lines.passes()) is not None:
                logger.error("an event for hooks was dropped: too many wait to be told", extra=suppressed)
            return
        waiting.append(happening)
        self.on_news()

    async def take(self, ends: int, changes: int) -> Sequence[Happening]:
        found = [
            waiting.popleft()
            for waiting, most in ((self._ends, ends), (self._changes, changes))
            for _ in range(min(most, len(waiting)))
        ]
        return sorted(found, key=lambda happening: int(happening.id))

    async def finish(self, ids: Sequence[str]) -> None:
        pass
