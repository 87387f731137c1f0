"""What was said to all nodes, kept for those whose link is cut at that moment."""

from collections.abc import Callable
from re import compile as compile_pattern
from typing import Any

from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis.redis_registry import failing

# Messages that are kept at least. Redis drops the oldest, in blocks of about a hundred.
KEPT = 1_000
# Messages that are read at once.
PAGE = 100

# Where nothing has been said yet.
START = b"0-0"
_ID = compile_pattern(rb"[0-9]{1,20}-[0-9]{1,20}")


class ControlLog:
    """Follows the log: over the bus while the link stands, and by reading once it is back. Each message comes once."""

    def __init__(self, client: Any, key: bytes, act: Callable[[bytes], object]) -> None:
        """`client` is redis-py's. `act` gets each message, and may not raise."""
        self._client = client
        self._key = key
        self._act = act
        # The message that was acted on last; None before the first look.
        self._last: bytes | None = None
        # What came over the bus before the look that is under way has ended.
        self._early: list[tuple[bytes, bytes]] | None = []

    def cut(self) -> None:
        """The link is gone: what comes over the next one waits for a look."""
        self._early = []

    def take(self, payload: bytes) -> None:
        """What came over the bus, without its head. Raises EnvelopeError."""
        id, space, message = payload.partition(b" ")
        if not space or (id and not _ID.fullmatch(id)):
            raise EnvelopeError(f"{id[:64]!r} is no position in the control log")
        if self._early is None:
            self._pass_on(id, message)
        elif len(self._early) < KEPT:
            self._early.append((id, message))

    async def catch_up(self) -> bool:
        """Act on what came meanwhile, once the bus is subscribed. False where some of it may not be kept any more.

        Raises BrokerUnavailable.
        """
        async with failing("control messages that may have been missed could not be read"):
            known, missed = await self._missed()
        early, self._early = self._early or [], None
        read = {id for id, _ in missed}
        for id, message in missed:
            self._pass_on(id, message)
        for id, message in early:
            if id not in read:
                self._pass_on(id, message)
        return known

    def _pass_on(self, id: bytes, message: bytes) -> None:
        self._last = id or self._last
        self._act(message)

    async def _missed(self) -> tuple[bool, list[tuple[bytes, bytes]]]:
        """Whether they are all there, and they."""
        if self._last is None:
            # A node that starts has nobody whom they are about.
            newest = await self._client.xrevrange(self._key, count=1)
            self._last = newest[0][0] if newest else START
            return True, []
        found = await self._read(self._last)
        if found and found[0][0] == self._last:
            return True, found[1:]
        # What it has seen last was dropped, or Redis lost the log and began another one.
        found = await self._read(b"-")
        return len(found) < KEPT, found

    async def _read(self, start: bytes) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        while True:
            page = await self._client.xrange(self._key, min=start, count=PAGE)
            found += [(id, fields.get(b"m", b"")) for id, fields in page]
            if len(page) < PAGE:
                return found
            start = b"(" + page[-1][0]
