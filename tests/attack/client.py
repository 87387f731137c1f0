"""A well-behaved client of the native protocol."""

import asyncio
import json
from typing import Any

from gateway.tokens import connection_token
from tests.attack.attacker import TEXT, WEBSOCKET_PATH, Address
from tests.attack.site import ORIGIN, SECRET
from tests.transports.raw import handshake, masked

_PING = b"{}"


class Client:
    """A connection; answers pings while it is read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, address: Address, user: str, source: str = "127.0.0.1") -> "Client":
        """Authenticated. Raises OSError."""
        client = cls(*await asyncio.open_connection(*address, local_addr=(source, 0)))
        try:
            await client._introduce(user)
        except BaseException:
            client.close()
            raise
        return client

    async def _introduce(self, user: str) -> None:
        self._writer.write(handshake(WEBSOCKET_PATH, [f"Origin: {ORIGIN}"]))
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("closed in the handshake") from None
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionRefusedError(head.partition(b"\r\n")[0].decode())
        await self.ask(connect={"token": connection_token(SECRET, user)})

    async def ask(self, **body: object) -> None:
        """The first command of its kind: wait until it is answered. Raises OSError, also for an error."""
        self.send(1, **body)
        for line in await self.receive():
            if line.get("id") == 1 and "error" not in line:
                return
        raise ConnectionError(f"{', '.join(body)} refused")

    def send(self, number: int, **body: object) -> None:
        self._writer.write(masked(TEXT, json.dumps({"id": number, **body}).encode()))

    async def receive(self) -> list[dict[str, Any]]:
        """Replies and pushes of the next message that is no ping. Raises OSError when the connection is closed."""
        while (message := await self._message()) == _PING:
            self._writer.write(masked(TEXT, _PING))
        return [json.loads(line) for line in message.splitlines()]

    async def _message(self) -> bytes:
        try:
            first, length = await self._reader.readexactly(2)
            if length > 125:
                length = int.from_bytes(await self._reader.readexactly(2 if length == 126 else 8), "big")
            payload = await self._reader.readexactly(length)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("closed") from None
        if first != 0x80 | TEXT:
            raise ConnectionAbortedError(f"frame {first:#x} {payload!r}")
        return payload

    def close(self) -> None:
        self._writer.close()
