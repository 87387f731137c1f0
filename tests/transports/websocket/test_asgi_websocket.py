"""What only plain ASGI has: Starlette's test client, servers with fewer extensions, and servers that misbehave."""

import asyncio
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from gateway.errors import CloseCode
from gateway.protocols.wire_protocol import Message
from gateway.transports.admission import Admission
from gateway.transports.websocket.asgi_websocket import AsgiWebSocket
from gateway.transports.websocket.frames import PING_FRAME, close_frame, frame
from tests.transports.conftest import Site, settings_of
from tests.transports.recording import RecordingConnection

with warnings.catch_warnings():
    # The test client prefers a library that nobody has to have for it yet.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient, WebSocketDenialResponse


@pytest.fixture
def site() -> Site:
    return Site(settings_of())


def test_sessions_run_in_the_test_client(site: Site) -> None:
    """So that an application that embeds the gateway can be tested without a server."""
    with TestClient(site.app()).websocket_connect("/record", subprotocols=["one"]) as client:
        assert str(client.accepted_subprotocol) == "one"
        client.send_text("hello")
        assert client.receive_text() == "hello"
        client.send_bytes(b"\x00")
        assert client.receive_bytes() == b"\x00"
        client.send_text("close 3500 bye")
        with pytest.raises(WebSocketDisconnect) as closed:
            client.receive_text()
        assert (closed.value.code, closed.value.reason) == (3500, "bye")
    site.last.wait_for("closed", 3500, "bye")
    assert site.admission.total == 0


def test_a_refusal_reaches_the_test_client(site: Site) -> None:
    """As a response."""
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        TestClient(site.app()).websocket_connect("/record?refuse=401"),
    ):
        pass
    assert refused.value.status_code == 401
    assert site.admission.total == 0


