"""Clients that do not read the answers to their requests."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.transports.flow import TURN_BYTES, BoundedFlowControl
from tests.transports.conftest import Site, fast_site, settings_of
from tests.transports.raw import RawClient

# More than the socket buffers of both ends hold together.
SIZE = 12_000_000


async def _answers_at_length(scope: Any, receive: Any, send: Any) -> None:
    """As many bytes as the path says, in two pieces."""
    size = int(scope["path"][1:])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * (size - 1), "more_body": True})
    await send({"type": "http.response.body", "body": b"x"})


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("gateway.transports.flow.UNREAD_TIMEOUT", 0.3)
    with fast_site(settings_of(), app=_answers_at_length) as running:
        yield running


def get(size: int, connection: str) -> bytes:
    return f"GET /{size} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n".encode()


def read_away(client: RawClient) -> None:
    """The body of an answer of SIZE, behind which nothing comes yet."""
    left = SIZE - len(client._buffer)
    client._buffer = b""
    while left:
        piece = client.socket.recv(min(left, 65_536))
        assert piece, "cut off"
        left -= len(piece)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_an_answer_that_nobody_reads_ends_its_connection(site: Site, connection: str) -> None:
    """The answer is cut off, and its place is free."""
    with RawClient(site.address, receive_buffer=4096) as client:
        client.send(get(SIZE, connection))
        assert client.status() == 200
        while site.call(lambda: site.admission.total) == 1:
            pass
        assert 0 < len(client.rest()) < SIZE


def test_an_answer_that_is_read_in_pieces_arrives(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one on the same connection."""
    monkeypatch.setattr("gateway.transports.flow.UNREAD_TIMEOUT", 10.0)
    with RawClient(site.address, receive_buffer=4096) as client:
        client.send(get(SIZE, "keep-alive"))
        assert client.status() == 200
        read_away(client)
        client.send(get(10, "close"))
        assert client.status() == 200
        assert client.rest() == b"x" * 10


class _Transport(asyncio.Transport):
    """One whose peer never reads."""

    def __init__(self, unread: int) -> None:
        super().__init__()
        self.unread = unread
        self.closing = False
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted.set()


def test_each_step_forward_moves_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads slowly is not one that has stopped."""
    monkeypatch.setattr("gateway.transports.flow.UNREAD_TIMEOUT", 0.0)

    async def run() -> None:
        transport = _Transport(10)
        flow = BoundedFlowControl(transport, asyncio.get_running_loop())
        for _ in range(3):
            flow.pause_writing()
            flow.resume_writing()
            await asyncio.sleep(0.01)
            assert not transport.aborted.is_set()
        flow.pause_writing()
        await transport.aborted.wait()

    asyncio.run(run())


def test_a_closed_connection_with_a_few_unread_bytes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few to pause the application, which is done; a step forward changes nothing, the end does."""
    monkeypatch.setattr("gateway.transports.flow.UNREAD_TIMEOUT", 0.0)

    async def run() -> None:
        transport = _Transport(10)
        flow = BoundedFlowControl(transport, asyncio.get_running_loop())
        flow.closing()
        await asyncio.sleep(0.01)
        assert not transport.aborted.is_set()
        transport.closing = True
        flow.closing()
        flow.closing()
        flow.resume_writing()
        await transport.aborted.wait()

        lost = _Transport(10)
        lost.closing = True
        flow = BoundedFlowControl(lost, asyncio.get_running_loop())
        flow.closing()
        flow.stop()
        await asyncio.sleep(0.01)
        assert not lost.aborted.is_set()

        empty = _Transport(0)
        empty.closing = True
        flow = BoundedFlowControl(empty, asyncio.get_running_loop())
        flow.closing()
        await asyncio.sleep(0.01)
        assert not empty.aborted.is_set()

    asyncio.run(run())


def test_a_client_that_rests_is_read_again_after_it_has_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends the deadline of one direction leaves the rest of the other: a further request is answered."""
    monkeypatch.setattr("gateway.transports.flow.BYTES_PER_SECOND", TURN_BYTES)
    monkeypatch.setattr("gateway.transports.flow.UNREAD_TIMEOUT", 10.0)
    with RawClient(site.address) as client:
        with site.blocked():
            client.send(f"POST /{SIZE} HTTP/1.1\r\nHost: test\r\nContent-Length: 65530\r\n\r\n".encode(), b"x" * 65_530)
        assert client.status() == 200
        read_away(client)
        client.send(get(10, "close"))
        assert client.status() == 200
        assert client.rest() == b"x" * 10
