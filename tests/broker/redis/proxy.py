"""A network that fails on demand, between a node and its Redis."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Forwards bytes between a TCP port and a server; may swallow them instead."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: what the listening side speaks; the server behind speaks plain TCP."""
        self._target = port
        self._tls = tls
        self._open = asyncio.Event()
        self._open.set()
        self._lost: bytes | None = None
        self._awaited: bytes | None = None
        self._skip = 0
        self._released = asyncio.Event()
        # Set when `hold` has found what it waits for.
        self.held = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    def swallow(self) -> None:
        """Bytes go nowhere from now on, and connections stay: a network that drops packets."""
        self._open.clear()

    def drop(self, part: bytes) -> None:
        """From now on lose every piece with these bytes in it."""
        self._lost = part

    def hold(self, part: bytes, skip: int = 0) -> None:
        """Hold the next piece with these bytes in it, or a later one, and what comes the same way after it."""
        self._awaited = part
        self._skip = skip
        self.held.clear()
        self._released.clear()

    def forward(self) -> None:
        """Pass on again, what was held back first."""
        self._released.set()
        self._lost = None
        self._open.set()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.forward()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))
        finally:
            self._writers -= {writer, there_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self._is_held(data):
                    self.held.set()
                    await self._released.wait()
                await self._open.wait()
                if self._lost is not None and self._lost in data:
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()

    def _is_held(self, data: bytes) -> bool:
        if self._awaited is None or self._awaited not in data:
            return False
        self._skip -= 1
        if self._skip < 0:
            self._awaited = None
        return self._skip < 0


@asynccontextmanager
async def proxied(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """A running proxy."""
    proxy = Proxy(port, tls)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
