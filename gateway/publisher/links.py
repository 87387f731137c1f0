"""Links of one event loop to the Redis servers."""

import asyncio
from functools import partial
from typing import Any

import hiredis

from gateway.broker.redis import generation, lua
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import Link, connect, why
from gateway.broker.redis.publish_commands import is_lost, outcome_of, publish_command
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable, OutcomeUnknown, RequestError
from gateway.guard import Guard
from gateway.messages import PublishResult
from gateway.metrics import Metrics
from gateway.publisher.connections import NAME
from gateway.publisher.job import Item, Job
from gateway.publisher.known import STALE_AFTER, Known


class Flight:
    """Publishes of a job that are sent together, until all are answered or nobody waits any more."""

    def __init__(self, job: Job[Any], items: list[Item]) -> None:
        self._job: Job[Any] | None = job
        self._missing = len(items)
        self._landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for item in items:
            job.settle(item, OutcomeUnknown("no answer in time; it may or may not have been carried out"))

    def land(self, item: Item, outcome: PublishResult | RequestError) -> None:
        """This became of an item."""
        if self._job is None:
            return
        self._job.settle(item, outcome)
        self._missing -= 1
        if not self._missing and not self._landed.done():
            self._landed.set_result(None)

    async def landed(self) -> None:
        """Wait for all of them. What comes after a cancellation is ignored: by then the job may try again."""
        try:
            await self._landed
        finally:
            self._job = None


class ShardLink:
    """One server, as a loop uses it: a link, which is replaced when it is needed and broken."""

    def __init__(self, target: Target, settings: RedisSettings, home: Keys) -> None:
        self._target = target
        self._settings = settings
        self._home = home
        self._guard = Guard(Metrics().faults)
        self._link: Link | None = None
        # When its generation was known to be right (seconds of the loop); None for never.
        self._looked_at: float | None = None

    async def open(self) -> Link:
        """The link, connected. Raises BrokerUnavailable."""
        if self._link is not None and not self._link.lost.done():
            return self._link
        self._link, self._looked_at = None, None
        link = await connect(
            self._target, self._settings, lambda: Link(self._settings.publish_timeout, self._guard), NAME
        )
        try:
            await lua.load(link, *lua.PUBLISHING)
        except (hiredis.ReplyError, RequestError) as error:
            link.abort("not usable")
            raise BrokerUnavailable(why(error)) from None
        except BaseException:
            link.abort("not usable")
            raise
        self._link = link
        return link

    def is_ready(self, *, durable: bool) -> bool:
        """Whether `look` has nothing to do."""
        link = self._link
        if link is None or link.lost.done():
            return False
        return durable or (self._looked_at is not None and link.loop.time() - self._looked_at < STALE_AFTER)

    async def look(self, *, durable: bool) -> None:
        """Connect, and know the generation of the server as nodes do. Raises BrokerUnavailable."""
        link = await self.open()
        now = link.loop.time()
        if self._looked_at is not None and not durable:
            if now - self._looked_at < STALE_AFTER:
                return
            if await self._has_ended(link):
                # Whatever is behind the address now.
                link.abort("the server was replaced")
                link = await self.open()
        if self._looked_at is None:
            try:
                await generation.learn(link, self._home.generation(), durable=durable)
            except RequestError as error:
                # It may have become a replica: next time, ask whatever is behind the address then.
                link.abort("not usable")
                raise BrokerUnavailable(why(error)) from None
        self._looked_at = now

    async def _has_ended(self, link: Link) -> bool:
        name, replication = await link.ask_all(
            [generation.name_command(self._home.generation()), generation.REPLICATION]
        )
        if isinstance(name, Exception) or isinstance(replication, Exception):
            return True
        try:
            latest = generation.promotion(replication)
        except BrokerUnavailable:
            return True
        return generation.has_ended(name, link.generation) or generation.was_demoted(latest, link.promotion)

    async def call(self, *command: Any) -> Any:
        """The answer to a command that may be repeated. Raises BrokerUnavailable."""
        try:
            return await (await self.open()).ask(*command)
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"Redis refuses to tell: {error}") from None
        except RequestError as error:
            raise BrokerUnavailable(why(error)) from None

    def send(self, known: Known, items: list[Item], flight: Flight) -> None:
        """Send publishes at once; the flight gets what becomes of them."""
        link = self._link
        assert link is not None
        for item in items:
            if not link.usable:
                flight.land(item, BrokerUnavailable(link.trouble))
            elif link.pending_bytes > self._settings.pending_limit:
                flight.land(item, BrokerUnavailable(f"{link.pending_bytes} bytes of publishes are in flight already"))
            else:
                command = publish_command(known.keys, item.publication, item.options, link)
                link.send(command, partial(_answered, link, flight, item))

    def close(self) -> None:
        """Disconnect."""
        if self._link is not None:
            self._link.abort("the publisher was closed")


def _answered(link: Link, flight: Flight, item: Item, reply: Any) -> None:
    flight.land(item, outcome_of(reply))
    if is_lost(reply):
        link.abort("the server was replaced, or has lost its scripts")
