"""Awaiting an operation that reports its outcome to a callback."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from gateway.errors import RequestError

T = TypeVar("T")


async def outcome(start: Callable[[Callable[[T | RequestError], None]], None]) -> T:
    """Start an operation that calls a function with its outcome, and wait for that. Raises its RequestError."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(result: T | RequestError) -> None:
        if future.done():
            return  # the waiter was cancelled
        if isinstance(result, RequestError):
            future.set_exception(result)
        else:
            future.set_result(result)

    start(done)
    return await future
