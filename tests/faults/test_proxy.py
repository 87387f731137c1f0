"""The harm that the proxy does is the harm that it is told to do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.faults.proxy import Proxy

PATIENCE = 5.0

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """Gives out the far ends of its connections."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[Ends] = asyncio.Queue()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await self.accepted.put((reader, writer))

    async def reach(self, proxy: Proxy) -> Ends:
        """The near end of a new connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        self._writers.append(writer)
        return reader, writer

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Proxy, Server]]:
    server = Server()
    await server.start()
    proxy = Proxy(server.port)
    await proxy.start()
    try:
        async with asyncio.timeout(PATIENCE):
            yield proxy, server
    finally:
        await proxy.stop()
        await server.stop()


async def connected(proxy: Proxy, server: Server) -> tuple[Ends, Ends]:
    """(near, far), after a first exchange."""
    near = await server.reach(proxy)
    near[1].write(b"hello")
    far = await server.accepted.get()
    assert await far[0].readexactly(5) == b"hello"
    return near, far


async def silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.05):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


Scenario = Callable[[Proxy, Server], Awaitable[None]]


async def pass_on(proxy: Proxy, server: Server) -> None:
    """Both ways, much more than the buffers hold, to a reader that comes late; and the end of either side."""
    near, far = await connected(proxy, server)
    much = bytes(range(256)) * 40_000
    far[1].write(much)
    assert await near[0].readexactly(len(much)) == much
    near[1].write(b"bye")
    near[1].close()
    assert await far[0].read() == b"bye"


async def cut(proxy: Proxy, server: Server) -> None:
    near, far = await connected(proxy, server)
    proxy.cut()
    assert await ended(near[0])
    assert await ended(far[0])
    await connected(proxy, server)
    proxy.refusing = True
    refused = await server.reach(proxy)
    assert await ended(refused[0])
    proxy.heal()
    await connected(proxy, server)


async def truncate(proxy: Proxy, server: Server) -> None:
    near, far = await connected(proxy, server)
    proxy.truncate()
    near[1].write(b"a whole command")
    assert await far[0].readexactly(15) == b"a whole command"
    far[1].write(b"halfHALF")
    assert await near[0].read(100) == b"half"
    assert await ended(near[0])
    assert await ended(far[0])


async def delay(proxy: Proxy, server: Server) -> None:
    """In order, also what comes after the delay has ended."""
    near, far = await connected(proxy, server)
    proxy.delay = 0.2
    before = asyncio.get_running_loop().time()
    far[1].write(b"a")
    assert await silent(near[0])
    proxy.delay = 0.0
    far[1].write(b"b")
    assert await near[0].readexactly(2) == b"ab"
    assert asyncio.get_running_loop().time() - before >= 0.2
    proxy.delay = 0.05
    far[1].write(b"the end")
    far[1].close()
    assert await near[0].read() == b"the end"


async def hold(proxy: Proxy, server: Server) -> None:
    """What was sent meanwhile arrives late, even from one who has hung up."""
    near, far = await connected(proxy, server)
    proxy.hold(to_server=True, from_server=False)
    near[1].write(b"1")
    far[1].write(b"2")
    assert await near[0].readexactly(1) == b"2"
    assert await silent(far[0])
    proxy.hold(to_server=True, from_server=True)
    far[1].write(b"3")
    assert await silent(near[0])
    later = await server.reach(proxy)
    later[1].write(b"4")
    there = await server.accepted.get()
    assert await silent(there[0])
    later[1].close()
    proxy.heal()
    assert await far[0].readexactly(1) == b"1"
    assert await near[0].readexactly(1) == b"3"
    assert await there[0].read() == b"4"


async def lead(proxy: Proxy, server: Server) -> None:
    near, _ = await connected(proxy, server)
    other = Server()
    await other.start()
    proxy.lead(other.port)
    assert await ended(near[0])
    await connected(proxy, other)
    await other.stop()
    proxy.lead(1)
    nobody = await server.reach(proxy)
    assert await ended(nobody[0])


@pytest.mark.parametrize("scenario", [pass_on, cut, truncate, delay, hold, lead])
def test_harm(scenario: Scenario) -> None:
    """Each kind of it, and that it ends."""

    async def run() -> None:
        async with running() as (proxy, server):
            await scenario(proxy, server)

    asyncio.run(run())
