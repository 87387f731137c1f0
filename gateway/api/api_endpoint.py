"""One ASGI application for all methods: reads the body, checks its shape, calls the method, answers."""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.api.access import Access
from gateway.api.publishing import api_error
from gateway.api.schemas import ApiError, BatchResult, BroadcastResult
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
from gateway.json_text import TOO_DEEP, mended
from gateway.metrics import Metrics

logger = logging.getLogger(__name__)

# With this header, errors have an HTTP status of their own. Without it, every answer is a 200 with `error` in its body,
# as clients of this API expect.
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


class Method(NamedTuple):
    """A method of the API: the shapes of its request and its result, and the function that carries it out."""

    request: type[Any]
    result: type[Any]
    call: Callable[[Any], Awaitable[Any]]


class ApiEndpoint:
    """`POST /api/{method}`, as an ASGI application, without the wrappers that Starlette puts around functions.

    Starlette puts the method into `scope["path_params"]`.
    """

    def __init__(self, methods: Mapping[str, Method], access: Access, metrics: Metrics) -> None:
        self._methods = {name: (msgspec.json.Decoder(each.request), each.call) for name, each in methods.items()}
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
            if await self._access.delay():
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
        try:
            await _respond(send, 200, await self._call(scope["path_params"]["method"], body))
        except RequestError as error:
            self._metrics.api_errors.add(str(error.error.code))
            status = STATUS[error.error.code] if ERROR_MODE in headers else 200
            await _respond(send, status, _error(api_error(error)))

    async def _call(self, name: str, body: bytes) -> bytes:
        """The body of the answer. Raises RequestError."""
        if name not in self._methods:
            raise RequestError(METHOD_NOT_FOUND, f"no such method; see {DOCUMENT}")
        self._metrics.api_requests.add(name)
        decoder, call = self._methods[name]
        try:
            # The decoder does not check embedded values, which may not be valid UTF-8.
            body.decode()
            request = _decoded(decoder, body)
        except RecursionError:
            raise RequestError(BAD_REQUEST, TOO_DEEP) from None
        except ValueError as error:
            # Of the decoder, or of text that is not UTF-8.
            raise RequestError(BAD_REQUEST, str(error)) from None
        try:
            result = await call(request)
        except RequestError:
            raise
        except Exception as error:
            logger.exception("internal error in API method %s", name)
            raise RequestError(INTERNAL) from error
        for failure in _failures(result):
            self._metrics.api_errors.add(str(failure.code))
        # A batch answers at the top level. (Others are encoded together with `result`: adding it later would copy 32
        # MiB.)
        return _encode(result if isinstance(result, BatchResult) else {"result": result})


DOCUMENT = "/api/openapi.json"


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        whole = mended(body)
        if whole == body:
            raise
        return decoder.decode(whole)


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


def _failures(result: Any) -> Iterator[ApiError]:
    """Errors inside a result that is not an error as a whole."""
    if isinstance(result, BroadcastResult):
        yield from (response.error for response in result.responses if response.error is not None)
    elif isinstance(result, BatchResult):
        for reply in result.replies:
            if reply.error is not None:
                yield reply.error
            elif reply.broadcast is not None:
                yield from _failures(reply.broadcast)


def _error(error: ApiError) -> bytes:
    return b'{"error":%b}' % _encode(error)


async def _respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
