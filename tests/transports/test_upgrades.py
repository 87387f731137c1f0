"""Requests that ask for an upgrade, ours or another, and requests of any bytes at all."""

import socket
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transports.conftest import Site
from tests.transports.raw import RawClient, handshake, masked

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n"
GET = b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"


def post_asking_for_h2c(body_headers: str) -> bytes:
    return f"POST /size HTTP/1.1\r\nHost: test\r\n{H2C}{body_headers}\r\n\r\n".encode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection: Upgrade": "Connection: keep-alive, Upgrade"},
        {"Connection: Upgrade": "Connection: keep-alive\r\nConnection: Upgrade"},
        {"Connection: Upgrade": "Connection: upgrade\r\nConnection: keep-alive"},
        {"Upgrade: websocket": "Upgrade: WebSocket"},
        {"Upgrade: websocket": "Upgrade: h2c, websocket"},
        {"Upgrade: websocket": "Upgrade: h2c\r\nUpgrade: websocket"},
    ],
)
def test_the_upgrade_may_be_one_of_several(site: Site, headers: dict[str, str]) -> None:
    """Firefox and proxies send lists (RFC 9110 sections 7.6.1 and 7.8)."""
    request = handshake().decode()
    for old, new in headers.items():
        request = request.replace(old, new)
    with RawClient(site.address) as client:
        client.send(request.encode())
        assert client.status() == 101


def test_websocket_without_an_upgrade_is_an_ordinary_request(site: Site) -> None:
    """RFC 6455 section 4.2.1 wants both headers."""
    with RawClient(site.address) as client:
        client.send(handshake("/hello").replace(b"Connection: Upgrade", b"Connection: close"))
        assert client.status() == 200


@pytest.mark.parametrize(
    ("headers", "pieces", "size"),
    [
        ("Content-Length: 10", [b"0123456789"], b"10"),
        ("Transfer-Encoding: chunked", [b"5\r\n012", b"34\r\n0\r\n\r\n"], b"5"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_the_body_of_a_request_for_another_upgrade_arrives(
    site: Site, headers: str, pieces: list[bytes], size: bytes, together: bool
) -> None:
    """Java's HttpClient and `curl --http2` post like this when there is no TLS; the next request is answered too."""
    head = post_asking_for_h2c(headers)
    with RawClient(site.address) as client:
        for piece in [head + pieces[0], *pieces[1:]] if together else [head, *pieces]:
            client.send(piece)
        client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        _, first, second = client.rest().split(b"HTTP/1.1 200 OK\r\n")
        assert first.endswith(b"\r\n\r\n" + size)
        assert second.endswith(b"\r\n\r\nhello")


def test_the_body_of_a_request_for_another_upgrade_is_not_a_request(site: Site) -> None:
    """Request smuggling: a proxy in front takes it for a body, and so must the server behind."""
    with RawClient(site.address) as client:
        client.send(post_asking_for_h2c(f"Content-Length: {len(GET) + 1}"))
        client.send(GET)
        client.send(b"x", GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answers = client.rest()
        assert answers.count(b"HTTP/1.1 ") == 2
        assert answers.count(b"hello") == 1


def test_requests_for_another_upgrade_can_be_pipelined(site: Site) -> None:
    """Up to the bound of pipelined requests."""
    request = f"GET /hello HTTP/1.1\r\nHost: test\r\n{H2C}\r\n".encode()
    last = request.replace(b"Connection: ", b"Connection: close, ")
    with RawClient(site.address) as client:
        client.send(request, request, last)
        assert client.rest().count(b"hello") == 3
    with RawClient(site.address) as client:
        client.send(request * 1000)
        assert client.rest().count(b"hello") < 50


def test_connect_is_for_proxies(site: Site) -> None:
    """It is an upgrade by itself, of which the server knows nothing."""
    for target in (b"example.com:443", b"*"):
        with RawClient(site.address) as client:
            client.send(b"CONNECT " + target + b" HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.status() == 501


@pytest.mark.parametrize("target", ["http://x", "http:///", "http://x:99999/?token=SECRET", "http://[::1", "x:1"])
def test_an_upgrade_of_a_target_without_a_path_is_400(
    site: Site, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And no error of the server; nothing of the target is logged."""
    with RawClient(site.address) as client:
        client.send(handshake(target))
        assert client.status() == 400
    assert caplog.records == []


seeds = st.sampled_from(
    [
        handshake(),
        handshake("/echo", ["Cookie: a=1; b", "Origin: null", "Sec-WebSocket-Protocol: a, b"]) + masked(0x1, b"return"),
        GET * 2,
        b"POST /size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello" + GET,
        post_asking_for_h2c("Content-Length: 5") + b"hello" + GET,
    ]
)
inserts = st.sampled_from([b"", b"\r\n", b":", b" ", b"\0", b"\xff"]) | st.binary(max_size=4)
edits = st.tuples(st.integers(0, 400), st.integers(0, 3), inserts)


def test_damaged_requests_are_no_error_of_the_server(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is inserted or removed, and wherever the request is cut: nothing reaches the log as an error."""

    @settings(derandomize=True, max_examples=150, deadline=None)
    @given(request=seeds, changes=st.lists(edits, max_size=4), pause=st.integers(0, 400))
    def send(request: bytes, changes: list[tuple[int, int, bytes]], pause: int) -> None:
        for place, length, inserted in changes:
            place %= len(request) + 1
            request = request[:place] + inserted + request[place + length :]
        with RawClient(site.address) as client, suppress(OSError):
            client.send(request[:pause])
            client.send(request[pause:])
            client.socket.shutdown(socket.SHUT_WR)
            client.rest()

    send()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    with RawClient(site.address) as client:
        client.send(GET)
        assert client.status() == 200
