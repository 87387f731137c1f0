"""Clients that ask for a response that does not end, and do everything else wrong."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import trustme
import uvloop

from gateway.extensions import DETACH
from gateway.transports.http_protocol import MOST_PIPELINED
from tests.transports.conftest import Site, fast_site, settings_of
from tests.transports.http_stream.test_stream_contract import BYE, Reader, opened
from tests.transports.raw import RawClient, handshake

HELLO = b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"
STREAM = b"GET /stream/a HTTP/1.1\r\nHost: test\r\n\r\n"
# More than the buffers of both ends hold together.
UNREAD = 12_000_000


class Victim(NamedTuple):
    """A server, and how its clients connect."""

    site: Site
    trusting: ssl.SSLContext | None

    def connect(self, *, receive_buffer: int = 0) -> Reader:
        """A client that has sent nothing."""
        client = Reader.__new__(Reader)
        RawClient.__init__(client, self.site.address, receive_buffer=receive_buffer)
        client.version, client._body, client._ended = "1.1", b"", False
        if self.trusting is not None:
            client.socket = self.trusting.wrap_socket(client.socket, server_hostname="127.0.0.1")
        return client


# How the server runs, and whether connections are encrypted.
VICTIMS: dict[str, tuple[Any, bool]] = {
    "uvloop": (uvloop.run, False),
    "asyncio": (asyncio.run, False),
    "uvloop tls": (uvloop.run, True),
    "asyncio tls": (asyncio.run, True),
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=list(VICTIMS.values()), ids=list(VICTIMS))
def shared(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[Victim]:
    run, is_encrypted = request.param
    served = trusting = None
    if is_encrypted:
        served, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(served)
        authority.configure_trust(trusting)
    limits = settings_of(connections_per_address=0, keep_alive=0.3, header_timeout=0.3)
    with fast_site(limits, served, run=run) as site:
        yield Victim(site, trusting)


@pytest.fixture
def victim(shared: Victim, caplog: pytest.LogCaptureFixture) -> Iterator[Victim]:
    """Afterwards nobody is there, nobody is counted, and no client has written errors into the log."""
    shared.site.connections.clear()
    yield shared
    shared.site.wait_until_empty()
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


def arrived(site: Site) -> None:
    """Wait until the server has a connection."""
    while site.call(lambda: len(site.sockets)) == 0:
        pass


def end(victim: Victim, client: Reader) -> None:
    """The stream works to its end."""
    connection = victim.site.wait_for_connection()
    victim.site.call(lambda: connection.say(b"last"))
    assert client.line() == b"last"
    victim.site.call(lambda: connection.close(BYE))
    assert client.rest_of_body() == b""
    # With TLS the server waits for the client's end too.
    client.socket.close()
    connection.wait_for("closed", *BYE)
    assert connection.names()[0] == "opened"
    assert connection.names().count("closed") == 1


# What comes behind the request


@pytest.mark.parametrize(
    "behind",
    [b"\x00no request\r\n\r\n", handshake(), HELLO * (MOST_PIPELINED + 1), b"CONNECT a:1 HTTP/1.1\r\n\r\n"],
    ids=["garbage", "upgrade", "too many", "connect"],
)
def test_what_may_not_stand_behind_ends_the_connection(victim: Victim, behind: bytes) -> None:
    """It is closed before the endpoint has had its turn: nothing opens, and nothing was done wrong by it."""
    with victim.connect() as client:
        client.send(STREAM + behind)
        assert client.rest() == b""
    victim.site.wait_until_empty()
    assert [each.names() for each in victim.site.connections] == [[]] * len(victim.site.connections)


@pytest.mark.parametrize("behind", [HELLO * MOST_PIPELINED, STREAM, b"GET /hel"], ids=["many", "stream", "a piece"])
def test_what_stands_behind_has_no_answer(victim: Victim, behind: bytes) -> None:
    """Nor a deadline: another client, whose head is not complete either, has one that ends later."""
    with victim.connect() as client:
        client.send(STREAM + behind)
        opened(victim.site, client)
        with victim.connect() as other:
            other.send(b"GET /hel")
            assert other.status() == 408
        end(victim, client)


def test_the_connection_is_kept_alive_no_more(victim: Victim) -> None:
    """A request before has left no timer: that of another connection ends later."""
    with victim.connect() as client:
        client.send(HELLO)
        assert client.status() == 200
        assert client._take(5) == b"hello"
        client.send(STREAM)
        opened(victim.site, client)
        with victim.connect() as other:
            other.send(HELLO)
            assert other.rest().endswith(b"hello")
        end(victim, client)


# How the request comes


def test_head_gets_no_body(victim: Victim) -> None:
    """And the connection goes on."""
    with victim.connect() as client:
        client.send(STREAM.replace(b"GET", b"HEAD") + HELLO)
        assert client.status() == 405
        assert client.status() == 200
        assert client._take(5) == b"hello"
    assert victim.site.connections == []


def test_an_upgrade_that_nobody_offers_is_ignored(victim: Victim) -> None:
    with victim.connect() as client:
        client.send(STREAM.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n") + HELLO)
        opened(victim.site, client)
        end(victim, client)


def body(size: int, sent: int) -> bytes:
    """A request with a body, and so much of it."""
    return STREAM.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % size) + b"x" * sent


def test_a_large_body_does_not_leave_the_socket_unread(victim: Victim) -> None:
    """It is read at once, after which a client rests; and one that left has to be noticed all the same."""
    with victim.connect() as client:
        with victim.site.blocked():
            client.send(body(90_000, 90_000))
        connection = opened(victim.site, client)
    connection.wait_for("closed", 1006, "")


@pytest.mark.parametrize("leave", [RawClient.reset, lambda client: client.socket.close()], ids=["reset", "fin"])
def test_whoever_leaves_in_the_middle_of_the_request_gets_no_stream(
    victim: Victim, leave: Callable[[RawClient], None]
) -> None:
    """The endpoint waits for the rest of the body."""
    client = victim.connect()
    client.send(body(10, 5))
    arrived(victim.site)
    leave(client)
    victim.site.wait_until_empty()
    assert victim.site.connections == []


def test_a_body_that_does_not_come_is_no_request(victim: Victim) -> None:
    with victim.connect() as client:
        client.send(body(10, 5))
        assert client.status() == 408
        client.rest()
    assert victim.site.connections == []


def test_whoever_sends_nothing_more_is_gone(victim: Victim) -> None:
    """Half a connection is none, whether its end comes later or with the request, which may then be never served."""
    for is_late in (False, True):
        victim.site.connections.clear()
        with victim.connect() as client:
            if is_late:
                client.send(STREAM)
                opened(victim.site, client)
                client.socket.shutdown(socket.SHUT_WR)
            else:
                arrived(victim.site)
                with victim.site.blocked():
                    client.send(STREAM)
                    client.socket.shutdown(socket.SHUT_WR)
            victim.site.wait_until_empty()
        names = [each.names() for each in victim.site.connections]
        assert names == [["opened", "closed"]] if is_late else all(each in ([], ["opened", "closed"]) for each in names)


# What was not read


class Unread:
    """Asks for answers and does not read them until the server's socket takes no more."""

    def __init__(self, victim: Victim, client: RawClient) -> None:
        # TLS passes on one answer of any size before it says that it is congested.
        self.count = 1 if victim.trusting is None else 2
        self._client = client
        client.send((b"GET /bytes/%d HTTP/1.1\r\nHost: test\r\n\r\n" % UNREAD) * self.count)
        while not victim.site.call(lambda: any(each.flow.write_paused for each in victim.site.sockets)):
            pass

    def read(self) -> None:
        """All of them, and nothing behind."""
        for _ in range(self.count):
            assert self._client.status() == 200
            left = UNREAD
            while (there := len(self._client._buffer)) < left:
                left -= there
                self._client._buffer = b""
                assert self._client._more(), "cut off"
            self._client._buffer = self._client._buffer[left:]


