"""Publishes the rows of an outbox: in order, again if it fails, and each once."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import NamedTuple, Protocol

from gateway.api.request_shapes import PublishRequest
from gateway.errors import GatewayError
from gateway.log import LogLimit
from gateway.outbox.rows import Row, request_of

logger = logging.getLogger(__name__)

# Rows that are read at once, and their characters: the row that goes beyond is the last one.
PAGE = 500
READ_SIZE = 8 * 1024 * 1024
# If what was read has fewer channels, rows of others are read too: a channel has one row on its way at a time, so that
# others would wait long for one with many.
CHANNELS = 20
# Characters of rows that are sent at once: nodes take 4 MB (api.max_body), and nginx in front of them 1 MB.
SENT = 512 * 1024
# Seconds after which the database is asked before more is sent: published rows are removed, a relay that was suspended
# meanwhile, so that another one has taken over, learns that, and new rows are seen.
UNSETTLED = 1.0
# Seconds before what failed is tried again: at first, and at most.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
# Seconds between two looks whether the active relay has gone, and between two lines about the same failure.
STANDBY = 1.0
LOG_INTERVAL = 10.0


class Refusal(NamedTuple):
    """Why a row was not published. `temporary`: the same may succeed later."""

    text: str
    temporary: bool


class Sender(Protocol):
    """The way to the gateway."""

    async def send(self, requests: Sequence[PublishRequest]) -> Sequence[Refusal | None]:
        """Publish to different channels; None for each that was published.

        Raises GatewayError if it is not known of all of them: they may be sent again, since they have keys.
        """

    async def aclose(self) -> None:
        """Close the connections."""


class StoreLost(GatewayError):
    """The database does not do what it was asked to; the session with it is given up."""


class Store(Protocol):
    """One session with the database of an outbox. All methods raise StoreLost."""

    async def lead(self) -> bool:
        """Become the only active relay of this outbox, for as long as the session lives; whether that worked."""

    async def read(self, without: Collection[str], limit: int, size: int) -> Sequence[Row]:
        """The first rows, by id, that are neither refused nor in these channels.

        At most `limit` of them, and none after those that have `size` characters of publications.
        """

    async def remove(self, ids: Collection[int]) -> None:
        """Remove rows."""

    async def refuse(self, row: int, error: str) -> None:
        """Keep a row with the error, and read it no more."""

    async def wait(self, seconds: float) -> None:
        """Return when there may be new rows, or when the time is over."""


class Relay:
    """Publishes rows until it is stopped, while no other relay of the same outbox does.

    Rows of one channel are published one after another, by id. A row that is refused for good is kept aside. One that
    fails for now holds up its channel, and nothing else.
    """

    def __init__(
        self,
        opened: Callable[[], AbstractAsyncContextManager[Store]],
        sender: Sender,
        *,
        poll: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`opened` begins a session with the database; entering it raises StoreLost.

        `poll`: seconds between two looks for rows that nobody notified of.
        """
        self._opened = opened
        self._sender = sender
        self._poll = poll
        self._clock = clock
        self._stopped = asyncio.Event()
        # Rows that are published and still in the table.
        self._published: dict[int, Row] = {}
        # Those of which a session ended before they were removed: the next one does not publish them again, however
        # late that is. Ids alone would not do: a server that took over without the newest rows gives theirs to others.
        self._unsettled: set[Row] = set()
        # Channels in which a row failed for now, and when it is tried again.
        self._held: dict[str, float] = {}
        self._lines = LogLimit(LOG_INTERVAL)
        self._pause = FIRST_PAUSE

    def stop(self) -> None:
        """Let `run` return as soon as the outcome of what was sent is known and stored."""
        self._stopped.set()

    async def run(self) -> None:
        """Publish until it is stopped. No failure ends it."""
        while not self._stopped.is_set():
            try:
                async with self._opened() as store:
                    if await self._leads(store):
                        logger.info("this relay is active")
                    while not self._stopped.is_set():
                        await self._look(store)
            except StoreLost as error:
                self._unsettled.update(self._published.values())
                self._published.clear()
                self._complain("the database failed", str(error))
                await self._rest(self._longer_pause())

    async def _leads(self, store: Store) -> bool:
        """Return when this relay is the active one, or is stopped: whether it is active."""
        announced = False
        while not self._stopped.is_set():
            if await store.lead():
                return True
            if not announced:
                logger.info("another relay is active; this one stands by")
                announced = True
            await self._rest(STANDBY)
        return False

    async def _look(self, store: Store) -> None:
        """Publish all that is there, and wait for more, or to try again what failed."""
        try:
            is_done, failure = await self._publish_all(store)
        except StoreLost:
            raise
        except GatewayError as error:
            self._complain("cannot publish; it is tried again", str(error))
            await self._rest(self._longer_pause())
            return
        if failure:
            self._complain("cannot publish into a channel; it is tried again", failure)
            self._longer_pause()
        elif not self._held:
            self._pause = FIRST_PAUSE
        if is_done:
            await self._wait(store, min(self._poll, self._pause) if self._held else self._poll)

    async def _publish_all(self, store: Store) -> tuple[bool, str]:
        """Publish rows until there are none, except in channels in which one fails; the last failure, or nothing.

        The first is False if there are more, but those of the channels that fail are due.
        """
        began = self._clock()
        # Those that are due are read again.
        self._held = {channel: due for channel, due in self._held.items() if due > began}
        failures: dict[str, str] = {}
        while not self._stopped.is_set() and (rows := await self._page(store, self._held.keys() | failures.keys())):
            await self._publish(store, rows, failures)
            if self._held and self._clock() - began > LONGEST_PAUSE:
                return False, next(reversed(failures.values()), "")
        if not self._held and not self._stopped.is_set():
            self._unsettled.clear()
        return True, next(reversed(failures.values()), "")

    async def _page(self, store: Store, without: Collection[str]) -> Sequence[Row]:
        """The first rows that are not in these channels; of many channels, if there are."""
        page: list[Row] = []
        channels: set[str] = set()
        size = 0
        while len(channels) < CHANNELS and size < READ_SIZE:
            rows = await store.read({*without, *channels}, PAGE, READ_SIZE - size)
            if not rows:
                break
            page += rows
            channels.update(row.channel for row in rows)
            size += sum(len(row.publication) for row in rows)
        return page

    async def _publish(self, store: Store, rows: Sequence[Row], failures: dict[str, str]) -> None:
        """Publish one page, or what can be published of it until UNSETTLED.

        Channels in which a row fails for now are added to the failures, with the reason.
        """
        queues = await self._queues(store, rows)
        settled = self._clock()
        has_sent = False
        try:
            while queues and not self._stopped.is_set():
                if self._clock() - settled > UNSETTLED:
                    if has_sent:
                        return
                    await self._settle(store)
                    settled = self._clock()
                # One of each channel: the next one has to wait until it is known what became of it.
                heads = _some([queue[0] for queue in queues.values()])
                outcomes = await self._sender.send([request for _, request in heads])
                has_sent = True
                for (row, _), outcome in zip(heads, outcomes, strict=True):
                    if outcome is not None and outcome.temporary:
                        failures[row.channel] = outcome.text
                        self._held[row.channel] = self._clock() + self._pause
                        del queues[row.channel]
                        continue
                    if outcome is None:
                        self._published[row.id] = row
                    else:
                        await self._refuse(store, row, outcome.text)
                    queues[row.channel].popleft()
                    if not queues[row.channel]:
                        del queues[row.channel]
        finally:
            await self._settle(store)

    async def _queues(self, store: Store, rows: Sequence[Row]) -> dict[str, deque[tuple[Row, PublishRequest]]]:
        """What has to be published, by channel. Rows that are none are refused."""
        queues: dict[str, deque[tuple[Row, PublishRequest]]] = {}
        for row in rows:
            if row in self._unsettled:
                self._published[row.id] = row
                continue
            try:
                request = request_of(row)
            except ValueError as error:
                await self._refuse(store, row, f"not a publication: {error}")
            else:
                queues.setdefault(row.channel, deque()).append((row, request))
        return queues

    async def _settle(self, store: Store) -> None:
        """Remove what is published. Even if nothing is, this fails when the session, and with it the lock, is lost."""
        await store.remove(self._published.keys())
        self._published.clear()

    async def _refuse(self, store: Store, row: Row, error: str) -> None:
        await store.refuse(row.id, error)
        logger.error(
            "a row was refused and is kept, see `gateway outbox --failed`",
            extra={"row": row.id, "channel": row.channel, "error": error},
        )

    def _complain(self, what: str, why: str) -> None:
        if (extra := self._lines.passes(about=why)) is not None:
            logger.warning(what, extra={"error": why, **extra})

    def _longer_pause(self) -> float:
        """How long to wait now; the next time it is twice as long."""
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause

    async def _wait(self, store: Store, seconds: float) -> None:
        """Until there may be new rows, the time is over, or it is stopped."""
        rows, stopped = asyncio.ensure_future(store.wait(seconds)), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((rows, stopped), return_when=asyncio.FIRST_COMPLETED)
            if rows.done():
                await rows
        finally:
            stopped.cancel()
            rows.cancel()
            await asyncio.wait((rows, stopped))

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()


def _some(heads: list[tuple[Row, PublishRequest]]) -> list[tuple[Row, PublishRequest]]:
    """As many as are sent at once: at least one."""
    size = 0
    for count, (row, _) in enumerate(heads):
        size += len(row.publication)
        if count and size > SENT:
            return heads[:count]
    return heads
