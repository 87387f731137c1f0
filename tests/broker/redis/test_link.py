"""One connection to Redis: replies in order, messages before the confirmations they came before, nothing left open."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.broker.redis import link as module
from gateway.broker.redis.link import PING, Link, connect, pack
from gateway.config.redis_url import Target
from gateway.config.settings import RedisSettings
from gateway.errors import BrokerUnavailable, OutcomeUnknown
from gateway.guard import Guard
from gateway.metrics import Metrics
from tests.broker.redis.pipe import Pipe, run

COUNTED = Metrics().faults
GUARD = Guard(COUNTED)
ECHO = pack("ECHO", "x")


def connected(heard: list[Any] | None = None) -> tuple[Link, Pipe]:
    """A link on a pipe. With `heard` it subscribes, and what it hears is put there."""
    if heard is None:
        link = Link(30, GUARD)
    else:
        link = Link(30, GUARD, lambda messages: heard.append(list(messages)), lambda bus: heard.append(bus))
    pipe = Pipe()
    link.connection_made(pipe)
    return link, pipe


# Replies


def test_replies_are_matched_in_order() -> None:
    """All that is sent in one turn of the loop is one write; errors are replies; bytes under way are counted."""

    async def scenario() -> None:
        link, pipe = connected()
        replies: list[Any] = []
        for _ in range(4):
            link.send(ECHO, replies.append)
        assert pipe.written == b""
        await asyncio.sleep(0)
        assert pipe.written == ECHO * 4
        assert link.pending_bytes == 4 * len(ECHO)
        link.data_received(b":1\r\n-OOM no\r\n*2\r\n$1\r\na\r\n$-1\r\n$2\r\n")
        assert replies[0] == 1
        assert isinstance(replies[1], hiredis.ReplyError)
        assert replies[2:] == [[b"a", None]]
        assert link.pending_bytes == len(ECHO)
        link.data_received(b"xy\r\n")
        assert replies[3] == b"xy"
        assert link.pending_bytes == 0
        link.abort("enough")

    run(scenario)


def test_what_was_sent_is_unknown_and_what_was_not_has_failed() -> None:
    """When the link breaks. Commands after that fail at once, and nothing is written any more."""

    async def scenario() -> None:
        link, pipe = connected()
        outcomes: list[Any] = []
        link.send(ECHO, outcomes.append)
        await asyncio.sleep(0)
        link.send(ECHO, outcomes.append)
        link.connection_lost(ConnectionResetError("reset"))
        link.send(ECHO, outcomes.append)
        link.tell(ECHO)
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, BrokerUnavailable, BrokerUnavailable]
        assert "reset" in outcomes[0].detail
        await asyncio.sleep(0)
        assert pipe.written == ECHO
        assert link.pending_bytes == 0
        assert not link.writable
        assert "reset" in link.trouble
        link.abort("a second time")
        assert "reset" in await link.lost

    run(scenario)


def test_what_a_full_socket_does_not_take_waits_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause is no failure. When the link breaks, what waited was never sent."""

    async def scenario() -> None:
        monkeypatch.setattr(module, "HIGH_WATER", 3 * len(ECHO))
        link, pipe = connected()
        outcomes: list[Any] = []
        link.pause_writing()
        for number in range(10):
            link.send(pack("ECHO", number), outcomes.append)
        await asyncio.sleep(0)
        assert (pipe.written, link.usable, link.writable) == (b"", True, False)
        assert link.pending_bytes == 10 * len(ECHO)
        pipe.on_write = link.pause_writing
        link.resume_writing()
        assert pipe.written == b"".join(pack("ECHO", number) for number in range(3))
        link.resume_writing()
        assert pipe.written == b"".join(pack("ECHO", number) for number in range(6))
        link.data_received(b":0\r\n")
        link.abort("broken")
        assert link.pending_bytes == 0
        assert outcomes[0] == 0
        assert [type(outcome) for outcome in outcomes[1:]] == [OutcomeUnknown] * 5 + [BrokerUnavailable] * 4

    run(scenario)


def test_commands_that_are_asked_together_are_answered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, whatever becomes of them: refused, given up before they were sent, or cut off."""
    commands = [pack("ECHO", number) for number in range(3)]

    async def scenario() -> None:
        link, pipe = connected()
        assert await link.ask_all([]) == []
        asked = asyncio.create_task(link.ask_all(commands))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pipe.written == b"".join(commands)
        link.data_received(b":1\r\n-OOM no\r\n:3\r\n")
        first, second, third = await asked
        assert (first, str(second), third) == (1, "OOM no", 3)
        # One is sent; the socket takes no more, and the others wait for too long.
        monkeypatch.setattr(module, "HIGH_WATER", 1)
        pipe.on_write = link.pause_writing
        asked = asyncio.create_task(link.ask_all(commands))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        link._give_up_unsent(time.monotonic() + 1e9)
        assert not asked.done()
        link.data_received(b":1\r\n")
        assert [type(reply) for reply in await asked] == [int, BrokerUnavailable, BrokerUnavailable]
        asked = asyncio.create_task(link.ask_all(commands))
        await asyncio.sleep(0)
        link.abort("broken")
        assert [type(reply) for reply in await asked] == [BrokerUnavailable] * 3
        assert [type(reply) for reply in await link.ask_all(commands)] == [BrokerUnavailable] * 3

    run(scenario)


def test_a_redis_that_does_not_read_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing goes on; any reply says that something does."""

    async def scenario() -> None:
        link, _ = connected()
        outcomes: list[Any] = []
        link.send(ECHO, outcomes.append)
        await asyncio.sleep(0)
        link.pause_writing()
        monkeypatch.setattr(module, "PATIENCE", -1.0)
        assert (link.usable, link.trouble) == (False, "Redis does not read what is sent to it")
        monkeypatch.setattr(module, "PATIENCE", 60.0)
        link.data_received(b":0\r\n")
        assert link.usable
        link.abort("enough")

    run(scenario)


