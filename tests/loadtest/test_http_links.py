"""What goes over HTTP, with servers that keep to it and servers that do not."""

import asyncio
import json
import ssl
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from gateway_loadtest.running import command_requests, http_link
from gateway_loadtest.running.command_requests import LONGEST_ANSWER, MOST
from gateway_loadtest.running.link import Link, NotConnected
from gateway_loadtest.wires.emulation_wires import EmulatedLines
from gateway_loadtest.wires.http_messages import LONGEST_HEAD

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
# Seconds until a test that hangs fails.
PATIENCE = 20


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Recorder:
    """As the Owner of a link."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.link: Link | None = None
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.given_up = ""

    def connected(self, link: Link) -> bool:
        self.link = link
        if not self.wanted:
            link.end()
        return self.wanted

    def ready_to_subscribe(self) -> None:
        raise AssertionError("the server says so")

    def receive(self, data: bytes) -> None:
        self.heard.put_nowait(data)

    def lost(self, link: Link, code: int, reason: str) -> None:
        assert link is self.link
        self.ended.set_result((code, reason))

    def give_up(self, reason: str) -> None:
        self.given_up = reason
        assert self.link is not None
        self.link.end()


class Server:
    """Answers the request of the stream with `stream`, and requests with commands as `answer` says."""

    def __init__(self, stream: bytes, answer: Callable[[Writer, list[str]], Awaitable[None]] | None = None) -> None:
        self.stream = stream
        self.answer = answer
        # What follows once it is asked to go on.
        self.more = b""
        self.goes_on = asyncio.Event()
        self.connections = 0
        self.requests: asyncio.Queue[list[str]] = asyncio.Queue()

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                if head.startswith(b"POST /emulation "):
                    frames = json.loads(body)["data"].split("\n")
                    self.requests.put_nowait(frames)
                    assert self.answer is not None
                    await self.answer(writer, frames)
                else:
                    writer.write(self.stream)
                    if self.more:
                        await self.goes_on.wait()
                        writer.write(self.more)
                await writer.drain()
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


def tried(scenario: Coroutine[Any, Any, None]) -> None:
    """With the loop that workers have; what nobody catches in a callback fails the test."""

    async def attempt() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await asyncio.wait_for(scenario, PATIENCE)
        assert not complaints

    uvloop.run(attempt())


async def connected(url: str, owner: Recorder) -> Link:
    await http_link.connect(owner, EmulatedLines(lambda: ""), url, ["news"], None)
    assert owner.link is not None
    return owner.link


async def taken(writer: Writer, frames: list[str]) -> None:
    writer.write(TAKEN)


def test_messages_are_whole_and_the_end_is_told() -> None:
    async def scenario() -> None:
        stream = STREAM + chunk(b"a\nb") + chunk(b"c\n\nd") + b"0\r\n\r\n"
        async with serving(Server(stream)) as url:
            owner = Recorder()
            link = await connected(url, owner)
            assert await owner.ended == (1006, "")
            link.send(b"ignored")
            link.read(True)
            link.end()
            heard = b"\n".join(owner.heard.get_nowait() for _ in range(owner.heard.qsize()))
            assert heard.split() == [b"a", b"bc"]

    tried(scenario())


def test_commands_keep_their_order_and_share_requests() -> None:
    """One request is under way at a time; what waits meanwhile goes together, as far as it fits."""

    async def scenario() -> None:
        server = Server(STREAM, taken)
        async with serving(server) as url:
            owner = Recorder()
            link = await connected(url, owner)
            for number in range(200):
                link.send(b"%d" % number)
            large = b"x" * (MOST - 10)
            link.send(large)
            link.send(large)
            requests = [await server.requests.get()]
            while requests[-1] != [large.decode()] or len(requests) < 4:
                requests.append(await server.requests.get())
            assert requests[0] == ["0"]
            assert requests[1] == [str(number) for number in range(1, 200)]
            assert [len(each) for each in requests[2:]] == [1, 1]
            assert server.connections == 2
            link.end()
            assert await owner.ended == (1006, "")

    tried(scenario())


def test_an_idle_connection_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may close it at that very moment: a command would be lost, or sent twice."""
    monkeypatch.setattr(command_requests, "IDLE", 0.0)

    async def scenario() -> None:
        server = Server(STREAM, taken)
        async with serving(server) as url:
            owner = Recorder()
            link = await connected(url, owner)
            link.send(b"a")
            link.send(b"b")
            assert [await server.requests.get(), await server.requests.get()] == [["a"], ["b"]]
            assert server.connections == 3
            link.end()
            await owner.ended

    tried(scenario())


def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    async def closing(writer: Writer, frames: list[str]) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    async def scenario() -> None:
        server = Server(STREAM, closing)
        async with serving(server) as url:
            owner = Recorder()
            link = await connected(url, owner)
            link.send(b"a")
            link.send(b"b")
            assert [await server.requests.get(), await server.requests.get()] == [["a"], ["b"]]
            link.end()
            await owner.ended

    tried(scenario())


