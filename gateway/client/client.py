"""The client for threads."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx

from gateway.api.result_shapes import ChannelsResult
from gateway.client import commands
from gateway.client.commands import Command
from gateway.client.connection import connection_of, describe, failed
from gateway.client.tries import Pause

P = ParamSpec("P")
R = TypeVar("R")


def _method(build: Callable[P, Command[R]]) -> "Callable[Concatenate[Client, P], R]":
    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return client._carry_out(build(*args, **kwargs))

    describe(method, build)
    return method


class Client:
    """The HTTP API of a gateway. One object serves all threads, and may be made when a module is imported.

    Methods raise ClientError. Connections are made when they are needed, and in a forked process anew.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout: float = 5.0, retries: int = 2
    ) -> None:
        """`url` (http, https or unix:PATH) and `api_key` are GATEWAY_URL and GATEWAY_API_KEY if they are not given.

        `timeout`: seconds for a call, with its retries. Raises ConfigError.
        """
        self._connection = connection_of(url, api_key, timeout, retries)
        # The connections of this process. No lock guards them, since a fork could copy it while a thread holds it.
        self._pools: dict[int, httpx.Client] = {}

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

    def channel_pages(self, pattern: str = "", *, limit: int = 1000) -> Iterator[ChannelsResult]:
        """All channels that have subscribers and match a glob, in pages of at most `limit`."""
        page = self.channels(pattern, limit=limit)
        yield page
        while page.cursor:
            page = self.channels(pattern, limit=limit, cursor=page.cursor)
            yield page

    def close(self) -> None:
        """Close the connections. A later call makes new ones."""
        if (pool := self._pools.pop(os.getpid(), None)) is not None:
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _carry_out(self, command: Command[R]) -> R:
        call = self._connection.call(command)
        while True:
            try:
                response = self._pool().post(call.path, content=call.body, timeout=call.left)
            except httpx.RequestError as error:
                outcome: R | Pause = failed(call, error)
            else:
                outcome = call.answered(response.status_code, response.content)
            if not isinstance(outcome, Pause):
                return outcome
            time.sleep(outcome.seconds)

    def _pool(self) -> httpx.Client:
        process = os.getpid()
        if (pool := self._pools.get(process)) is not None:
            return pool
        # Those of a parent are let go, not closed: it uses them.
        for other in [each for each in self._pools if each != process]:
            self._pools.pop(other, None)
        # Of two threads that come here together, both get that of the first.
        return self._pools.setdefault(process, self._connection.open(httpx.Client, httpx.HTTPTransport))
