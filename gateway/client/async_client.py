"""The client for asyncio."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from gateway.api.result_shapes import ChannelsResult
from gateway.client import commands
from gateway.client.calls import Pause
from gateway.client.commands import Command
from gateway.client.connection import connection_of, describe, failed

P = ParamSpec("P")
R = TypeVar("R")


def _method(build: Callable[P, Command[R]]) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]]":
    async def method(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await client._carry_out(build(*args, **kwargs))

    describe(method, build)
    return method


class AsyncClient:
    """The HTTP API of a gateway. It may be made when a module is imported, before there is an event loop.

    Methods raise ClientError. Connections are made when they are needed, and belong to the loop that needs them.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout: float = 5.0, retries: int = 2
    ) -> None:
        """`url` (http, https or unix:PATH) and `api_key` are GATEWAY_URL and GATEWAY_API_KEY if they are not given.

        `timeout`: seconds for a call, with its retries. Raises ConfigError.
        """
        self._connection = connection_of(url, api_key, timeout, retries)
        # Another process has another loop.
        self._pools: dict[AbstractEventLoop, httpx.AsyncClient] = {}

    publish = _method(commands.publish)
    broadcast = _method(commands.broadcast)
    subscribe = _method(commands.subscribe)
    unsubscribe = _method(commands.unsubscribe)
    disconnect = _method(commands.disconnect)
    refresh = _method(commands.refresh)
    revoke = _method(commands.revoke)
    history = _method(commands.history)
    history_remove = _method(commands.history_remove)
    latest = _method(commands.latest)
    latest_remove = _method(commands.latest_remove)
    presence = _method(commands.presence)
    presence_stats = _method(commands.presence_stats)
    channels = _method(commands.channels)
    info = _method(commands.info)
    drain = _method(commands.drain)
    reload = _method(commands.reload)
    batch = _method(commands.batch)

    async def channel_pages(self, pattern: str = "", *, limit: int = 1000) -> AsyncIterator[ChannelsResult]:
        """All channels that have subscribers and match a glob, in pages of at most `limit`."""
        page = await self.channels(pattern, limit=limit)
        yield page
        while page.cursor:
            page = await self.channels(pattern, limit=limit, cursor=page.cursor)
            yield page

    async def aclose(self) -> None:
        """Close the connections of the running loop. A later call makes new ones."""
        if (pool := self._pools.pop(asyncio.get_running_loop(), None)) is not None:
            await pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _carry_out(self, command: Command[R]) -> R:
        call = self._connection.call(command)
        while True:
            try:
                response = await self._pool().post(call.path, content=call.body, timeout=call.left)
            except httpx.RequestError as error:
                outcome: R | Pause = failed(call, error)
            else:
                outcome = call.answered(response.status_code, response.content)
            if not isinstance(outcome, Pause):
                return outcome
            await asyncio.sleep(outcome.seconds)

    def _pool(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if (pool := self._pools.get(loop)) is not None:
            return pool
        for other in [each for each in self._pools if each.is_closed()]:
            self._pools.pop(other, None)
        pool = self._pools[loop] = self._connection.open(httpx.AsyncClient, httpx.AsyncHTTPTransport)
        return pool