async def _refuse(writer: Writer, frames: list[str]) -> None:
    body = b'{"error":{"code":404,"message":"no such session: connect again"}}'
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def _hang_up(writer: Writer, frames: list[str]) -> None:
    writer.close()


async def _babble(writer: Writer, frames: list[str]) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")


async def _go_on(writer: Writer, frames: list[str]) -> None:
    writer.write(STREAM + chunk(b"x" * (LONGEST_ANSWER + 1)))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_refuse, "the server refused commands with 404: no such session: connect again; is the path right?"),
        (_hang_up, "the connection for commands broke"),
        (_babble, "no response of HTTP"),
        (_go_on, "an answer to nothing, or without an end"),
    ],
)
def test_commands_that_do_not_get_through(answer: Callable[[Writer, list[str]], Awaitable[None]], reason: str) -> None:
    """Nobody knows what became of them: the client connects again. None is sent twice."""

    async def scenario() -> None:
        server = Server(STREAM, answer)
        async with serving(server) as url:
            owner = Recorder()
            link = await connected(url, owner)
            link.send(b"a")
            link.send(b"b")
            code, told = await owner.ended
            assert code == 1006
            assert told.startswith(reason)
            assert await server.requests.get() == ["a"]
            assert server.requests.empty()

    tried(scenario())


def test_commands_that_reach_nobody() -> None:
    """The server takes no connection any more."""

    async def scenario() -> None:
        server = Server(STREAM, taken)
        owner = Recorder()
        async with serving(server) as url:
            link = await connected(url, owner)
        link.send(b"a")
        code, reason = await owner.ended
        assert (code, reason.startswith("a command could not be sent: ")) == (1006, True)

    tried(scenario())


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"HTTP/1.1 503 X\r\nContent-Length: 8\r\n\r\ntoo many", "the server refused the request with 503: too many"),
        (b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", "the server refused the request with 404; is the path right?"),
        (
            b"HTTP/1.1 500 X\r\n\r\n" + b"x" * (LONGEST_ANSWER + 1),
            "the server refused the request with 500: " + "x" * 200 + "...",
        ),
        (b"SSH-2.0-OpenSSH\r\n", "no response of HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3 * LONGEST_HEAD, f"more than {LONGEST_HEAD} bytes of HTTP without a body"),
        (b"HTTP/1.1 103 X\r\n\r\n" * 10 + b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n", "the server refused the req"),
    ],
)
def test_servers_that_let_nobody_in(stream: bytes, reason: str) -> None:
    """What they say is told, as far as it is worth it."""

    async def scenario() -> None:
        async with serving(Server(stream)) as url:
            owner = Recorder()
            with pytest.raises(NotConnected) as caught:
                await connected(url, owner)
            assert str(caught.value).startswith(reason)
            assert owner.link is None

    tried(scenario())


def test_a_server_that_hangs_up_at_once() -> None:
    async def hang_up(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        with pytest.raises(NotConnected, match="the connection ended before the answer"):
            await connected(url, Recorder())
        listening.close()

    tried(scenario())


def test_a_server_that_never_answers() -> None:
    """The caller's patience counts, and nothing of the attempt is left."""

    async def scenario() -> None:
        async with serving(Server(b"")) as url:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await connected(url, Recorder())
            attempt = asyncio.ensure_future(connected(url, owner := Recorder()))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(attempt, 0.2)
            assert owner.link is None

    tried(scenario())


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (b"no chunk\r\n", "no response of HTTP"),
        (chunk(b"x") + b"1;" + b"x" * 3 * LONGEST_HEAD, f"more than {LONGEST_HEAD} bytes"),
    ],
)
def test_a_stream_that_turns_into_nonsense(more: bytes, reason: str) -> None:
    async def scenario() -> None:
        server = Server(STREAM)
        server.more = more
        async with serving(server) as url:
            owner = Recorder()
            await connected(url, owner)
            server.goes_on.set()
            await owner.ended
            assert owner.given_up.startswith(reason)

    tried(scenario())


def test_a_link_that_nobody_wants_any_more() -> None:
    """Ended while it connected: nothing is received over it."""

    async def scenario() -> None:
        async with serving(Server(STREAM + chunk(b"a\n"))) as url:
            owner = Recorder(wanted=False)
            await connected(url, owner)
            assert await owner.ended == (1006, "")
            assert owner.heard.empty()

    tried(scenario())


def test_reading_may_stop() -> None:
    async def scenario() -> None:
        server = Server(STREAM + chunk(b"a\n"), taken)
        async with serving(server) as url:
            owner = Recorder()
            link = await connected(url, owner)
            assert await owner.heard.get() == b"a"
            link.read(False)
            link.send(b"x")
            assert await server.requests.get() == ["x"]
            link.read(True)
            link.end()
            await owner.ended

    tried(scenario())


def test_a_server_without_tls() -> None:
    async def refuse(reader: Reader, writer: Writer) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
        with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            await connected(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}", Recorder())
        listening.close()

    tried(scenario())
