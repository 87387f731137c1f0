"""Publish and broadcast: the part of the API that has to be fast."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from gateway.api.outcome import outcome
from gateway.api.publications import Content, Publications, api_error, response_of, result_of
from gateway.api.request_shapes import BroadcastRequest, PublicationRequest, PublishRequest
from gateway.api.result_shapes import ApiError, BroadcastResult, PublishResult
from gateway.errors import RequestError
from gateway.messages import PublishResult as Position
from gateway.node.messaging import Messaging

# Publishes of one request that are started in one turn of the event loop, about 2 ms.
SLICE = 100
# Bytes of one request in flight to the broker; above it the rest waits. They share redis.pending_limit with others.
UNDER_WAY = 1024 * 1024

Done = Callable[[PublishResult | ApiError], None]


class Publisher:
    """Publishes for backends, which may publish to every channel."""

    def __init__(self, messaging: Messaging, publications: Publications) -> None:
        self._messaging = messaging
        self.publications = publications

    def start(self, request: PublishRequest, done: Done) -> int:
        """Publish; `done` gets the result once the broker has accepted it, or the error. Keeps the order of calls.

        Returns the bytes that are in flight.
        """
        try:
            content = self.publications.content(request)
            self._send(request, request.channel, content, done)
        except RequestError as error:
            done(api_error(error))
            return 0
        return len(content.data)

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Publish to one channel. Raises RequestError."""
        content = self.publications.content(request)
        publication, options = self.publications.to(request.channel, request, content)
        position = await outcome(partial(self._messaging.publish, publication, options))
        return result_of(position)

    async def broadcast(self, request: BroadcastRequest) -> BroadcastResult:
        """Publish the same to several channels. Raises RequestError for an error that concerns all of them."""
        self.publications.check_count(request)
        content = self.publications.content(request)
        outcomes = Outcomes(len(request.channels))
        for index, name in enumerate(request.channels):
            done = outcomes.slot(index)
            try:
                self._send(request, name, content, done)
            except RequestError as error:
                done(api_error(error))
            if outcomes.has_enough(len(content.data)):
                await outcomes.give_way()
        return BroadcastResult([response_of(outcome) for outcome in await outcomes.wait()])

    def _send(self, request: PublicationRequest, name: object, content: Content, done: Done) -> None:
        def published(outcome: Position | RequestError) -> None:
            done(api_error(outcome) if isinstance(outcome, RequestError) else result_of(outcome))

        self._messaging.publish(*self.publications.to(name, request, content), published)


class Outcomes:
    """Collects the outcomes of publishes that are in flight together."""

    def __init__(self, count: int) -> None:
        self._outcomes: list[PublishResult | ApiError | None] = [None] * count
        self._under_way = 0
        # Started since others had their turn, and bytes since none was in flight.
        self._started = 0
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def slot(self, index: int) -> Done:
        """What to call with the outcome of one publish."""
        self._under_way += 1

        def done(outcome: PublishResult | ApiError) -> None:
            self._outcomes[index] = outcome
            self._under_way -= 1
            if not self._under_way and self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

        return done

    def has_enough(self, size: int) -> bool:
        """Whether to `give_way` before the next start; the last one was of `size` bytes."""
        self._started += 1
        self._bytes += size
        return self._started >= SLICE or self._bytes > UNDER_WAY

    async def give_way(self) -> None:
        """Others get their turn, and the broker is not flooded."""
        self._started = 0
        if self._bytes > UNDER_WAY:
            await self._settle()
            self._bytes = 0
        else:
            await asyncio.sleep(0)

    async def wait(self) -> Sequence[PublishResult | ApiError]:
        """All outcomes, in the order of their slots."""
        await self._settle()
        return [outcome for outcome in self._outcomes if outcome is not None]

    async def _settle(self) -> None:
        if self._under_way:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
