"""Control messages to all nodes, kept for nodes whose link is cut at that moment."""

from collections.abc import Callable
from re import compile as compile_pattern
from typing import Any

from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis.redis_registry import failing

# The least number of messages that are kept. Redis drops the oldest in blocks of about a hundred.
KEPT = 1_000
# Messages that are read at once.
PAGE = 100

# The position in an empty log.
START = b"0-0"
_ID = compile_pattern(rb"[0-9]{1,20}-[0-9]{1,20}")


class ControlLog:
    """Follows the log: over the bus while the link is up, and by reading when it is back. Each message is seen once."""

    def __init__(self, client: Any, key: bytes, act: Callable[[bytes], object]) -> None:
        """`client` is redis-py's. `act` gets each message, and may not raise."""
        self._client = client
        self._key = key
        self._act = act
        # The last message that was acted on; None before the log was first read.
        self._last: bytes | None = None
        # Messages from the bus that wait until the log has been read; None when they need not wait.
        self._early: list[tuple[bytes, bytes]] | None = []

    def cut(self) -> None:
        """The link is gone: messages over the next one wait until the log has been read."""
        self._early = []

    def take(self, payload: bytes) -> None:
        """A message from the bus, without its head. Raises EnvelopeError."""
        id, space, message = payload.partition(b" ")
        if not space or (id and not _ID.fullmatch(id)):
            raise EnvelopeError(f"{id[:64]!r} is not a position in the control log")
        if self._early is None:
            self._pass_on(id, message)
        elif len(self._early) < KEPT:
            self._early.append((id, message))

    async def catch_up(self) -> bool:
        """Act on missed messages, once the bus is subscribed. False if some of them may no longer be kept.

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
        """Whether the log still has all missed messages, and these."""
        if self._last is None:
            # A node that starts has no clients that earlier messages could concern.
            newest = await self._client.xrevrange(self._key, count=1)
            self._last = newest[0][0] if newest else START
            return True, []
        found = await self._read(self._last)
        if found and found[0][0] == self._last:
            return True, found[1:]
        # The last message it has seen was dropped, or Redis lost the log and began another one.
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
