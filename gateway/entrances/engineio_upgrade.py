"""The WebSocket of a client that polls already: probed first, then its connection goes on here."""

import asyncio
from contextlib import suppress

import msgspec

from gateway.entrances.directory import Directory
from gateway.entrances.engineio_polling import UPGRADE_TIMEOUT, PollingClient, Status, Verb
from gateway.entrances.engineio_socket import EngineSocket
from gateway.errors import CloseCode, RequestError
from gateway.hub.encoder import Framing
from gateway.protocols.socketio.engineio_packets import PROBED
from gateway.protocols.wire_protocol import Message
from gateway.session.transport import Transport

PING_PROBE = b"2probe"
UPGRADE = b"5"
# RFC 6455 section 7.4.1: a normal closure.
UNUSED = CloseCode(1000, "")
_decode_packets = msgspec.msgpack.Decoder(list[bytes]).decode


class EngineUpgrade:
    """The Connection port of such a WebSocket, until it is used or closed."""

    __slots__ = ("_directory", "_framing", "_received", "_secret", "_socket", "_task", "_transport")

    def __init__(self, secret: str, directory: Directory, framing: Framing, socket: EngineSocket) -> None:
        """`socket`: for a client whose requests another node had; not opened yet."""
        self._secret = secret
        self._directory = directory
        self._framing = framing
        self._socket = socket
        self._transport: Transport | None = None
        self._received: asyncio.Queue[bytes] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    # Connection port

    def opened(self, transport: Transport) -> None:
        self._transport = transport
        self._task = asyncio.create_task(self._run(transport))

    def received(self, data: bytes, *, binary: bool) -> None:
        self._received.put_nowait(b"" if binary else data)
        # What follows the upgrade is for the session; before it, one message is awaited at a time.
        if self._transport is not None:
            self._transport.pause_reading()

    def ponged(self) -> None:
        """Not awaited."""

    def pause_writing(self) -> None:
        """Only one short message is written."""

    def resume_writing(self) -> None:
        """Only one short message is written."""

    def closed(self, code: int, reason: str) -> None:
        self._transport = None
        if self._task is not None:
            self._task.cancel()

    def shed(self) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        self._close()
        if self._task is not None:
            self._task.cancel()

    # The task

    async def _run(self, transport: Transport) -> None:
        near = isinstance(self._directory.find(self._secret), PollingClient)
        # RequestError: its node is not reached.
        with suppress(RequestError):
            await self._try(transport, Verb.NEAR if near else Verb.FAR)
        self._close()

    async def _try(self, transport: Transport, arrival: bytes) -> None:
        # Until an arrival is refused, the connection may wait for this WebSocket.
        is_waiting = True
        try:
            if await self._ask(arrival) is None:
                is_waiting = False
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(UPGRADE_TIMEOUT):
                    is_waiting = not await self._upgrade(transport)
        finally:
            if is_waiting:
                await self._ask(Verb.FAIL)

    def _close(self) -> None:
        """Close the WebSocket, unless it is used or gone."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.release(self._framing.close(UNUSED))

    async def _upgrade(self, transport: Transport) -> bool:
        """Whether the client goes on here. If not, it goes on polling. Raises RequestError."""
        if await self._next(transport) != PING_PROBE or await self._ask(Verb.PROBE) is None:
            return False
        transport.write(self._framing.frame([Message(PROBED)]))
        if await self._next(transport) != UPGRADE:
            return False
        client = self._directory.find(self._secret)
        if isinstance(client, PollingClient):
            if self._transport is None or not client.upgrade(transport, self._framing):
                return False
            self._transport = None
            return True
        taken = await self._ask(Verb.TAKE)
        if taken is None or self._transport is None:
            return False
        self._transport = None
        transport.drive(self._socket)
        self._socket.opened(transport)
        transport.resume_reading()
        for packet in _decode_packets(taken):
            self._socket.received(packet, binary=False)
        return True

    async def _next(self, transport: Transport) -> bytes:
        """The next message; empty for a binary one. Reading is paused behind it."""
        transport.resume_reading()
        return await self._received.get()

    async def _ask(self, verb: bytes) -> bytes | None:
        """What the connection answers; None if it is gone, or refuses. Raises RequestError if it is not reached."""
        answer = await self._directory.ask(self._secret, verb)
        return None if answer is None or answer[:1] == Status.BAD else answer[1:]
