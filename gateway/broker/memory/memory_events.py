"""What an application is to be told, in the memory of one process."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from gateway.broker.base import Ending, Happening
from gateway.messages import Channel


class MemoryEvents:
    """Implements Ledger and EventLog for a cluster of one node."""

    lasting = False

    def __init__(self) -> None:
        self.on_news: Callable[[], object] = lambda: None
        self.on_closed: Callable[[Sequence[str]], None] = lambda keys: None
        self._begun: dict[str, bytes] = {}
        self._numbers = count(1)
        # Those that were not taken yet, in order. No other node could take them again.
        self._waiting: deque[Happening] = deque()

    def begin(self, key: str, about: bytes) -> None:
        self._begun[key] = about

    def end(self, key: str, ending: Ending) -> None:
        about = self._begun.pop(key, None)
        if about is not None:
            self._add(Happening(self._id(), _now(), about, ending))

    async def settle(self) -> None:
        pass

    def changed(self, channel: Channel, *, is_occupied: bool) -> None:
        """A channel became occupied or vacated."""
        self._add(Happening(self._id(), _now(), channel=channel, is_occupied=is_occupied))

    def _id(self) -> str:
        return str(next(self._numbers))

    def _add(self, happening: Happening) -> None:
        self._waiting.append(happening)
        self.on_news()

    async def take(self, most: int) -> Sequence[Happening]:
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    async def finish(self, ids: Sequence[str]) -> None:
        pass


def _now() -> int:
    return int(time.time() * 1000)