class Server:
    """An ASGI server by hand: what the client sends, and what the application sends."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in messages:
            self.incoming.put_nowait(message)
        self.sent: list[dict[str, Any]] = []
        self.on_send: Callable[[dict[str, Any]], Any] | None = None

    async def receive(self) -> dict[str, Any]:
        return await self.incoming.get()

    async def send(self, message: dict[str, Any]) -> None:
        if self.on_send is not None:
            await self.on_send(message)
        self.sent.append(message)

    async def run(self, app: Any, **scope: Any) -> None:
        base = {"type": "websocket", "path": "/record", "query_string": b"", "headers": [], "scheme": "ws"}
        await app({**base, **scope}, self.receive, self.send)


def test_a_refusal_without_the_extension_is_a_close(site: Site) -> None:
    """The server makes a 403 of it, the only refusal that it knows."""
    server = Server({"type": "websocket.connect"})
    asyncio.run(server.run(site.app(), headers=[(b"origin", b"https://evil.example")]))
    assert server.sent == [{"type": "websocket.close"}]


def test_a_client_that_is_gone_before_it_connects_is_nobody(site: Site) -> None:
    """Nothing is opened."""
    asyncio.run(Server({"type": "websocket.disconnect", "code": 1006}).run(site.app()))
    assert site.connections == []
    assert site.admission.total == 0


def transport(server: Server) -> tuple[AsgiWebSocket, RecordingConnection, Admission]:
    site = Site(settings_of())
    connection = RecordingConnection()
    made = AsgiWebSocket(
        connection,
        server.send,
        site.admission.enter(),
        set(),
        message_size=100,
        protocol_errors=site.metrics.protocol_errors,
    )
    return made, connection, site.admission


def test_text_that_is_no_unicode_closes_with_1007() -> None:
    """Lone surrogates; no real server lets them through."""
    server = Server({"type": "websocket.receive", "text": "\ud800"}, {"type": "websocket.disconnect", "code": 1007})
    made, connection, _ = transport(server)
    asyncio.run(made.run(server.receive))
    assert server.sent == [{"type": "websocket.close", "code": 1007, "reason": "invalid UTF-8"}]
    assert connection.events == [("opened",), ("closed", 1007, "invalid UTF-8")]


@pytest.mark.parametrize("error", [OSError, RuntimeError], ids=str)
def test_a_send_that_fails_ends_the_connection(error: type[Exception]) -> None:
    """Servers raise one or the other when the client is gone."""
    server = Server({"type": "websocket.receive", "text": "hello"})

    async def fail(message: dict[str, Any]) -> None:
        raise error

    server.on_send = fail
    made, connection, _ = transport(server)
    asyncio.run(made.run(server.receive))
    assert connection.events[-1] == ("closed", 1006, "")


def test_nothing_is_written_behind_close() -> None:
    """Frames that come too late go nowhere, and closing twice closes once."""

    async def run() -> None:
        server = Server()
        made, connection, _ = transport(server)
        running = asyncio.create_task(made.run(server.receive))
        await asyncio.sleep(0)
        made.write(frame([Message(b"first")]) + PING_FRAME + frame([Message(b"\x00", True)]))
        made.close(CloseCode(3000, "bye"), close_frame(3000, "bye"))
        made.close(CloseCode(3001, "again"), close_frame(3001, "again"))
        made.write(frame([Message(b"late")]))
        made.pause_reading()
        server.incoming.put_nowait({"type": "websocket.receive", "text": "late"})
        server.incoming.put_nowait({"type": "websocket.disconnect", "code": 3000, "reason": "bye"})
        await running
        assert [message["type"] for message in server.sent] == ["websocket.send"] * 2 + ["websocket.close"]
        assert connection.events == [("opened",), ("ponged",), ("closed", 3000, "bye")]

    asyncio.run(run())


def test_a_server_that_is_stopped_closes_the_connection() -> None:
    """It cancels the application."""

    async def run() -> None:
        server = Server()
        made, connection, _ = transport(server)
        running = asyncio.create_task(made.run(server.receive))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert connection.events == [("opened",), ("closed", 1006, "")]

    asyncio.run(run())


def test_an_endpoint_that_nobody_counts_for_counts_itself() -> None:
    """Under our HTTP class without an admission, the place lives as long as the socket."""
    site = Site(settings_of())
    detached: list[tuple[Any, Any]] = []
    extension = {"gateway.detach": {"detach": lambda *args: detached.append(args), "place": None}}
    server = Server({"type": "websocket.connect"})
    asyncio.run(server.run(site.app(), extensions=extension))
    ((connection, place),) = detached
    assert connection is site.last
    assert (site.admission.total, site.admission.clients) == (1, 1)
    place.leave()
    assert (site.admission.total, site.admission.clients) == (0, 0)


def test_a_released_connection_ends_with_a_code_that_may_be_sent() -> None:
    """RFC 6455 section 7.4.1: 1006 must not stand in a close frame."""

    async def run() -> None:
        server = Server()
        made, connection, _ = transport(server)
        running = asyncio.create_task(made.run(server.receive))
        await asyncio.sleep(0)
        made.release(close_frame(1000, "moved"))
        server.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await running
        assert server.sent == [{"type": "websocket.close", "code": 1000, "reason": "moved"}]
        assert connection.events == [("opened",)]

    asyncio.run(run())


@pytest.mark.parametrize("end", ["close", "leave", "release"])
def test_a_transport_that_has_ended_is_free_at_once(end: str) -> None:
    """Neither a circle nor a timer holds it: an application may have thousands that come and go."""

    async def run() -> None:
        server = Server()
        made, connection, _ = transport(server)
        there = weakref.ref(made)
        running = asyncio.create_task(made.run(server.receive))
        await asyncio.sleep(0)
        if end == "close":
            made.close(CloseCode(3000, "bye"), b"")
        elif end == "release":
            made.release(b"")
        server.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await running
        del made, running
        connection.transport = None
        await asyncio.sleep(0)
        assert there() is None

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_nothing_is_written_to_a_transport_that_has_ended() -> None:
    """A session may still hold it for a moment."""

    async def run() -> None:
        server = Server({"type": "websocket.disconnect", "code": 1000})
        made, _, _ = transport(server)
        await made.run(server.receive)
        made.write(frame([Message(b"late")]))
        made.close(CloseCode(3000, "bye"), b"")
        other = RecordingConnection()
        made.drive(other)
        assert server.sent == []
        assert other.events == [("closed", 1006, "")]

    asyncio.run(run())