def test_what_waits_too_long_in_front_of_the_socket_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The link goes on: what was written is answered."""

    async def scenario() -> None:
        monkeypatch.setattr(module, "CHECK_INTERVAL", 0.001)
        link, pipe = connected()
        outcomes: list[Any] = []
        link.send(ECHO, outcomes.append)
        await asyncio.sleep(0)
        link.pause_writing()
        link._timeout = 0.0
        with pytest.raises(BrokerUnavailable, match="not sent"):
            await link.ask("ECHO", "x")
        assert outcomes == []
        assert pipe.written == ECHO
        assert link.pending_bytes == len(ECHO)
        assert not link.lost.done()
        link.abort("enough")

    run(scenario)


@pytest.mark.parametrize("ends", ["with its reply", "with the link"])
def test_a_completion_that_fails_does_not_harm_the_others(ends: str) -> None:
    """Each of the others is called, once; the fault is counted."""
    faults = COUNTED.values

    async def scenario() -> None:
        faults.clear()
        link, _ = connected()
        outcomes: list[Any] = []

        def failing(reply: Any) -> None:
            raise RuntimeError("a fault of a caller")

        for done in (outcomes.append, failing, outcomes.append):
            link.send(ECHO, done)
        await asyncio.sleep(0)
        if ends == "with its reply":
            link.data_received(b":1\r\n:2\r\n:3\r\n")
            assert outcomes == [1, 3]
        link.abort("enough")
        assert len(outcomes) == 2
        assert faults == {"completion": 1}

    run(scenario)


def test_a_completion_may_use_the_link_that_breaks() -> None:
    """A publisher that tries again at once is told so."""

    async def scenario() -> None:
        link, _ = connected()
        outcomes: list[Any] = []
        link.send(ECHO, lambda _: link.send(ECHO, outcomes.append))
        await asyncio.sleep(0)
        link.abort("enough")
        assert [type(outcome) for outcome in outcomes] == [BrokerUnavailable]

    run(scenario)


def test_who_asks_may_give_up() -> None:
    """Its reply is dropped, and the next one is not taken for it."""

    async def scenario() -> None:
        link, _ = connected()
        first = asyncio.create_task(link.ask("ECHO", "1"))
        await asyncio.sleep(0)
        first.cancel()
        second = asyncio.create_task(link.ask("ECHO", "2"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        link.data_received(b":1\r\n:2\r\n")
        assert await second == 2
        link.abort("enough")

    run(scenario)


def test_a_reply_to_nothing_ends_the_link() -> None:
    """Replies and commands would be confused from then on."""

    async def scenario() -> None:
        link, pipe = connected()
        link.data_received(b":1\r\n")
        assert "a reply to nothing" in await link.lost
        assert pipe.aborted

    run(scenario)


def test_an_idle_link_pings_and_gives_up_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(module, "PING_INTERVAL", 0.02)

    async def scenario() -> None:
        link, pipe = connected()
        answered = 0
        while pipe.written.count(PING) < 2:
            if pipe.written.count(PING) > answered:
                answered += 1
                link.data_received(b"+PONG\r\n")
            await asyncio.sleep(0.001)
        assert not link.lost.done()
        link.abort("enough")
        slow, pipe = Link(0.05, GUARD), Pipe()
        slow.connection_made(pipe)
        assert "did not answer within 0.05 s" in await slow.lost
        assert pipe.written == PING

    run(scenario)


@pytest.mark.parametrize("answers", [True, False])
def test_a_process_that_was_held_up_reads_before_it_judges(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    """Redis may have answered in time; a command may not even have been sent. It is not excused twice."""
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.02)

    async def scenario() -> None:
        link, pipe = Link(0.05, GUARD), Pipe()
        link.connection_made(pipe)
        replies: list[Any] = []
        link.send(ECHO, replies.append)
        for _ in range(3):
            time.sleep(0.1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if answers and pipe.written:
                assert not link.lost.done()
                pipe.written = b""
                link.data_received(b":1\r\n")
                link.send(ECHO, replies.append)
        if answers:
            assert replies[:2] == [1, 1]
            link.abort("enough")
        else:
            assert "did not answer" in await link.lost

    run(scenario)


# Messages


def push(*parts: bytes | int) -> bytes:
    """A push message of RESP2."""
    items = (b":%d\r\n" % part if isinstance(part, int) else b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%s" % (len(parts), b"".join(items))


def test_messages_of_one_read_come_together_and_around_confirmations() -> None:
    """What came before a confirmation is handed over before it."""

    async def scenario() -> None:
        heard: list[Any] = []
        link, _ = connected(heard)
        link.data_received(
            push(b"message", b"a", b"1")
            + push(b"message", b"b", b"2")
            + push(b"subscribe", b"c", 3)
            + push(b"unsubscribe", b"a", 2)
            + push(b"message", b"c", b"3")
        )
        assert heard == [[(b"a", b"1"), (b"b", b"2")], b"c", [(b"c", b"3")]]
        link.abort("enough")

    run(scenario)


def test_a_subscribed_link_is_pinged_too() -> None:
    """RESP2 answers it with a push of two; a refused SUBSCRIBE is answered with an error."""

    async def scenario() -> None:
        heard, replies = list[Any](), list[Any]()
        link, _ = connected(heard)
        link.send(PING, replies.append)
        await asyncio.sleep(0)
        link.data_received(push(b"message", b"a", b"1") + push(b"pong", b"") + push(b"message", b"a", b"2"))
        assert replies == [[b"pong", b""]]
        assert heard == [[(b"a", b"1"), (b"a", b"2")]]
        link.data_received(push(b"message", b"a", b"3") + b"-NOPERM no\r\n")
        assert "refuses to subscribe: NOPERM no" in await link.lost
        assert heard[1:] == [[(b"a", b"3")]]

    run(scenario)


parts = st.binary(max_size=20)
pushes = (
    st.builds(lambda bus, payload: push(b"message", bus, payload), parts, parts)
    | st.builds(lambda bus: push(b"subscribe", bus, 1), parts)
    | st.builds(lambda bus: push(b"unsubscribe", bus, 0), parts)
)


def flat(heard: list[Any]) -> list[Any]:
    return [each for group in heard for each in (group if isinstance(group, list) else [group])]


@settings(derandomize=True, deadline=None)
@given(st.lists(pushes, max_size=12), st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    """The same is heard in the same order, from one read or from many."""

    async def scenario() -> None:
        stream = b"".join(sent)
        whole, pieces = list[Any](), list[Any]()
        one, _ = connected(whole)
        one.data_received(stream)
        other, _ = connected(pieces)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            other.data_received(stream[start:end])
        assert flat(pieces) == flat(whole)
        assert not one.lost.done()
        assert not other.lost.done()
        one.abort("enough")
        other.abort("enough")

    run(scenario)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_arbitrary_bytes_end_the_link_at_most(received: bytes, subscribes: bool) -> None:
    """Nothing is raised, and every command has one outcome."""

    async def scenario() -> None:
        link, _ = connected([] if subscribes else None)
        outcomes: list[Any] = []
        for _ in range(3):
            link.send(ECHO, outcomes.append)
        link.data_received(received)
        link.connection_lost(None)
        assert len(outcomes) == 3

    run(scenario)


# Connecting


@asynccontextmanager
async def scripted(answer: bytes) -> AsyncIterator[Target]:
    """A server that answers whatever it gets with `answer`, or hangs up for an empty one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(answer)
        if answer:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target.of(f"redis://:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "invalid data"),
        (b"", "closed the connection"),
        (b"-ERR max number of clients reached\r\n", "as many clients as it may have"),
        (b"-WRONGPASS invalid username-password pair\r\n", "refuses this password"),
        (b"$100\r\nand so on", "no answer within 0.2 s"),
    ],
)
def test_a_server_that_is_no_redis_is_named_with_what_it_did(answer: bytes, text: str) -> None:
    """The password is not."""

    async def scenario() -> None:
        options = RedisSettings(url=SecretStr("redis://unused"), connect_timeout=0.2)
        async with scripted(answer) as target:
            with pytest.raises(BrokerUnavailable) as caught:
                await connect(target, options, lambda: Link(30, GUARD), "test")
            assert text in caught.value.detail
            assert target.name in caught.value.detail
            assert "secret" not in caught.value.detail

    run(scenario)


# The end


def drain(server: socket.socket) -> None:
    while server.recv(1_000_000):
        pass


def test_what_was_given_up_does_not_arrive_later() -> None:
    """A link that was given up leaves nothing to the kernel that reaches Redis once the network is back."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            link = (await loop.create_connection(lambda: Link(30, GUARD), *listener.getsockname()))[1]
            server, _ = listener.accept()
        outcomes: list[Any] = []
        with server:
            # Nobody reads: most of it stays with the kernel.
            link.send(pack("ECHO", b"x" * 4_000_000), outcomes.append)
            await asyncio.sleep(0)
            link.abort("enough")
            assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown]
            # The transport closes its socket in a turn of its own.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(ConnectionResetError):
                drain(server)

    run(scenario)