def test_unread_answers_count_as_unread(victim: Victim) -> None:
    """A client that does not read what it got before the stream is slow from the first moment on."""
    with victim.connect(receive_buffer=4096) as client:
        answers = Unread(victim, client)
        client.send(STREAM)
        connection = victim.site.wait_for_connection()
        connection.wait_for("pause_writing")
        victim.site.call(lambda: connection.say(b"hello"))
        answers.read()
        opened(victim.site, client)
        assert client.line() == b"hello"
        connection.wait_for("resume_writing")
        end(victim, client)
    assert connection.names() == ["opened", "pause_writing", "resume_writing", "closed"]


def test_unread_answers_count_for_a_websocket_too(victim: Victim) -> None:
    with victim.connect(receive_buffer=4096) as client:
        answers = Unread(victim, client)
        client.send(handshake())
        connection = victim.site.wait_for_connection()
        connection.wait_for("pause_writing")
        answers.read()
        assert client.status() == 101
        connection.wait_for("resume_writing")
    connection.wait_for("closed", 1006, "")
    assert connection.names() == ["opened", "pause_writing", "resume_writing", "closed"]


def test_a_refused_upgrade_waits_for_nobody_who_does_not_read(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection would be there as long as its client likes, with all that it did not read."""
    monkeypatch.setattr("gateway.transports.websocket.upgrade.CLOSE_TIMEOUT", 0.2)
    with victim.connect(receive_buffer=4096) as client:
        Unread(victim, client)
        client.send(handshake("/nothing"))
        victim.site.wait_until_empty()


# At the end of the server


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_request_under_way_when_the_server_ends_is_told(run: Any) -> None:
    """The stream that it becomes ends as all do, and does not wait until it is dropped."""
    with fast_site(settings_of(), run=run) as site, Victim(site, None).connect() as client:
        client.send(body(10, 5))
        arrived(site)
        site.call(lambda: [each.shutdown() for each in list(site.sockets)])
        client.send(b"x" * 5)
        connection = opened(site, client)
        assert client.rest_of_body() == b""
        connection.wait_for("shutdown")
        site.wait_until_empty()


# Applications that do it wrong


async def _wrong(scope: Any, receive: Any, send: Any) -> None:
    """Detaches with a header that would end a line."""
    await receive()
    scope["extensions"][DETACH]["detach"]([(b"x-bad", b"a\r\nb")], None, scope["extensions"][DETACH]["place"])


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_headers_that_cannot_be_written_leave_the_request_to_be_answered(run: Any) -> None:
    with fast_site(settings_of(), app=_wrong, run=run) as site, Victim(site, None).connect() as client:
        client.send(STREAM)
        assert client.status() == 500
        client.rest()
        site.wait_until_empty()
