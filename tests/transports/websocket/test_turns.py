"""One client has its share of a turn of the loop, and after our close frame next to none."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import CloseCode
from gateway.metrics import Metrics
from gateway.transports import flow
from gateway.transports.drain import Drain
from gateway.transports.socket_transport import MOST_UNWANTED, SocketOptions
from gateway.transports.websocket import websocket_transport
from gateway.transports.websocket.frames import TURN_FRAMES, FrameParser, close_frame
from gateway.transports.websocket.websocket_transport import WebSocketTransport
from tests.fakes import GUARD
from tests.transports.raw import masked
from tests.transports.recording import RecordingConnection
from tests.transports.websocket.test_compression import compressed

READ = 256 * 1024  # bytes that one read of a socket brings


class Wire(asyncio.Transport):
    """The asyncio side of a socket: says whether it reads, and keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        # Bytes that the peer has yet to read.
        self.unread = 0
        self.reading = True
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


class Socket:
    """A WebSocket whose bytes come by hand. `messages` are those that reached its connection."""

    def __init__(self, *, deflate: bool = False) -> None:
        self.wire, self.connection = Wire(), RecordingConnection()
        self.options = options = SocketOptions(
            connections=set(),
            drain=Drain(0, GUARD),
            protocol_errors=Metrics().protocol_errors,
            message_size=65_536,
            fragments=1_024,
            keeping=set(),
        )
        parser = FrameParser(65_536, 1_024, deflate=deflate)
        self.transport = WebSocketTransport(options, self.wire, parser, self.connection, None)
        self.connection.opened(self.transport)

    @property
    def messages(self) -> list[bytes]:
        return [event[1] for event in self.connection.events if event[0] == "received"]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0)


