"""An HTTP response that does not end as a link, with requests beside it for what is sent."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import cast

from gateway_loadtest.running.command_requests import LONGEST_ANSWER, CommandRequests
from gateway_loadtest.running.http_connection import Source, connect_to
from gateway_loadtest.running.link import BROKEN, NotConnected, Owner, refusal
from gateway_loadtest.wires.contract import HttpWire
from gateway_loadtest.wires.http_messages import Responses, encoded


class HttpLink(asyncio.Protocol):
    """As in Link."""

    def __init__(self, owner: Owner, wire: HttpWire, request: bytes, commands: CommandRequests) -> None:
        self._owner = owner
        self._wire = wire
        self._request = request
        self._commands = commands
        self._responses = Responses()
        self._refusal = b""
        self._transport: asyncio.Transport | None = None
        self._reason = ""
        # Whether it has begun as asked for: the owner knows it.
        self.is_open = False
        # Done when the response has begun.
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._commands.send(frame)

    def end(self) -> None:
        self._commands.end()
        if self._transport is not None:
            self._transport.abort()

    def read(self, reading: bool) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            (transport.resume_reading if reading else transport.pause_reading)()

    def fail(self, reason: str) -> None:
        """What was to be sent did not get through."""
        self._reason = reason
        self.end()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop do not inherit from it.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            body = self._responses.feed(data)
            if not self.is_open:
                body = self._begin(body)
            whole = self._wire.cut(body) if body else b""
        except ValueError as error:
            self._on_nonsense(str(error))
            return
        if whole:
            self._owner.receive(whole)
        if self._responses.is_complete and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exception: Exception | None) -> None:
        self._transport = None
        self._commands.end()
        if self.is_open:
            self._owner.lost(self, BROKEN, self._reason)
        else:
            self._refuse("the connection ended before the answer")

    def _begin(self, body: bytes) -> bytes:
        """The body, once it is one of messages."""
        responses = self._responses
        if responses.status == 200:
            self.is_open = True
            if not self.begun.done():
                self.begun.set_result(None)
            return body if self._owner.connected(self) else b""
        if responses.status:
            self._refusal += body
            if responses.is_complete or len(self._refusal) > LONGEST_ANSWER:
                self._refuse(refusal("the request", responses.status, self._refusal))
        return b""

    def _on_nonsense(self, reason: str) -> None:
        if self.is_open:
            self._owner.give_up(reason)
        else:
            self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        if not self.begun.done():
            self.begun.set_exception(NotConnected(reason))
        self.end()


async def connect(owner: Owner, wire: HttpWire, target: str, channels: Sequence[str], source: Source) -> None:
    """Raises NotConnected and OSError (also of TLS)."""
    request = wire.stream(target, channels)
    commands = CommandRequests(partial(wire.command, target), source, lambda reason: link.fail(reason))
    link = HttpLink(owner, wire, encoded(request), commands)
    try:
        await connect_to(request.url, lambda: link, source)
        await link.begun
    except BaseException as error:
        link.begun.cancel()
        if link.is_open and isinstance(error, asyncio.CancelledError):
            # Too late: the owner has it.
            return
        link.end()
        raise
