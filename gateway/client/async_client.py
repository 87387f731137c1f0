"""The client for asyncio."""

import asyncio
from asyncio import AbstractEventLoop
from typing import Self, TypeVar

import httpx

from gateway.client.async_methods import AsyncMethods
from gateway.client.commands import Command
from gateway.client.connection import connection_of, failed
from gateway.client.tries import Pause

R = TypeVar("R")


class AsyncClient(AsyncMethods):
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

    async def aclose(self) -> None:
        """Close the connections of the running loop. A later call makes new ones."""
        if (pool := self._pools.pop(asyncio.get_running_loop(), None)) is not None:
            await pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def carry_out(self, command: Command[R]) -> R:
        """What one command answers. Raises ClientError."""
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