def run(scenario: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The pace is of no interest here, only the turns.
    monkeypatch.setattr(websocket_transport, "FRAMES_PER_SECOND", 1e9)
    monkeypatch.setattr(flow, "BYTES_PER_SECOND", 1e12)
    asyncio.run(scenario())


def test_one_read_is_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read meanwhile, so that it does not pile up; all of it comes, in order."""

    async def scenario() -> None:
        socket = Socket()
        expected = [b"%d" % number for number in range(10 * TURN_FRAMES)]
        socket.transport.data_received(b"".join(masked(0x1, each) for each in expected))
        assert socket.messages == expected[:TURN_FRAMES]
        seen = [TURN_FRAMES]
        while len(seen) < 10:
            assert not socket.wire.reading
            await socket.until(lambda: len(socket.messages) > seen[-1])
            seen.append(len(socket.messages))
            assert seen[-1] - seen[-2] == TURN_FRAMES
        await socket.until(lambda: socket.wire.reading)
        assert socket.messages == expected

    run(scenario, monkeypatch)


def test_a_large_read_ends_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few frames may be many bytes: libuv would read 8 MiB of them before anybody else has a turn."""

    async def scenario() -> None:
        socket = Socket()
        frame = masked(0x1, b"x" * 60_000)
        for count in range(1, 4):
            socket.transport.data_received(frame * 4)
            assert len(socket.messages) == 4 * count
            assert not socket.wire.reading
            await socket.until(lambda: socket.wire.reading)
        socket.transport.data_received(frame)
        assert socket.wire.reading

    run(scenario, monkeypatch)


def test_what_is_inflated_counts_as_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All bombs of one read are not inflated in one turn, nor those of reads that come one after another."""

    async def scenario() -> None:
        socket = Socket(deflate=True)
        bomb = compressed(0x1, b"x" * 40_000)
        assert len(bomb) < 100
        socket.transport.data_received(bomb * 10)
        seen = [2]
        while seen[-1] < 10:
            assert len(socket.messages) == seen[-1]
            assert not socket.wire.reading
            await socket.until(lambda: len(socket.messages) > seen[-1])
            seen.append(len(socket.messages))
        assert seen == [2, 4, 6, 8, 10]
        await socket.until(lambda: socket.wire.reading)
        reading = []
        for _ in range(2):
            socket.transport.data_received(bomb)
            reading.append(socket.wire.reading)
        assert reading == [True, False]
        await socket.until(lambda: socket.wire.reading)

    run(scenario, monkeypatch)


def test_the_pace_of_what_is_inflated_is_that_of_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few bytes it took."""
    rests = []
    monkeypatch.setattr(WebSocketTransport, "_go_on_after", lambda transport, delay: rests.append(delay))

    async def scenario() -> None:
        socket = Socket(deflate=True)
        socket.transport.data_received(compressed(0x1, b"x" * 65_536))
        socket.transport.data_received(compressed(0x1, b"x" * 65_536) * 2)
        socket.transport.data_received(masked(0x1, b"x" * 100))

    asyncio.run(scenario())
    least = 65_536 / flow.BYTES_PER_SECOND
    assert rests == [pytest.approx(least, rel=0.01), pytest.approx(least, rel=0.01), pytest.approx(least, rel=0.01)]


def test_a_large_read_leaves_a_session_that_waits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What paused reading for itself resumes it."""

    async def scenario() -> None:
        socket = Socket()
        socket.transport.pause_reading()
        socket.transport.data_received(masked(0x1, b"x" * 60_000) * 2)
        await socket.until(lambda: not socket.transport._waiting)
        assert not socket.wire.reading
        assert socket.messages == []
        socket.transport.resume_reading()
        await socket.until(lambda: socket.wire.reading)
        assert len(socket.messages) == 2

    run(scenario, monkeypatch)


def test_fragments_count_as_messages_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also empty ones: the limit of commands sees none of them before the last."""

    async def scenario() -> None:
        socket = Socket()
        message = masked(0x1, b"a", fin=False) + masked(0x0, b"", fin=False) * 1_000 + masked(0x0, b"z")
        socket.transport.data_received(message * (READ // len(message)))
        assert socket.messages == []
        assert not socket.wire.reading
        await socket.until(lambda: len(socket.messages) == READ // len(message))

    run(scenario, monkeypatch)


def test_a_pause_of_the_session_holds_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a socket that reads again reads only what was left, before anything new."""

    async def scenario() -> None:
        socket = Socket()
        socket.transport.data_received(masked(0x1, b"1") * 3 * TURN_FRAMES)
        socket.transport.pause_reading()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(socket.messages) == TURN_FRAMES
        assert not socket.wire.reading
        socket.transport.resume_reading()
        assert not socket.wire.reading
        await socket.until(lambda: socket.wire.reading)
        assert len(socket.messages) == 3 * TURN_FRAMES

    run(scenario, monkeypatch)


@pytest.mark.parametrize("piece", [100, 5_000, READ])
@pytest.mark.parametrize("closed_by", ["session", "parser"])
def test_after_our_close_frame_little_is_looked_at(piece: int, closed_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is read any more: whoever goes on sending waits for itself."""
    looked_at = 0

    class Counting(FrameParser):
        __slots__ = ()

        def feed(self, data: bytes, sink: Any) -> bool:
            nonlocal looked_at
            looked_at += len(data)
            return super().feed(data, sink)

    monkeypatch.setitem(globals(), "FrameParser", Counting)

    async def scenario() -> None:
        socket = Socket()
        if closed_by == "session":
            socket.transport.close(CloseCode(3501, "bad request"), close_frame(3501, "bad request"))
        else:
            socket.transport.data_received(b"\x81\x02hi")
        garbage = masked(0x1, b"{") * (READ // len(masked(0x1, b"{")))
        sent = 0
        while socket.wire.reading and not socket.wire.closing and sent < 100 * READ:
            socket.transport.data_received(garbage[:piece])
            sent += piece
        assert sent <= MOST_UNWANTED + READ
        assert looked_at <= MOST_UNWANTED + READ
        assert socket.messages == []

    run(scenario, monkeypatch)


def test_the_answer_to_our_close_frame_is_found_behind_what_was_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the socket ends at once, as RFC 6455 section 7.1.1 has it."""

    async def scenario() -> None:
        socket = Socket()
        socket.transport.data_received(
            masked(0x1, b"close 3001 bye") + masked(0x1, b"1") * 100 + masked(0x8, b"\x0b\xb9")
        )
        await socket.until(lambda: socket.wire.closing)
        assert socket.connection.events[-1] == ("closed", 3001, "bye")

    run(scenario, monkeypatch)
