"""Clients that cost next to nothing, so that the server is what is measured."""

import asyncio
import base64
import json
import os
import struct
from typing import cast
from urllib.parse import urlsplit

PING = b"\x81\x02{}"


def masked(payload: bytes) -> bytes:
    """A client's text frame, masked with zeros (RFC 6455 5.3), which leaves the payload as it is."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BBI", 0x81, 0x80 | length, 0) + payload
    return struct.pack("!BBHI", 0x81, 0x80 | 126, length, 0) + payload


def framed(payload: bytes) -> bytes:
    """A server's text frame."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", 0x81, length) + payload
    return struct.pack("!BBH", 0x81, 126, length) + payload


def command(id: int, **body: object) -> bytes:
    return masked(json.dumps({"id": id, **body}, separators=(",", ":")).encode())


class RawClient(asyncio.Protocol):
    """One connection. Counts what arrives after the handshake, and wakes who waits for a number of it."""

    def __init__(self) -> None:
        # Bytes; or how often the marker came, once there is one.
        self.received = 0
        self.marker = b""
        self.tail = b""
        self.open = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._goal = 0
        self._waiter: asyncio.Future[None] | None = None
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._upgraded:
            head, end, data = (self.tail + data).partition(b"\r\n\r\n")
            if not end:
                self.tail = head
                return
            self._upgraded = True
            self.tail = b""
            if head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")):
                self.open.set_result(None)
            else:
                self.open.set_exception(ConnectionError(head.decode(errors="replace")))
            if not data:
                return
        if self.marker:
            self.received += (self.tail[-len(self.marker) + 1 :] + data).count(self.marker)
        else:
            self.received += len(data)
        # Publications of the benchmarks never look like a ping, which may come in two parts.
        pings = (self.tail[-len(PING) + 1 :] + data).count(PING)
        if pings:
            self.received -= 0 if self.marker else pings * len(PING)
            self.transport.write(masked(b"{}") * pings)
        self.tail = data
        if self._waiter is not None and self.received >= self._goal:
            self._waiter.set_result(None)
            self._waiter = None

    def connection_lost(self, exc: Exception | None) -> None:
        error = ConnectionError("the server closed the connection")
        for future in (self.open, self._waiter):
            if future is not None and not future.done():
                future.set_exception(error)

    async def until(self, received: int) -> None:
        """Wait until so many bytes (or markers) have arrived since the handshake, pings not counted."""
        if self.received < received:
            self._goal = received
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def more(self) -> None:
        """Wait until something arrives."""
        await self.until(self.received + 1)


async def open_client(url: str, path: str = "/connection/websocket", headers: str = "") -> RawClient:
    """Connect and upgrade. Each of `headers` is a line with its end."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    assert parts.hostname is not None
    assert parts.port is not None
    _, client = await loop.create_connection(RawClient, parts.hostname, parts.port)
    key = base64.b64encode(os.urandom(16)).decode()
    client.transport.write(
        f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n".encode()
    )
    await client.open
    return client


async def open_stream(url: str, path: str, body: bytes = b"") -> RawClient:
    """The response to a request, with the body if there is one; it does not end."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    _, client = await asyncio.get_running_loop().create_connection(RawClient, parts.hostname, parts.port)
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    client.transport.write(head.encode() + body)
    await client.open
    return client


async def subscriber(url: str, channel: str, token: str = "", headers: str = "") -> RawClient:
    """A client that is connected and subscribed; its counter starts at zero."""
    client = await open_client(url, headers=headers)
    client.transport.write(
        command(1, connect={"token": token} if token else {}) + command(2, subscribe={"channel": channel})
    )
    await client.more()
    while b'"subscribe":{' not in client.tail:
        await client.more()
    client.received = 0
    return client


async def many(
    url: str, channel: str, count: int, token: str = "", width: int = 64, headers: str = ""
) -> list[RawClient]:
    """So many subscribers, `width` connecting at a time."""
    gate = asyncio.Semaphore(width)

    async def one() -> RawClient:
        async with gate:
            return await subscriber(url, channel, token, headers)

    return list(await asyncio.gather(*(one() for _ in range(count))))
