"""The requests in which an emulated client sends its commands: one at a time, so that they keep their order.

What is to be sent meanwhile goes into the next request together. Nothing is sent twice: whether a request that got no
answer was taken, nobody knows.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from gateway_loadtest.running.http_connection import Source, connect_to
from gateway_loadtest.running.link import refusal
from gateway_loadtest.wires.contract import Request
from gateway_loadtest.wires.http_messages import Responses, encoded

# Bytes of commands in one request, unless one alone has more: half of what servers take as a rule.
MOST = 32 * 1024
# Seconds after which a connection is not used again: servers close idle ones after 5 s at the earliest (uvicorn,
# Node.js), and a request that meets that close would be lost.
IDLE = 2.0
# Bytes of an answer that are read.
LONGEST_ANSWER = 64 * 1024


class CommandRequests:
    """Those of one client."""

    def __init__(
        self, request: Callable[[Sequence[bytes]], Request], source: Source, failed: Callable[[str], None]
    ) -> None:
        """`request` makes a request of commands; `failed` is called when they do not get through, once."""
        self._request = request
        self._source = source
        self._failed = failed
        self._waiting: deque[bytes] = deque()
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_busy = self._is_over = False

    def send(self, frame: bytes) -> None:
        self._waiting.append(frame)
        if not self._is_busy and not self._is_over:
            self._post()

    def end(self) -> None:
        """Send nothing more. `failed` is not called any more."""
        self._is_over = True
        self._waiting.clear()
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.abort()

    def _post(self) -> None:
        frames = [self._waiting.popleft()]
        size = len(frames[0])
        while self._waiting and size + len(self._waiting[0]) <= MOST:
            size += len(self._waiting[0])
            frames.append(self._waiting.popleft())
        self._is_busy = True
        request = self._request(frames)
        connection = self._connection
        if connection is not None and connection.is_fresh:
            connection.write(encoded(request))
            return
        if connection is not None:
            connection.abort()
        connection = self._connection = _Connection(self._ended)
        self._opening = asyncio.get_running_loop().create_task(self._open(connection, request))

    async def _open(self, connection: "_Connection", request: Request) -> None:
        try:
            await connect_to(request.url, lambda: connection, self._source)
        except OSError as error:
            self._fail(f"a command could not be sent: {error.strerror or error}")
            return
        finally:
            self._opening = None
        connection.write(encoded(request))

    def _ended(self, trouble: str) -> None:
        """A request is over."""
        if trouble:
            self._fail(trouble)
            return
        self._is_busy = False
        if self._waiting and not self._is_over:
            self._post()

    def _fail(self, trouble: str) -> None:
        if not self._is_over:
            self.end()
            self._failed(trouble)


class _Connection(asyncio.Protocol):
    """For one request after the other."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        """`ended` is called once for each request, with what went wrong."""
        self._ended = ended
        self._responses = Responses()
        self._body = b""
        self._transport: asyncio.Transport | None = None
        self._is_asked = False
        self._used = 0.0

    @property
    def is_fresh(self) -> bool:
        """Whether it may carry another request."""
        usable = self._transport is not None and self._responses.goes_on
        return usable and asyncio.get_running_loop().time() - self._used < IDLE

    def write(self, request: bytes) -> None:
        self._is_asked = True
        self._body = b""
        if self._transport is None:
            # Lost before the first request.
            self._end("the connection for commands broke")
        else:
            self._transport.write(request)

    def abort(self) -> None:
        self._is_asked = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop do not inherit from it.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._body += self._responses.feed(data)
        except ValueError as error:
            self._end(str(error))
            self.abort()
            return
        responses = self._responses
        if not self._is_asked or len(self._body) > LONGEST_ANSWER:
            self._end("an answer to nothing, or without an end, where commands are sent")
            self.abort()
        elif responses.is_complete:
            self._used = asyncio.get_running_loop().time()
            taken = 200 <= responses.status < 300
            self._end("" if taken else refusal("commands", responses.status, self._body))

    def connection_lost(self, exception: Exception | None) -> None:
        self._transport = None
        self._end("the connection for commands broke")

    def _end(self, trouble: str) -> None:
        """Of what was asked."""
        if self._is_asked:
            self._is_asked = False
            self._ended(trouble)
