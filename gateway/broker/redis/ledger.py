"""What has begun on this node and not ended, noted in Redis: if the node dies, another one ends it."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import hiredis

from gateway.broker.base import Ending
from gateway.broker.redis import lua
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys, LeaseId
from gateway.broker.redis.link import pack
from gateway.control import NodeId
from gateway.errors import NODE_LOST, BrokerUnavailable
from gateway.guard import Guard
from gateway.metrics import Metrics
from gateway.repeating import Repeating

logger = logging.getLogger(__name__)

# Events that wait to be told: some hundred bytes each.
MOST_EVENTS = 100_000
# Entries written by one command.
BATCH = 200
# Seconds until what could not be written is tried again.
INTERVAL = 1.0
# Ends that are kept while Redis is away, besides those of what it has.
MOST_UNWRITTEN = 100_000
# Seconds that `settle` waits at most.
PATIENCE = 2.0
# Seconds for which a node that comes back learns that others ended what it had noted.
REMEMBERED = 86_400
# Separates the key of a connection from the rest in the keys of its subscriptions.
SEPARATOR = b":"


class Ledger:
    """Implements the port. One batch is written at a time, in order, and again if that failed."""

    def __init__(
        self,
        link: KeptLink,
        uid: NodeId,
        lease: Callable[[], LeaseId],
        keys: Keys,
        metrics: Metrics,
        guard: Guard,
        explains: Callable[[], bool],
    ) -> None:
        """`link` is one of the home shard, `lease` returns the current lease of this node."""
        self._link = link
        self._lease = lease
        self._keys = keys
        self._ledger, self._closed = keys.ledger(uid), keys.closed_books(uid)
        self._metrics = metrics
        self._writing = Repeating(guard, "ledger", INTERVAL, self._write, explains)
        self._entries: dict[str, bytes] = {}
        # What is not known to be written, in order.
        self._begun: dict[str, bytes] = {}
        self._ended: dict[str, Ending] = {}
        # Those of `_begun` that were sent: Redis has them or not.
        self._unsure: set[str] = set()
        self._settled = asyncio.Event()
        # Whether the lease is a new one, and others may have ended entries for the old one.
        self._must_claim = False
        self.on_closed: Callable[[Sequence[str]], None] = lambda keys: None

    def start(self) -> None:
        self._writing.start()

    async def stop(self) -> None:
        """Safe to call twice, and before start."""
        await self._writing.stop()

    def begin(self, key: str, about: bytes) -> None:
        self._entries[key] = self._begun[key] = about
        self._writing.soon()

    def end(self, key: str, ending: Ending) -> None:
        if self._entries.pop(key, None) is None:
            return
        # (What Redis has would otherwise stay there until this node dies.)
        if len(self._ended) >= MOST_UNWRITTEN and key in self._begun and key not in self._unsure:
            del self._begun[key]
            self.dropped(1)
            return
        self._ended[key] = ending
        self._settled.clear()
        self._writing.soon()

    async def settle(self) -> None:
        if self._ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._settled.wait()

    def claim(self) -> None:
        """The lease of this node is a new one."""
        self._must_claim = True
        self._writing.soon()

    async def _write(self) -> None:
        """Write all there is. Raises BrokerUnavailable."""
        while self._must_claim:
            await self._claim()
        while self._begun or self._ended:
            begun = dict(islice(self._begun.items(), BATCH))
            # An end is sent once its beginning is known to be written: if both were sent together and the replies were
            # lost, both would be repeated, and it would end twice.
            ended = {key: ending for key, ending in islice(self._ended.items(), BATCH) if key not in self._begun}
            commands = []
            if begun:
                self._unsure.update(begun)
                commands.append(pack("HSET", self._ledger, *(part for entry in begun.items() for part in entry)))
            if ended:
                commands.append(_end_command([self._ledger, self._keys.endings()], 0, ended))
            replies = [self._checked(reply) for reply in await self._link.ask_all(commands)]
            for key in begun:
                self._begun.pop(key, None)
            self._unsure.clear()
            for key in ended:
                del self._ended[key]
            if ended:
                self.dropped(replies[-1])
        self._settled.set()

    async def _claim(self) -> None:
        """Raises BrokerUnavailable; then it can be repeated."""
        lease = self._lease()
        if await self._ask("EVALSHA", lua.LEDGER_CLAIM.sha, 2, self._ledger, self._closed, _generation(lease)):
            known = {key.decode(errors="replace") for key in await self._ask("HKEYS", self._ledger)}
            closed = [
                key for key in self._entries if key not in known and (key not in self._begun or key in self._unsure)
            ]
            # Those that may never have been written are written again: that they have ended is then told by this node.
            for key in closed:
                if key not in self._begun:
                    del self._entries[key]
            self.on_closed(closed)
            # Only now: until then, all this may have to be repeated.
            await self._ask("DEL", self._closed)
        # Redis may have lost the others.
        self._begun = {**self._entries, **self._begun}
        # The lease may have become another one in the meantime.
        self._must_claim = self._lease() != lease

    async def close_books(self, lease: LeaseId) -> None:
        """End all that a node has noted whose lease has expired. Raises BrokerUnavailable."""
        uid = NodeId(lease[:-4])
        ledger = self._keys.ledger(uid)
        if not await self._ask("HLEN", ledger):
            return
        names = [ledger, self._keys.endings(), self._keys.closed_books(uid)]
        ending = Ending(NODE_LOST.code, NODE_LOST.reason)
        keys = [key for key in await self._ask("HKEYS", ledger) if key]
        # Subscriptions end before their connections.
        keys.sort(key=lambda key: SEPARATOR not in key)
        # Once at least: the script also removes what is left of the ledger.
        for start in range(0, max(len(keys), 1), BATCH):
            batch = dict.fromkeys(keys[start : start + BATCH], ending)
            dropped = await self._ask_packed(_end_command(names, _generation(lease), batch))
            if dropped < 0:
                return
            self.dropped(dropped)

    async def _ask(self, *command: Any) -> Any:
        """Raises BrokerUnavailable."""
        return await self._ask_packed(pack(*command))

    async def _ask_packed(self, command: bytes) -> Any:
        """Raises BrokerUnavailable."""
        (reply,) = await self._link.ask_all([command])
        return self._checked(reply)

    def _checked(self, reply: Any) -> Any:
        """The reply. Raises BrokerUnavailable for an error."""
        if isinstance(reply, hiredis.ReplyError):
            if str(reply).startswith("NOSCRIPT") and self._link.current is not None:
                lua.reload(self._link.current)
            raise BrokerUnavailable(f"what the application is to be told was not written: {reply}")
        if isinstance(reply, Exception):
            raise BrokerUnavailable(f"what the application is to be told was not written: {reply}")
        return reply

    def dropped(self, number: int) -> None:
        """Count events that did not fit."""
        if number:
            self._metrics.hook_events_dropped.add("full", number)
            logger.error("%d events for hooks were dropped: too many wait to be told", number)


def _end_command(names: list[bytes], generation: int, ended: Mapping[str, Ending] | Mapping[bytes, Ending]) -> bytes:
    arguments = (part for key, ending in ended.items() for part in (key, *ending))
    return pack("EVALSHA", lua.LEDGER_END.sha, len(names), *names, MOST_EVENTS, generation, REMEMBERED, *arguments)


def _generation(lease: LeaseId) -> int:
    return int(lease[-4:], 16)
