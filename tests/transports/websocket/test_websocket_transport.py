"""What only the fast path has: hostile frames on a real socket, ordinary routes of an application, the handover."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as websocket_connect

from gateway.config.settings import LimitSettings
from tests.transports.conftest import Site, fast_site, settings_of
from tests.transports.raw import RawClient, handshake, masked
from tests.transports.recording import RecordingConnection


def connect(site: Site, path: str, **options: Any) -> ClientConnection:
    client: ClientConnection = websocket_connect(f"ws://{site.url}{path}", compression=None, **options)
    return client


def assert_alive(site: Site) -> None:
    with connect(site, "/record") as client:
        client.send("hello")
        assert client.recv(10) == "hello"


@pytest.mark.parametrize(
    ("stream", "code", "reason"),
    [
        (b"\x81\x02hi", 1002, "unmasked frame"),
        (masked(0x3), 1002, "reserved opcode"),
        (b"\xc1" + masked(0x1)[1:], 1002, "reserved bit"),
        (masked(0x9, fin=False), 1002, "fragmented control frame"),
        (masked(0x0, b"a"), 1002, "expected text or binary frame"),
        (masked(0x1, b"\xff\xfe"), 1007, "invalid UTF-8"),
        (masked(0x1, b"x" * (LimitSettings().frame_size + 1))[:14], 1009, "message too big"),
        (masked(0x1, b"", fin=False) + masked(0x0, b"", fin=False) * 2000, 1008, "too many fragments"),
        (masked(0x9, b"ping") * 1000, 1008, "too many control frames"),
        (masked(0xA) * 1000, 1008, "too many control frames"),
        (masked(0x8, b"\x03\xec"), 1002, "wrong close code"),
    ],
)
@pytest.mark.parametrize("piece", [1, 10_000], ids=["bytes", "at once"])
def test_a_violation_closes_this_connection_only(site: Site, stream: bytes, code: int, reason: str, piece: int) -> None:
    """With the code of the RFC, an end of the stream, and a counter; bytes that still come disturb nothing."""
    before = site.metrics.protocol_errors.values.get(reason, 0)
    if piece == 1:
        stream = stream[:9000]
    with RawClient(site.address) as client:
        client.upgrade()
        for start in range(0, len(stream), piece):
            client.send(stream[start : start + piece])
        assert client.close_code() == code
        assert client.rest() == b""
        client.send(b"more" * 1000)
    site.last.wait_for("closed", code, reason)
    assert site.metrics.protocol_errors.values[reason] == before + 1
    assert site.last.names().count("closed") == 1
    assert_alive(site)


def test_messages_may_come_a_byte_at_a_time(site: Site) -> None:
    """TCP promises no more."""
    with RawClient(site.address) as client:
        client.upgrade()
        for byte in masked(0x1, "grüß dich".encode()):
            client.send(bytes([byte]))
        assert client.frame() == (0x1, "grüß dich".encode())


def test_of_pings_that_come_while_the_client_does_not_read_the_newest_is_answered(site: Site) -> None:
    """Once it has read: RFC 6455 section 5.5.3. All answers would fill the memory of a node."""
    with RawClient(site.address, receive_buffer=4096) as client:
        client.upgrade()
        client.send(masked(0x1, b"flood 10000"))
        site.last.wait_for("pause_writing")
        client.send(masked(0x9, b"ping") * 10, masked(0x9, b"newest"), masked(0xA))
        site.last.wait_for("ponged")
        frames = [client.frame() for _ in range(10_001)]
        assert frames.count((0x1, b"x" * 1000)) == 10_000
        assert frames.count((0xA, b"newest")) == 1
        client.send(masked(0x9, b"last"))
        assert client.frame() == (0xA, b"last")


def test_the_echo_of_a_close_frame_has_its_code(site: Site) -> None:
    """And the server closes the socket first (7.1.1)."""
    with RawClient(site.address) as client:
        client.upgrade()
        client.send(masked(0x8, (4321).to_bytes(2, "big") + b"reason"), masked(0x1, b"late"))
        assert client.frame() == (0x8, (4321).to_bytes(2, "big"))
        assert client.frame() is None
    site.last.wait_for("closed", 4321, "reason")
    assert site.last.names() == ["opened", "closed"]


def test_a_half_closed_connection_is_closed(site: Site) -> None:
    """A client that sends nothing more cannot answer pings either."""
    with RawClient(site.address) as client:
        client.upgrade()
        client.send(masked(0x1, b"hello"))
        assert client.frame() == (0x1, b"hello")
        client.socket.shutdown(1)
        assert client.frame() is None
    site.last.wait_for("closed", 1006, "")


def test_a_violation_behind_our_close_frame_ends_the_socket(site: Site) -> None:
    """Nothing is sent behind a close frame."""
    with RawClient(site.address) as client:
        client.upgrade()
        client.send(masked(0x1, b"close 3000 bye"))
        assert client.close_code() == 3000
        client.send(b"\xff\xff")
        assert client.rest() == b""
    site.last.wait_for("closed", 3000, "bye")


# Ordinary routes


def test_other_websocket_routes_work(site: Site) -> None:
    """Accept with headers, text, binary, close with code and reason."""
    with connect(site, "/echo") as client:
        assert client.response is not None
        assert client.response.headers["x-route"] == "echo"
        client.send("text")
        assert client.recv(10) == "text"
        client.send(b"\x00\xff")
        assert client.recv(10) == b"\x00\xff"
        client.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")


@pytest.mark.parametrize(("command", "code"), [("raise", 1011), ("return", 1000)])
def test_a_route_that_ends_closes_its_connection(site: Site, command: str, code: int) -> None:
    """An error of the application is told as one."""
    with connect(site, "/echo") as client:
        client.send(command)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
    assert_alive(site)


def test_a_route_gets_thousands_of_messages_of_one_packet(site: Site) -> None:
    """Its queue is bounded: the rest waits in the parser and in the socket."""
    with RawClient(site.address) as client:
        client.upgrade("/echo")
        client.send(b"".join(masked(0x1, b"%d" % number) for number in range(5000)))
        assert [client.frame() for _ in range(5000)] == [(0x1, b"%d" % number) for number in range(5000)]


def test_a_route_that_nobody_reads_from_waits(site: Site) -> None:
    """`send` blocks while the client does not read; nothing is lost."""
    with RawClient(site.address, receive_buffer=4096) as client:
        client.upgrade("/echo")
        message = b"x" * 60_000
        client.socket.settimeout(0.2)
        sent = 0
        with suppress(TimeoutError):
            while sent < 10_000:
                client.send(masked(0x1, message))
                sent += 1
        assert sent < 10_000
        client.socket.settimeout(10)
        assert [client.frame() for _ in range(sent)] == [(0x1, message)] * sent


def test_an_unknown_path_is_refused(site: Site) -> None:
    """Starlette closes it before it is accepted: 403."""
    with pytest.raises(InvalidStatus) as refused, connect(site, "/nowhere"):
        pass
    assert refused.value.response.status_code == 403


# Applications that do something else; each is the whole application of its server.


async def _denies(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 402, "headers": [(b"x-pay", b"now")]})
    await send({"type": "websocket.http.response.body", "body": b"pay ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"first"})


async def _returns(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def _raises(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("as expected")


async def _sends_before_accept(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.send", "text": "too early"})


async def _splits_a_header(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept", "headers": [(b"x", b"a\r\nx-injected: b")]})


async def _detaches_too_early(scope: Any, receive: Any, send: Any) -> None:
    scope["extensions"]["gateway.detach"]["detach"](None, None)


@pytest.mark.parametrize(
    ("app", "status", "body"),
    [
        (_denies, 402, b"pay first"),
        (_returns, 500, b'{"error":{"code":500,"message":"internal server error"}}'),
        (_raises, 500, b'{"error":{"code":500,"message":"internal server error"}}'),
        (_sends_before_accept, 500, b'{"error":{"code":500,"message":"internal server error"}}'),
        (_splits_a_header, 500, b'{"error":{"code":500,"message":"internal server error"}}'),
        (_detaches_too_early, 500, b'{"error":{"code":500,"message":"internal server error"}}'),
    ],
)
def test_an_application_that_does_not_accept_is_a_response(app: Any, status: int, body: bytes) -> None:
    """Its own, or a server error."""
    with fast_site(settings_of(), app=app) as site, RawClient(site.address) as client:
        head = client.upgrade("/")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"injected" not in head
        assert client.rest() == body


def test_messages_that_came_before_the_handover_go_to_the_connection() -> None:
    """In order, with those that come behind, even when the endpoint takes its time."""
    connection = RecordingConnection()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["text"] == "0"
        extension = scope["extensions"]["gateway.detach"]
        extension["detach"](connection, extension["place"])

    with fast_site(settings_of(), app=app) as site, RawClient(site.address) as client:
        client.send(handshake(), *[masked(0x1, b"%d" % number) for number in range(100)])
        assert client.status() == 101
        client.send(*[masked(0x2, b"%d" % number) for number in range(100, 200)])
        assert [client.frame() for _ in range(99)] == [(0x1, b"%d" % number) for number in range(1, 100)]
        assert [client.frame() for _ in range(100)] == [(0x2, b"%d" % number) for number in range(100, 200)]


def test_a_connection_that_is_lost_before_the_handover_is_told() -> None:
    """`opened`, then `closed`; its place is free."""
    connection = RecordingConnection()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        assert (await receive())["type"] == "websocket.disconnect"
        extension = scope["extensions"]["gateway.detach"]
        extension["detach"](connection, extension["place"])

    with fast_site(settings_of(), app=app) as site:
        client = RawClient(site.address)
        client.upgrade("/")
        client.reset()
        connection.wait_for("closed", 1006, "")
        assert connection.names() == ["opened", "closed"]
        assert site.call(lambda: site.admission.total) == 0


def test_a_client_that_leaves_before_it_is_accepted_is_a_disconnect() -> None:
    """`receive` says so, and `send` raises OSError."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())
        try:
            await send({"type": "websocket.accept"})
        except OSError as error:
            seen.append(error)
            raise

    with fast_site(settings_of(), app=app) as site:
        client = RawClient(site.address)
        client.send(handshake())
        client.reset()
        for _ in range(1000):
            if site.call(lambda: len(seen)) == 2:
                break
    assert seen[0]["type"] == "websocket.disconnect"


def test_a_client_in_a_hurry_is_not_read_without_end() -> None:
    """What it sends before it is accepted waits in the socket."""
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go.wait()
        await send({"type": "websocket.accept"})
        for _ in range(100):
            message = await receive()
            await send({"type": "websocket.send", "bytes": message["bytes"][:4]})

    with fast_site(settings_of(), app=app) as site, RawClient(site.address) as client:
        client.send(handshake())
        client.socket.settimeout(0.3)
        stream = b"".join(masked(0x2, b"%04d" % number + b"x" * 60_000) for number in range(100))
        sent = 0
        with suppress(TimeoutError):
            while sent < len(stream):
                sent += client.socket.send(stream[sent:])
        assert sent < len(stream)
        site.call(go.set)
        client.socket.settimeout(10)
        assert client.status() == 101
        for number in range(100):
            if sent < len(stream):
                sent += client.socket.send(stream[sent : sent + 100_000])
            assert client.frame() == (0x2, b"%04d" % number)
