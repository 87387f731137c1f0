"""The Transport and Connection ports, over the fast path and over plain ASGI: the same behaviour of both."""

import json
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as websocket_connect

from gateway.config.settings import ServerSettings
from tests.transports.conftest import Site, asgi_site, fast_site, settings_of
from tests.transports.raw import RawClient, masked

Make = Callable[[ServerSettings], AbstractContextManager[Site]]


@pytest.fixture(scope="module", params=[fast_site, asgi_site], ids=["fast path", "asgi"])
def make(request: pytest.FixtureRequest) -> Make:
    chosen: Make = request.param
    return chosen


@pytest.fixture(scope="module")
def site(make: Make) -> Iterator[Site]:
    with make(settings_of(connections_per_address=0)) as running:
        yield running


def connect(site: Site, path: str = "/record", **options: Any) -> ClientConnection:
    client: ClientConnection = websocket_connect(f"ws://{site.url}{path}", compression=None, open_timeout=10, **options)
    return client


def close_of(client: ClientConnection) -> tuple[int, str]:
    """How the server closes the connection."""
    with pytest.raises(ConnectionClosed) as closed:
        deque(iter(partial(client.recv, 10), None))
    received = closed.value.rcvd
    return (received.code, received.reason) if received is not None else (1006, "")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_messages_arrive_whole_and_answers_go_back(site: Site, size: int) -> None:
    """Text and binary, in every length form, up to the limit."""
    with connect(site) as client:
        client.send("ü" * (size // 2))
        assert client.recv(10) == "ü" * (size // 2)
        client.send(b"\xff" * size)
        assert client.recv(10) == b"\xff" * size
    text, binary = ("received", ("ü" * (size // 2)).encode(), False), ("received", b"\xff" * size, True)
    assert [event for event in site.last.events if event[0] == "received"] == [text, binary]


def test_fragments_make_one_message(site: Site) -> None:
    """However many frames it came in."""
    with connect(site) as client:
        client.send(iter(["a", "b", "", "c"]))
        assert client.recv(10) == "abc"


def test_opened_comes_first_and_closed_last_and_once(site: Site) -> None:
    """With the code and the reason of the peer."""
    with connect(site) as client:
        client.send("hello")
        assert client.recv(10) == "hello"
        client.close(3000, "bye")
    site.last.wait_for("closed", 3000, "bye")
    assert site.last.names() == ["opened", "received", "closed"]


def test_a_close_frame_without_a_code_is_1005(site: Site) -> None:
    """RFC 6455 section 7.1.5; the answer has no code either."""
    with RawClient(site.address) as client:
        client.upgrade()
        client.send(masked(0x8))
        assert client.frame() in ((0x8, b""), (0x8, b"\x03\xe8"))
        assert client.frame() is None
    site.last.wait_for("closed", 1005, "")


@pytest.mark.parametrize("end", [RawClient.reset, lambda client: client.socket.close()], ids=["reset", "fin"])
def test_a_client_that_vanishes_is_1006(site: Site, end: Callable[[RawClient], None]) -> None:
    """Reset or closed without a close frame. (uvicorn's own class says 1005 then.)"""
    client = RawClient(site.address)
    client.upgrade()
    client.send(masked(0x1, b"hello"))
    assert client.frame() == (0x1, b"hello")
    end(client)
    connection = site.last
    with connection._changed:
        assert connection._changed.wait_for(lambda: connection.names()[-1] == "closed", 10)
    assert connection.events[-1][1] in (1005, 1006)
    assert connection.names().count("closed") == 1


def test_close_tells_code_and_reason(site: Site) -> None:
    """Behind everything that was written before."""
    with connect(site) as client:
        client.send("first")
        client.send("close 3500 invalid token")
        assert client.recv(10) == "first"
        assert close_of(client) == (3500, "invalid token")
    site.last.wait_for("closed", 3500, "invalid token")
    assert site.last.names().count("closed") == 1


def test_nothing_is_received_after_close(site: Site) -> None:
    """What the client sent before it saw the close frame goes nowhere."""
    with RawClient(site.address) as client:
        client.upgrade()
        client.send(masked(0x1, b"close 3000 x"), masked(0x1, b"late"), masked(0x9), masked(0x1, b"later"))
        assert client.close_code() == 3000
        client.send(masked(0x1, b"latest"), masked(0x8, b"\x0b\xb8"))
        client.rest()
    site.last.wait_for("closed", 3000, "x")
    assert site.last.names() == ["opened", "received", "closed"]


def test_abort_drops_the_socket(site: Site) -> None:
    """Without a word of our own."""
    with connect(site) as client:
        client.send("abort")
        close_of(client)
    connection = site.last
    with connection._changed:
        assert connection._changed.wait_for(lambda: connection.names()[-1] == "closed", 10)


def test_authenticated_frees_the_place(site: Site) -> None:
    """The connection still counts, but not among the unauthenticated."""
    with connect(site) as client:
        client.send("hello")
        client.recv(10)
        assert site.admission.unauthenticated == 1
        assert site.metrics.connections.read() == 1
        client.send("authenticate")
        client.send("hello")
        client.recv(10)
        assert site.admission.unauthenticated == 0
        assert site.metrics.connections.read() == 1
    site.last.wait_for("closed", 1000, "")
    wait_until_left(site)


def wait_until_left(site: Site) -> None:
    """Until the server has forgotten all connections."""
    with socket.create_connection(site.address, 10):
        pass
    for _ in range(500):
        if site.call(lambda: site.admission.total) == 0:
            return
        site.call(lambda: None)
    assert site.admission.total == 0


def test_paused_reading_holds_messages_back(site: Site) -> None:
    """In order, and all of them come after resume."""
    with connect(site) as client:
        client.send("pause")
        for number in range(100):
            client.send(str(number))
        site.last.wait_for("received", b"pause", False)
        with pytest.raises(TimeoutError):
            client.recv(0.1)
        # One may have been on its way already where the server cannot be stopped (ASGI).
        assert len(site.last.events) <= 3
        transport = site.last.transport
        assert transport is not None
        site.call(transport.pause_reading)
        site.call(transport.resume_reading)
        site.call(transport.resume_reading)
        assert [client.recv(10) for _ in range(100)] == [str(number) for number in range(100)]


def test_a_slow_reader_is_told_and_others_are_not_held_up(site: Site) -> None:
    """pause_writing when the socket takes no more, resume_writing when it does again."""
    with RawClient(site.address, receive_buffer=4096) as slow:
        slow.upgrade()
        slow.send(masked(0x1, b"flood 10000"))
        flooded = site.last
        flooded.wait_for("pause_writing")
        with connect(site) as other:
            for number in range(20):
                other.send(str(number))
                assert other.recv(10) == str(number)
        assert [slow.frame() for _ in range(10_000)] == [(0x1, b"x" * 1000)] * 10_000
        names = flooded.names()
        assert names[2:4] == ["pause_writing", "resume_writing"]
        assert not flooded.paused


def test_a_ping_of_the_server_is_answered(site: Site) -> None:
    """Over ASGI, where the server pings by itself, each ping counts as answered."""
    with connect(site) as client:
        client.send("ping")
        site.last.wait_for("received", b"ping", False)
        client.send("hello")
        assert client.recv(10) == "hello"
        site.last.wait_for("ponged")


def test_an_unsolicited_pong_is_fine(site: Site) -> None:
    """RFC 6455 section 5.5.3."""
    with connect(site) as client:
        client.pong(b"here I am")
        client.send("hello")
        assert client.recv(10) == "hello"


def test_a_ping_of_the_client_is_answered_with_its_data(site: Site) -> None:
    """RFC 6455 section 5.5.3."""
    with connect(site) as client:
        assert client.ping(b"data").wait(10)


def test_a_message_that_is_too_big_closes_with_1009(site: Site) -> None:
    """Only this connection; and a counter moves."""
    before = site.metrics.protocol_errors.values.get("message too big", 0)
    with connect(site) as client:
        client.send("x" * (site.settings.limits.frame_size + 1))
        assert close_of(client)[0] == 1009
    with connect(site) as client:
        client.send("fine")
        assert client.recv(10) == "fine"
    assert site.metrics.protocol_errors.values["message too big"] == before + 1


def test_the_handshake_shows_the_request(site: Site) -> None:
    """Path, parameters, query, cookies, headers, subprotocols, address."""
    headers = {"Cookie": "a=1; broken; token=abc", "X-Test": "x", "X-Forwarded-For": "203.0.113.7"}
    path = "/record/room%2317?token=t%20t&empty=&a=1&a=2"
    with connect(site, path, additional_headers=headers, subprotocols=["one", "two"]) as client:
        assert client.subprotocol == "one"
    seen = site.handshakes[-1]
    assert seen["path"] == "/record/room#17"
    assert seen["path_params"] == {"channel": "room#17"}
    assert seen["query"] == {"token": "t t", "empty": "", "a": "2"}
    assert seen["token cookie"] == "abc"
    assert seen["x-test"] == "x"
    assert seen["subprotocols"] == ["one", "two"]
    assert seen["address"] == "127.0.0.1"


def refusal(site: Site, path: str = "/record", **options: Any) -> tuple[int, dict[str, Any], str | None]:
    """Status, body and Retry-After of a handshake that fails."""
    with pytest.raises(InvalidStatus) as refused, connect(site, path, **options):
        pass
    response = refused.value.response
    assert response.body is not None
    return response.status_code, json.loads(response.body), response.headers.get("Retry-After")


def test_a_foreign_origin_is_refused_before_the_upgrade(site: Site) -> None:
    """403 with the reason; an allowed one passes."""
    status, body, _ = refusal(site, origin="https://evil.example")
    assert status == 403
    assert "origins.allowed" in body["error"]["message"]
    with connect(site, origin="https://example.com") as client:
        client.send("hello")
        assert client.recv(10) == "hello"


def test_two_origins_are_none(site: Site) -> None:
    """No browser sends two. Some servers refuse the request before we see it."""
    with RawClient(site.address) as client:
        head = client.upgrade(headers=["Origin: https://example.com", "Origin: https://example.com"])
        assert head.split()[1] in (b"400", b"403")


def test_the_application_may_refuse(site: Site) -> None:
    """With its status and message."""
    assert refusal(site, "/record?refuse=401") == (401, {"error": {"code": 401, "message": "not today"}}, None)


def test_limits_are_answered_before_the_upgrade(make: Make) -> None:
    """Of one address with 429, of the node with 503; when somebody leaves there is room again."""
    with make(settings_of(connections=3, connections_per_address=2)) as site:
        with connect(site) as first, connect(site):
            status, body, retry = refusal(site)
            assert (status, retry) == (429, "5")
            assert "address" in body["error"]["message"]
            first.send("close 3000 x")
            close_of(first)
            site.connections[0].wait_for("closed", 3000, "x")
            with connect(site) as again:
                again.send("hello")
                assert again.recv(10) == "hello"
        assert site.metrics.refused.values == {"address": 1}


def test_too_many_unauthenticated_are_refused(make: Make) -> None:
    """With 503; an authenticated one makes room."""
    with make(settings_of(unauthenticated=2)) as site, connect(site) as first, connect(site):
        status, body, retry = refusal(site)
        assert (status, retry) == (503, "5")
        assert "unauthenticated" in body["error"]["message"]
        first.send("authenticate")
        first.send("hello")
        first.recv(10)
        with connect(site) as third:
            third.send("hello")
            assert third.recv(10) == "hello"


def test_a_peer_that_does_not_answer_our_close_frame_is_dropped(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five seconds; here sooner."""
    monkeypatch.setattr("gateway.transports.socket_transport.CLOSE_TIMEOUT", 0.2)
    monkeypatch.setattr("gateway.transports.asgi_transport.CLOSE_TIMEOUT", 0.2)
    with make(settings_of()) as site, RawClient(site.address) as client:
        client.upgrade()
        client.send(masked(0x1, b"close 3000 x"))
        assert client.close_code() == 3000
        site.last.wait_for("closed", 3000, "x")


def test_a_peer_that_does_not_read_is_dropped_after_our_close_frame(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its buffer never empties, so that the close frame is never written; the socket goes all the same."""
    monkeypatch.setattr("gateway.transports.socket_transport.CLOSE_TIMEOUT", 0.2)
    monkeypatch.setattr("gateway.transports.asgi_transport.CLOSE_TIMEOUT", 0.2)
    with make(settings_of()) as site, RawClient(site.address, receive_buffer=4096) as slow:
        slow.upgrade()
        slow.send(masked(0x1, b"flood 100000"))
        site.last.wait_for("pause_writing")
        slow.send(masked(0x1, b"close 3008 slow"))
        site.last.wait_for("closed", 3008, "slow")
