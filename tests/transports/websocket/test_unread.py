"""What a client does not read counts among what waits on the node, and goes when others need the memory."""

import asyncio
from typing import Any

import pytest
from starlette.routing import WebSocketRoute

from gateway.app import Composition
from gateway.config.settings import ServerSettings
from gateway.metrics import Metrics
from gateway.transports import socket_transport
from gateway.transports.asgi_transport import AsgiTransport
from gateway.transports.socket_transport import HIGH_WATER
from gateway.transports.websocket.asgi_websocket import AsgiWebSocket
from gateway.transports.websocket.websocket_endpoint import WebSocketEndpoint
from gateway.transports.websocket.websocket_transport import LARGE
from tests.transports.conftest import Site, settings_of
from tests.transports.raw import masked
from tests.transports.recording import RecordingConnection
from tests.transports.websocket.test_turns import Socket


@pytest.fixture(autouse=True)
def _counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_transport, "BURST", 0.0)


def test_a_congested_socket_counts_until_it_is_read() -> None:
    """Beyond what any socket may hold."""

    async def run() -> None:
        socket = Socket()
        socket.wire.unread = HIGH_WATER + 1000
        assert socket.options.keeping == set()
        socket.transport.pause_writing()
        assert socket.options.keeping == {socket.transport}
        assert socket.transport.held == 1000
        socket.wire.unread = HIGH_WATER
        assert socket.transport.held == 0
        socket.wire.unread = 0
        socket.transport.resume_writing()
        assert socket.options.keeping == set()

    asyncio.run(run())


def test_a_burst_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one block for all who get it, and they read it soon."""
    monkeypatch.setattr(socket_transport, "BURST", 60.0)

    async def run() -> None:
        socket = Socket()
        socket.wire.unread = 10 * HIGH_WATER
        socket.transport.pause_writing()
        assert socket.transport.held == 0

    asyncio.run(run())


def test_what_is_not_read_and_what_is_not_complete_count_together() -> None:
    """A message that becomes complete leaves the rest counted."""

    async def run() -> None:
        socket = Socket()
        message = masked(0x1, b"x" * 2 * LARGE)
        socket.transport.data_received(message[:-1])
        assert socket.transport.held == 2 * LARGE - 1
        socket.wire.unread = HIGH_WATER + 1000
        socket.transport.pause_writing()
        assert socket.transport.held == 2 * LARGE - 1 + 1000
        socket.transport.data_received(message[-1:])
        assert socket.options.keeping == {socket.transport}
        assert socket.transport.held == 1000

    asyncio.run(run())


@pytest.mark.parametrize("closing", [False, True])
def test_a_congested_socket_that_has_to_go_is_slow(closing: bool) -> None:
    """At once: a close frame waits behind what is not read, and where it is one of before, that code stays."""

    async def run() -> None:
        socket = Socket()
        socket.wire.unread = HIGH_WATER + 1000
        socket.transport.pause_writing()
        if closing:
            socket.transport.receiver.received(b"close 3500 bye", binary=False)
            assert not socket.wire.closing
        socket.transport.shed()
        assert socket.wire.closing
        socket.transport.connection_lost(None)
        assert socket.options.keeping == set()
        assert socket.connection.events[-1] == (("closed", 3500, "bye") if closing else ("closed", 3008, "slow"))

    asyncio.run(run())


def test_plain_asgi_counts_what_it_keeps_itself() -> None:
    """What waits in the server behind it is not known."""

    async def run() -> None:
        connection, congested = RecordingConnection(), set[AsgiTransport]()
        place = Site(settings_of()).admission.enter("192.0.2.1")
        transport = AsgiWebSocket(
            connection, _never, place, congested, message_size=100, protocol_errors=Metrics().protocol_errors
        )
        running = asyncio.create_task(transport.run(_never))
        await asyncio.sleep(0)
        transport.write(b"\x82\x7f" + (HIGH_WATER + 990).to_bytes(8, "big") + b"x" * (HIGH_WATER + 990))
        assert congested == {transport}
        assert (transport.held, transport.payer) == (1000, "192.0.2.1")
        transport.shed()
        await running
        assert congested == set()
        assert connection.events[-1] == ("closed", 3008, "slow")

    asyncio.run(run())


async def _never(*message: Any) -> Any:
    await asyncio.Event().wait()


def test_the_node_counts_them() -> None:
    """Those of our HTTP class, and those of plain ASGI."""

    async def run() -> None:
        node = Composition(ServerSettings())
        socket = Socket()
        socket.wire.unread = HIGH_WATER + 1000
        socket.transport.pause_writing()
        node.options.keeping.add(socket.transport)
        assert node.metrics.waiting_bytes.read() == 1000
        endpoint = next(
            route.endpoint
            for route in node.public.routes
            if isinstance(route, WebSocketRoute) and isinstance(route.endpoint, WebSocketEndpoint)
        )
        plain = AsgiWebSocket(
            RecordingConnection(),
            _never,
            node.admission.enter("192.0.2.1"),
            endpoint.congested,
            message_size=100,
            protocol_errors=node.metrics.protocol_errors,
        )
        plain.write(b"x" * (HIGH_WATER + 500))
        assert node.metrics.waiting_bytes.read() == 1500

    asyncio.run(run())
