"""The Transport and Connection ports over an HTTP response that does not end: detached and over plain ASGI."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from gateway.config.settings import ServerSettings
from gateway.errors import CloseCode
from gateway.transports.socket_transport import HIGH_WATER, MOST_UNWANTED
from tests.transports.conftest import Site, asgi_site, fast_site, settings_of
from tests.transports.raw import RawClient
from tests.transports.recording import RecordingConnection

Make = Callable[[ServerSettings], AbstractContextManager[Site]]

BYE = CloseCode(3000, "bye")


@pytest.fixture(scope="module", params=[fast_site, asgi_site], ids=["detached", "asgi"])
def make(request: pytest.FixtureRequest) -> Make:
    chosen: Make = request.param
    return chosen


@pytest.fixture(scope="module", params=[fast_site, asgi_site], ids=["detached", "asgi"])
def shared(request: pytest.FixtureRequest) -> Iterator[Site]:
    make: Make = request.param
    with make(settings_of(connections_per_address=0)) as running:
        yield running


@pytest.fixture
def site(shared: Site) -> Site:
    shared.connections.clear()
    return shared


class Reader(RawClient):
    """A client of one response, over HTTP/1.1 or 1.0."""

    def __init__(self, site: Site, version: str = "1.1", path: str = "/stream/a", **options: Any) -> None:
        super().__init__(site.address, **options)
        self.version = version
        self._body = b""
        self._ended = False
        self.send(f"GET {path} HTTP/{version}\r\nHost: test\r\n\r\n".encode())

    def line(self) -> bytes:
        """The next line of the body without its end; empty at the end of the body."""
        while b"\n" not in self._body and not self._ended:
            self._read()
        line, _, self._body = self._body.partition(b"\n")
        return line

    def rest_of_body(self) -> bytes:
        """The body to its end. Fails where the connection ends before it."""
        while not self._ended:
            self._read()
        body, self._body = self._body, b""
        return body

    def _read(self) -> None:
        if self.version == "1.0":
            piece = self.some()
        else:
            size = int(self._until(b"\r\n"), 16)
            piece = self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        self._body += piece
        self._ended = not piece

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            assert self._more(), "the body was cut off"
        found, _, self._buffer = self._buffer.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            assert self._more(), "the body was cut off"
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def some(self) -> bytes:
        """What comes next, nothing at the end of the connection."""
        if not self._buffer:
            self._more()
        found, self._buffer = self._buffer, b""
        return found


def opened(site: Site, client: RawClient) -> RecordingConnection:
    """The connection of a client whose head has come."""
    head = client.head().lower()
    assert b" 200 " in head.split(b"\r\n")[0]
    return site.wait_for_connection()


# (uvicorn itself sends chunks to clients of HTTP/1.0 too.)
VERSIONS = pytest.mark.parametrize(
    ("shared", "version"),
    [(fast_site, "1.1"), (fast_site, "1.0"), (asgi_site, "1.1")],
    indirect=["shared"],
    ids=["detached 1.1", "detached 1.0", "asgi 1.1"],
)


@VERSIONS
def test_messages_arrive_as_they_are_written(site: Site, version: str) -> None:
    """At once, however many; the head says what they are."""
    with Reader(site, version) as client:
        connection = opened(site, client)
        site.call(lambda: connection.say(b"one"))
        assert client.line() == b"one"
        site.call(lambda: connection.say(b"two", b"three"))
        assert [client.line(), client.line()] == [b"two", b"three"]
    assert connection.names()[0] == "opened"


@VERSIONS
def test_the_head_keeps_everybody_between_from_gathering(site: Site, version: str) -> None:
    with Reader(site, version) as client:
        head = client.head().lower().split(b"\r\n")[1:]
        assert {b"content-type: text/plain", b"cache-control: no-store", b"x-accel-buffering: no"} <= set(head)
        assert not any(line.startswith(b"content-length") for line in head)
        assert (b"transfer-encoding: chunked" in head) is (version == "1.1")


def test_a_client_of_a_library_reads_it(site: Site) -> None:
    """Line by line, to the end of the body."""
    with httpx.Client(trust_env=False, timeout=10) as http, http.stream("GET", f"http://{site.url}/stream/a") as answer:
        connection = site.wait_for_connection()
        site.call(lambda: connection.say(b"one", b"two"))
        lines = answer.iter_lines()
        assert [next(lines), next(lines)] == ["one", "two"]
        site.call(lambda: connection.close(BYE))
        assert list(lines) == []
    connection.wait_for("closed", *BYE)


@VERSIONS
def test_closing_ends_the_body_behind_everything_that_was_written(site: Site, version: str) -> None:
    """The connection hears of it once, with our code."""
    with Reader(site, version) as client:
        connection = opened(site, client)

        def end() -> None:
            connection.say(b"first")
            connection.close(BYE)
            connection.close(CloseCode(3001, "again"))
            connection.say(b"late")

        site.call(end)
        assert client.rest_of_body() == b"first\n"
        assert client.some() == b""
    connection.wait_for("closed", *BYE)
    assert connection.names() == ["opened", "closed"]


@pytest.mark.parametrize("end", [RawClient.reset, lambda client: client.socket.close()], ids=["reset", "fin"])
def test_a_client_that_leaves_is_1006(site: Site, end: Callable[[RawClient], None]) -> None:
    client = Reader(site)
    connection = opened(site, client)
    site.call(lambda: connection.say(b"hello"))
    assert client.line() == b"hello"
    end(client)
    connection.wait_for("closed", 1006, "")
    assert connection.names() == ["opened", "closed"]
    site.call(lambda: connection.say(b"to nobody"))


def test_abort_drops_the_socket(site: Site) -> None:
    """Without the end of the body, so that the client does not take it for whole."""
    with Reader(site) as client:
        connection = opened(site, client)
        assert connection.transport is not None
        site.call(connection.transport.abort)
        with pytest.raises((AssertionError, ConnectionError)):
            client.rest_of_body()
    connection.wait_for("closed", 1006, "")


def test_authenticated_frees_the_place(site: Site) -> None:
    with Reader(site) as client:
        connection = opened(site, client)
        assert (site.admission.clients, site.admission.unauthenticated) == (1, 1)
        assert connection.transport is not None
        site.call(connection.transport.authenticated)
        assert (site.admission.clients, site.admission.unauthenticated) == (1, 0)
    connection.wait_for("closed", 1006, "")
    site.wait_until_empty()


@VERSIONS
def test_a_client_that_reads_slowly_pauses_the_connection(site: Site, version: str) -> None:
    """Until it has read; nothing of what was written is lost."""
    with Reader(site, version, receive_buffer=4096) as client:
        connection = opened(site, client)
        site.call(lambda: connection.flood(20_000))
        connection.wait_for("pause_writing")
        for _ in range(20_000):
            assert client.line() == b"x" * 1000
    connection.wait_for("resume_writing")


def test_a_client_that_does_not_read_is_dropped_after_the_goodbye(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five seconds; here sooner."""
    for module in ("socket_transport", "asgi_transport"):
        monkeypatch.setattr(f"gateway.transports.{module}.CLOSE_TIMEOUT", 0.2)
    with make(settings_of()) as site, Reader(site, receive_buffer=4096) as client:
        connection = opened(site, client)
        site.call(lambda: connection.flood(100_000))
        connection.wait_for("pause_writing")
        site.call(lambda: connection.close(BYE))
        connection.wait_for("closed", *BYE)


