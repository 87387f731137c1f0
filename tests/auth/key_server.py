"""An HTTP endpoint on 127.0.0.1 that answers with whatever bytes the test wants."""

import asyncio
from types import TracebackType


def answer(body: bytes, *, status: str = "200 OK", headers: str = "", chunked: bool = False) -> bytes:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    if chunked:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return f"HTTP/1.1 {status}\r\n{length}\r\nConnection: close\r\n{headers}\r\n".encode() + body


BARRIER = "GET /barrier HTTP/1.1"


class KeyServer:
    """Use with `async with`; `answer` may change at any time."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.hang = False
        # The request lines, in order.
        self.requests: list[str] = []
        self.url = ""
        self._news = asyncio.Condition()
        self._released = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "KeyServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._released.set()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def requested(self) -> None:
        """The next request has come."""
        async with self._news:
            await self._news.wait()

    async def turns(self) -> None:
        """Enough turns of the loop for a request to come through, had one been sent."""
        reader, writer = await asyncio.open_connection(*self._server.sockets[0].getsockname())
        writer.write(f"{BARRIER}\r\n\r\n".encode())
        await reader.read()
        writer.close()
        await writer.wait_closed()

    def release(self) -> None:
        """Answer those who were kept waiting by `hang`, with the answer of the time of their request."""
        self._released.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0]
            if request != BARRIER:
                answer = self.answer
                self.requests.append(request)
                async with self._news:
                    self._news.notify_all()
                if self.hang:
                    await self._released.wait()
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass  # the client had enough
        finally:
            self._writers.discard(writer)
            writer.close()
