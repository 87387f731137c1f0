"""The methods of the API, for asyncio, however they are carried out."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Concatenate, ParamSpec, TypeVar

from gateway.api.result_shapes import ChannelsResult
from gateway.client import commands
from gateway.client.commands import Command
from gateway.client.connection import describe

P = ParamSpec("P")
R = TypeVar("R")


def _method(build: Callable[P, Command[R]]) -> "Callable[Concatenate[AsyncMethods, P], Coroutine[None, None, R]]":
    async def method(client: "AsyncMethods", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await client.carry_out(build(*args, **kwargs))

    describe(method, build)
    return method


class AsyncMethods(ABC):
    """One coroutine for each method of the API."""

    publish = _method(commands.publish)
    broadcast = _method(commands.broadcast)
    subscribe = _method(commands.subscribe)
    unsubscribe = _method(commands.unsubscribe)
    disconnect = _method(commands.disconnect)
    refresh = _method(commands.refresh)
    revoke = _method(commands.revoke)
    kick = _method(commands.kick)
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

    @abstractmethod
    async def carry_out(self, command: Command[R]) -> R:
        """What one command answers."""