def test_what_is_not_read_counts_among_what_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the budget may close the connection for it."""
    monkeypatch.setattr("gateway.transports.socket_transport.BURST", 0.0)
    with Reader(site, receive_buffer=4096) as client:
        connection = opened(site, client)
        transport: Any = connection.transport

        def flood() -> int:
            transport.write(b"x" * (HIGH_WATER * 64))
            return int(transport.held)

        assert site.call(flood) > HIGH_WATER
        site.call(transport.shed)
        connection.wait_for("shed")
        connection.wait_for("closed", 3008, "slow")


def test_whoever_is_not_let_in_gets_a_status(site: Site) -> None:
    """With words, in JSON; and the connection goes on for other requests."""
    with httpx.Client(base_url=f"http://{site.url}", trust_env=False, timeout=10) as http:
        refused = http.get("/stream/a", headers={"Origin": "https://evil.example"})
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == 403
        refused = http.get("/stream/a?refuse=418")
        assert (refused.status_code, refused.json()["error"]["message"]) == (418, "not today")
        refused = http.post("/stream/a", content=b"x")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, OPTIONS")
        site.admission.draining = True
        try:
            refused = http.get("/stream/a")
        finally:
            site.admission.draining = False
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert http.get("/hello").text == "hello"
    assert site.connections == []
    assert site.call(lambda: site.admission.clients) == 0


def test_too_many_of_an_address_are_refused(make: Make) -> None:
    with make(settings_of(connections_per_address=1)) as site, Reader(site) as first:
        connection = opened(site, first)
        with Reader(site) as second:
            assert second.status() == 429
        first.socket.close()
        connection.wait_for("closed", 1006, "")


def test_a_body_of_the_request_is_read_before(site: Site) -> None:
    """It says nothing, but must not be taken for what comes behind the request."""
    with RawClient(site.address) as client:
        client.send(b"GET /stream/a HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe")
        client.send(b"llo")
        connection = opened(site, client)
        site.call(lambda: connection.close(BYE))
        connection.wait_for("closed", *BYE)


def test_what_the_client_sends_later_goes_nowhere(site: Site) -> None:
    """Another request has no answer: the connection ends with this response."""
    with Reader(site) as client:
        connection = opened(site, client)
        client.send(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")
        site.call(lambda: connection.say(b"one"))
        assert client.line() == b"one"
        site.call(lambda: connection.close(BYE))
        assert client.rest_of_body() == b""
    connection.wait_for("closed", *BYE)


def test_another_connection_goes_on_with_the_transport(site: Site) -> None:
    """The one before hears nothing more; the other one is told where the client stands."""
    with Reader(site, receive_buffer=4096) as client:
        before = opened(site, client)
        transport: Any = before.transport
        after = RecordingConnection(before.framing)
        after.transport = transport

        def move() -> None:
            before.say(b"x" * (64 * HIGH_WATER))
            transport.drive(after)

        site.call(move)
        after.wait_for("pause_writing")
        client.socket.close()
        after.wait_for("closed", 1006, "")
        late = RecordingConnection(before.framing)
        site.call(lambda: transport.drive(late))
        late.wait_for("closed", 1006, "")
    assert before.names() == ["opened", "pause_writing"]


def test_a_transport_that_is_released_ends_by_itself(site: Site) -> None:
    """Behind what was written; its connection, which goes on elsewhere, does not hear of it."""
    with Reader(site) as client:
        connection = opened(site, client)

        def release() -> None:
            connection.say(b"last")
            assert connection.transport is not None
            connection.transport.release(connection.framing.close(BYE))

        site.call(release)
        assert client.rest_of_body() == b"last\n"
        assert client.some() == b""
    assert connection.names() == ["opened"]


# Only where the socket is detached


@pytest.fixture(scope="module")
def detached() -> Iterator[Site]:
    with fast_site(settings_of(connections_per_address=0)) as running:
        yield running


@pytest.fixture(autouse=True)
def forget_connections(request: pytest.FixtureRequest) -> None:
    if "detached" in request.fixturenames:
        request.getfixturevalue("detached").connections.clear()


def test_a_server_that_ends_closes_it() -> None:
    """As it closes WebSockets: the drain asks all of them."""
    with fast_site(settings_of()) as site:
        client = Reader(site)
        connection = opened(site, client)
    with client:
        assert client.rest_of_body() == b""
    assert connection.names() == ["opened", "shutdown", "closed"]


def test_a_client_that_floods_is_dropped(detached: Site) -> None:
    with Reader(detached) as client:
        connection = opened(detached, client)
        client.send(b"x" * (MOST_UNWANTED + 1))
        connection.wait_for("closed", 1006, "")


def test_requests_that_came_before_are_answered_before(detached: Site) -> None:
    """Those behind have no answer."""
    with RawClient(detached.address) as client:
        hello, stream = (b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % path for path in (b"/hello", b"/stream/a"))
        client.send(hello, stream, hello)
        assert client.status() == 200
        assert client._take(5) == b"hello"
        connection = opened(detached, client)
        detached.call(lambda: connection.close(BYE))
        assert client.rest() == b"0\r\n\r\n"


def test_a_vanished_client_is_told_by_the_system(detached: Site) -> None:
    """It answers no pings, being one that only reads."""
    with Reader(detached) as client:
        connection = opened(detached, client)
        transport: Any = connection.transport
        sock = transport._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        detached.call(lambda: connection.close(BYE))
        connection.wait_for("closed", *BYE)


def test_json_of_a_refusal(detached: Site) -> None:
    with RawClient(detached.address) as client:
        client.send(b"GET /stream/a?refuse=404 HTTP/1.0\r\n\r\n")
        assert client.status() == 404
        assert json.loads(client.rest()) == {"error": {"code": 404, "message": "not today"}}
