"""One ASGI application for all methods: reads the body, checks its shape, calls the method, answers."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import msgspec

from gateway.api.access import Access
from gateway.api.methods import Methods
from gateway.api.pipe import Pipe
from gateway.api.publications import api_error
from gateway.api.result_shapes import ApiError, BatchResult, BroadcastResult
from gateway.errors import (
    BAD_REQUEST,
    EXPIRED,
    INTERNAL,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    NOT_AVAILABLE,
    UNKNOWN_CHANNEL,
    UNRECOVERABLE,
    RequestError,
)
from gateway.extensions import AUTHENTICATED
from gateway.metrics import Metrics
from gateway.tasks import end_task

# With this header, errors have an HTTP status of their own, and are the body. Without it, every answer is a 200 with
# `error` in its body, as clients of this API expect.
ERROR_MODE = (b"x-centrifugo-error-mode", b"transport")
STATUS = {
    INTERNAL.code: 500,
    UNKNOWN_CHANNEL.code: 404,
    METHOD_NOT_FOUND.code: 404,
    LIMIT_EXCEEDED.code: 400,
    BAD_REQUEST.code: 400,
    NOT_AVAILABLE.code: 400,
    EXPIRED.code: 400,
    UNRECOVERABLE.code: 416,
}

CLOSE = (b"connection", b"close")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_encode = msgspec.json.Encoder().encode


class ApiEndpoint:
    """`POST /api/{method}` and `POST /api`, as an ASGI application, without the wrappers that Starlette has.

    Starlette puts the method into `scope["path_params"]`, if the path has one.
    """

    def __init__(self, methods: Methods, pipe: Pipe, access: Access, metrics: Metrics) -> None:
        self._methods = methods
        self._pipe = pipe
        self._access = access
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["method"] != "POST":
            self._metrics.api_errors.add("405")
            await _respond(send, 405, _error(ApiError(405, "expected POST")), (b"allow", b"POST"))
            return
        headers = scope["headers"]
        reason = self._access.refuses(headers)
        if reason:
            self._metrics.api_errors.add("unauthorized")
            if await self._access.delay(scope, reason):
                await _respond(send, 401, _error(ApiError(401, reason)))
            else:
                # One guess per connection.
                await _respond(send, 429, _error(ApiError(429, "too many requests without a valid API key")), CLOSE)
            return
        if (connection := scope.get("extensions", {}).get(AUTHENTICATED)) is not None:
            connection["authenticated"]()
        body = await _body(receive)
        if body is None:
            return
        name = scope["path_params"].get("method")
        try:
            answer = await self._answer(name, body, receive)
        except RequestError as error:
            self._metrics.api_errors.add(str(error.error.code))
            described = api_error(error)
            if ERROR_MODE in headers:
                await _respond(send, STATUS[described.code], _encode(described))
            else:
                # Without a method, there is one reply for each command, and none for all of them.
                await _respond(send, 200 if name is not None else STATUS[described.code], _error(described))
        else:
            if answer is not None:
                await _respond(send, 200, answer)

    async def _answer(self, name: str | None, body: bytes, receive: Receive) -> bytes | None:
        """The body of the answer; None when the client left while many commands were carried out."""
        if name is None:
            return await _while_connected(self._call_all(body), receive)
        if name == "batch":
            return await _while_connected(self._call(name, body), receive)
        return await self._call(name, body)

    async def _call(self, name: str, body: bytes) -> bytes:
        """The body of the answer. Raises RequestError."""
        self._methods.check(name)
        self._metrics.api_requests.add(name)
        result = await self._methods.call(name, self._methods.decode(name, body))
        self._count(result)
        # A batch answers at the top level. (Others are encoded together with `result`: adding it later would copy 32
        # MiB.)
        return _encode(result if isinstance(result, BatchResult) else {"result": result})

    async def _call_all(self, body: bytes) -> bytes:
        """The replies to commands that name their methods, one a line. Raises RequestError."""
        replies = await self._pipe.run(body)
        for reply in replies:
            self._count(reply.error or reply.result)
        return b"\n".join(map(_encode, replies))

    def _count(self, result: Any) -> None:
        for failure in _failures(result):
            self._metrics.api_errors.add(str(failure.code))


async def _body(receive: Receive) -> bytes | None:
    """The body, whose size the HTTP class bounds; None when the client left before its end."""
    message = await receive()
    parts = [message.get("body", b"")]
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
    if message["type"] == "http.disconnect":
        return None
    return b"".join(parts)


async def _while_connected(work: Coroutine[Any, Any, bytes], receive: Receive) -> bytes | None:
    """What `work` returns or raises. If the client leaves first, the rest of the work is dropped: None."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        await end_task(leaving)
        await end_task(working)


async def _left(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _failures(result: Any) -> Iterator[ApiError]:
    """The error, or those inside a result."""
    if isinstance(result, ApiError):
        yield result
    elif isinstance(result, BroadcastResult):
        yield from (response.error for response in result.responses if response.error is not None)
    elif isinstance(result, BatchResult):
        for reply in result.replies:
            yield from _failures(reply.error or reply.broadcast)


def _error(error: ApiError) -> bytes:
    return b'{"error":%b}' % _encode(error)


async def _respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
