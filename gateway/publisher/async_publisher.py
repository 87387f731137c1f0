"""The publisher for asyncio."""

import asyncio
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from gateway.broker.redis.posted_settings import UnknownSettings
from gateway.broker.redis.topology import Topology
from gateway.client import commands
from gateway.client.commands import Command
from gateway.client.connection import describe
from gateway.errors import BrokerUnavailable
from gateway.hooks.hooks import Hooks
from gateway.publisher.job import Item, Job, by_shard, to_user
from gateway.publisher.known import DIGEST, DOCUMENT, STALE_AFTER, Known, known_of
from gateway.publisher.links import Flight, ShardLink
from gateway.publisher.place import Place, place_of

P = ParamSpec("P")
R = TypeVar("R")

# Of one try: what is known, and the items of each shard.
Parts = Iterator[tuple[Known, dict[ShardLink, list[Item]]]]


def _method(build: Callable[P, Command[R]]) -> "Callable[Concatenate[AsyncPublisher, P], Coroutine[None, None, R]]":
    async def method(publisher: "AsyncPublisher", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await publisher._carry_out(build(*args, **kwargs))

    describe(method, build)
    return method


class AsyncPublisher:
    """Publishes into the Redis of the nodes. It may be made when a module is imported, before there is an event loop.

    Methods raise ClientError. Each loop has one connection, which is made when it is needed and shared by all tasks.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        prefix: str | None = None,
        tls_ca_file: str | None = None,
        timeout: float = 5.0,
        retries: int = 2,
        hooks: Hooks | None = None,
    ) -> None:
        """`redis_url`, `prefix`, `tls_ca_file`: as the nodes have them; GATEWAY_REDIS__... if they are not given.

        `timeout`: seconds for a call, with its retries. `hooks`: whose payload models publications have to fit. Raises
        ConfigError.
        """
        self._place = place_of(redis_url, prefix, tls_ca_file, timeout, retries, hooks)
        # Another process has another loop.
        self._loops: dict[AbstractEventLoop, _Loop] = {}

    publish = _method(commands.publish)
    broadcast = _method(commands.broadcast)
    to_user = _method(to_user)

    async def aclose(self) -> None:
        """Close the connection of the running loop. A later call makes a new one."""
        if (own := self._loops.pop(asyncio.get_running_loop(), None)) is not None:
            own.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _carry_out(self, command: Command[R]) -> R:
        job = Job(command, self._place.tries(), retries=self._place.retries)
        while True:
            try:
                await self._own().attempt(job)
            except BrokerUnavailable as error:
                job.fail(error.detach())
            if (pause := job.after()) is None:
                return job.result()
            await asyncio.sleep(pause.seconds)

    def _own(self) -> "_Loop":
        loop = asyncio.get_running_loop()
        if (own := self._loops.get(loop)) is not None:
            return own
        for other in [each for each in self._loops if each.is_closed()]:
            self._loops.pop(other, None)
        own = self._loops[loop] = _Loop(self._place)
        return own


class _Loop:
    """What one event loop has: links, and what it has read last."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._home = ShardLink(place.target, place.settings, place.home)
        # With the shards that follow from it.
        self._known: tuple[Known, Topology[ShardLink]] | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()
        # Calls that wait for the lock or have it: later ones must not overtake them.
        self._waiting = 0

    def close(self) -> None:
        self._home.close()

    async def attempt(self, job: Job[Any]) -> None:
        """One try. Raises BrokerUnavailable for what was not sent, Refused."""
        try:
            async with asyncio.timeout(job.tries.left):
                parts, flight = await self._begin(job)
                while flight is not None:
                    await flight.landed()
                    flight = self._send_next(job, parts)
        except TimeoutError:
            raise BrokerUnavailable(f"not sent within {job.tries.timeout:g} s") from None

    async def _begin(self, job: Job[Any]) -> tuple[Parts, Flight | None]:
        """Send the first part, in the order of the calls: none overtakes those that wait for a connection."""
        if not self._waiting and self._is_ready():
            return self._first(job)
        self._waiting += 1
        try:
            async with self._lock:
                await self._make_ready()
                return self._first(job)
        finally:
            self._waiting -= 1

    def _first(self, job: Job[Any]) -> tuple[Parts, Flight | None]:
        assert self._known is not None
        known, topology = self._known
        parts = ((known, by_shard(part, topology.shard_of)) for part in job.parts(known))
        return parts, self._send_next(job, parts)

    def _send_next(self, job: Job[Any], parts: Parts) -> Flight | None:
        """None after the last part."""
        for known, groups in parts:
            flight = Flight(job, [item for items in groups.values() for item in items])
            for shard, items in groups.items():
                shard.send(known, items, flight)
            return flight
        return None

    def _is_ready(self) -> bool:
        if self._known is None or time.monotonic() - self._read_at >= STALE_AFTER:
            return False
        known, topology = self._known
        return all(shard.is_ready(durable=known.durable) for shard in topology.all)

    async def _make_ready(self) -> None:
        """Connect, and read what nodes have written; what is known already counts if Redis does not tell.

        Raises BrokerUnavailable.
        """
        if self._known is None or time.monotonic() - self._read_at >= STALE_AFTER:
            await self._read()
        assert self._known is not None
        known, topology = self._known
        for shard in topology.all:
            await shard.look(durable=known.durable)

    async def _read(self) -> None:
        found = self._known
        try:
            fresh = await self._fresh(found[0] if found is not None else None)
        except BrokerUnavailable as error:
            if found is None or isinstance(error, UnknownSettings):
                raise
            return
        self._read_at = time.monotonic()
        if fresh is not None:
            self._known = fresh, Topology(fresh.keys, [self._home] * fresh.keys.partitions)

    async def _fresh(self, known: Known | None) -> Known | None:
        """None if nothing has changed."""
        key = self._place.home.settings()
        if known is not None and await self._home.call("HGET", key, DIGEST) in (None, known.digest):
            # Without any, Redis has lost them; nodes write them again.
            return None
        fields = await self._home.call("HMGET", key, DIGEST, DOCUMENT)
        return known_of(fields, self._place)
