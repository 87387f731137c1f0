"""What comes before a request is complete, is bounded; every answer is a real HTTP response."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from gateway.transports import flow
from tests.transports.conftest import Site, fast_site, settings_of
from tests.transports.raw import RawClient, handshake, masked

HEADER_BYTES = 4096


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with fast_site(settings_of(header_bytes=HEADER_BYTES, header_count=20)) as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[Site]:
    """A server that waits half a second for a head, and as long for each half a kilobyte of a body."""
    with fast_site(settings_of(header_timeout=0.5)) as running:
        yield running


def get(path: str = "/hello", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers]).encode("latin-1") + b"\r\n\r\n"


def post(body: bytes = b"", *headers: str) -> bytes:
    head = "\r\n".join(["POST /size HTTP/1.1", "Host: test", *headers]).encode("latin-1")
    return head + b"\r\n\r\n" + body


def answer(site: Site, *pieces: bytes) -> tuple[int, bytes]:
    """Status and body of the only response to what is sent; the connection ends behind it."""
    with RawClient(site.address) as client:
        client.send(*pieces)
        status = client.status()
        return status, client.rest()


def errors(site: Site, reason: str) -> int:
    return site.metrics.protocol_errors.values.get(reason, 0)


def test_requests_are_answered(site: Site) -> None:
    """One after another on one connection, and pipelined."""
    with RawClient(site.address) as client:
        client.send(get(), get())
        assert client.status() == 200
        client._buffer = client._buffer.removeprefix(b"hello")
        assert client.status() == 200
        client._buffer = client._buffer.removeprefix(b"hello")
        client.send(post(b"x" * 1000, "Content-Length: 1000"))
        assert client.status() == 200


def test_answers_do_not_tell_the_server_software(site: Site) -> None:
    """And have a date once the server has one."""
    with RawClient(site.address) as client:
        client.send(get("/hello", "Connection: close"))
        assert b"\r\nserver:" not in client.head().lower()


@pytest.mark.parametrize("piece", [1, 100, 100_000])
def test_a_request_line_that_is_too_long_is_414(site: Site, piece: int) -> None:
    """Whether it ends or not, however it is cut."""
    request = get("/" + "a" * 2 * HEADER_BYTES)
    status, body = answer(site, *[request[start : start + piece] for start in range(0, len(request), piece)])
    assert status == 414
    assert json.loads(body) == {"error": {"code": 414, "message": "request line too long"}}


@pytest.mark.parametrize("head", [get, handshake])
def test_a_request_target_of_escapes_is_414(site: Site, head: Callable[[str], bytes]) -> None:
    """Those of any name are decoded; thousands take their time."""
    status, body = answer(site, head("/" + "%41" * 1_025))
    assert (status, json.loads(body)["error"]["message"]) == (414, "too many escapes in the request target")
    assert answer(site, head("/" + "%41" * 1_000).replace(b"Host", b"Connection: close\r\nHost", 1))[0] in (403, 404)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (["X-Big: " + "a" * HEADER_BYTES], "headers too big"),
        ([f"X-{number}: {'a' * 500}" for number in range(15)], "headers too big"),
        ([f"X-{number}: a" for number in range(30)], "too many headers"),
        (["X-Y: a"] * 10_000, "too many headers"),
    ],
)
def test_headers_that_are_too_many_or_too_big_are_431(site: Site, headers: list[str], reason: str) -> None:
    """Sent at once."""
    status, body = answer(site, get("/hello", *headers))
    assert (status, json.loads(body)["error"]["message"]) == (431, reason)


@pytest.mark.parametrize("endless", [b"a", b"X-Y: a\r\n", b"\r\n"], ids=["value", "headers", "lines"])
def test_endless_headers_are_cut_off(site: Site, endless: bytes) -> None:
    """A client that never stops is refused, and does not fill the memory."""
    with RawClient(site.address) as client:
        start = b"" if endless == b"\r\n" else b"GET /hello HTTP/1.1\r\nHost: test\r\nX: "
        client.send(start)
        try:
            for _ in range(10_000):
                client.send(endless * 1000)
        except (ConnectionError, TimeoutError):
            pass
        else:
            pytest.fail("the server took everything")


def test_the_same_holds_for_an_upgrade(site: Site) -> None:
    """The head of a WebSocket handshake has the same limits."""
    assert answer(site, handshake(headers=["X: " + "a" * HEADER_BYTES]))[0] == 431
    assert answer(site, handshake(headers=["X: a"] * 30))[0] == 431
    assert answer(site, handshake("/" + "a" * 2 * HEADER_BYTES))[0] == 414


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-client\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: test\r\nBad Header: a\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: test\r\nX: a\rb\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_what_is_not_http_is_400(site: Site, request_bytes: bytes) -> None:
    """And counted."""
    before = errors(site, "malformed")
    assert answer(site, request_bytes)[0] == 400
    assert errors(site, "malformed") == before + 1


UPGRADE = handshake().decode().split("\r\n", 2)[2]


@pytest.mark.parametrize(
    "hosts",
    ["", "Host: test\r\nHost: other\r\n", "Host: test\r\nHost: test\r\n"],
    ids=["none", "two", "the same twice"],
)
@pytest.mark.parametrize("rest", ["", UPGRADE], ids=["request", "handshake"])
def test_http_1_1_has_one_host(site: Site, hosts: str, rest: str) -> None:
    """RFC 9112 section 3.2: a proxy in front of us may have read another one."""
    before = errors(site, "exactly one Host header is needed")
    assert answer(site, f"GET /record HTTP/1.1\r\n{hosts}{rest}\r\n".encode())[0] == 400
    assert errors(site, "exactly one Host header is needed") == before + 1


def test_http_1_0_needs_no_host(site: Site) -> None:
    """It may have one, not two."""
    assert answer(site, b"GET /hello HTTP/1.0\r\n\r\n")[0] == 200
    assert answer(site, b"GET /hello HTTP/1.0\r\nHost: test\r\n\r\n")[0] == 200
    assert answer(site, b"GET /hello HTTP/1.0\r\nHost: test\r\nHost: test\r\n\r\n")[0] == 400


def test_a_body_that_is_announced_too_big_is_413(site: Site) -> None:
    """Before any of it arrives; the application is not started."""
    status, body = answer(site, post(b"", "Content-Length: 100001"))
    assert (status, json.loads(body)["error"]["message"]) == (413, "body too big")


def test_a_chunked_body_that_grows_too_big_is_413(site: Site) -> None:
    """Counted while it comes."""
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    assert answer(site, post(b"", "Transfer-Encoding: chunked"), chunk * 11)[0] == 413
    fine = post(b"", "Transfer-Encoding: chunked", "Connection: close"), chunk * 10, b"0\r\n\r\n"
    assert answer(site, *fine) == (200, b"100000")


@pytest.mark.parametrize(
    "endless",
    [b"0\r\nX-Trailer: " + b"a" * 100_000, b"1;extension=" + b"a" * 100_000],
    ids=["trailer", "extension"],
)
def test_a_chunked_body_cannot_smuggle_bytes_past_its_bound(site: Site, endless: bytes) -> None:
    """Trailers and chunk extensions are not body, and are bounded all the same."""
    with RawClient(site.address) as client:
        client.send(post(b"", "Transfer-Encoding: chunked", "Expect: 100-continue"))
        assert client.status() == 100
        client.send(b"1\r\nx\r\n", endless)
        assert client.status() == 400


def test_some_tiny_chunks_are_fine(site: Site) -> None:
    """Five bytes of framing for each byte of a body are legal, and so are long bodies in chunks of a few hundred."""
    for chunks, size in ((b"1\r\nx\r\n" * 500, b"500"), ((b"c8\r\n" + b"x" * 200 + b"\r\n") * 500, b"100000")):
        head = post(b"", "Transfer-Encoding: chunked", "Connection: close")
        assert answer(site, head, chunks, b"0\r\n\r\n") == (200, size)


def test_a_body_of_tiny_chunks_is_400(site: Site) -> None:
    """Each of them costs as much as a large one: no more are looked at, also when the answer is known already."""
    before = errors(site, "chunks too small")
    for path in ("/size", "/nothing"):
        with RawClient(site.address) as client:
            client.send(post(b"", "Transfer-Encoding: chunked").replace(b"/size", path.encode()))
            with suppress(ConnectionError):
                client.send(b"1\r\nx\r\n" * 3000)
            assert b" 400 " in client.rest()
    assert errors(site, "chunks too small") == before + 2


def test_clients_that_nobody_knows_rest_between_large_reads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As WebSockets do. The API with a key is read at full speed."""
    sizes: list[int] = []

    def rest_after(size: int) -> float:
        sizes.append(size)
        return 0.001

    monkeypatch.setattr(flow, "rest_after", rest_after)
    for path, rests in (("/hello", True), ("/known", False)):
        with RawClient(site.address) as client:
            client.send(get(path))
            assert client.status() == 200
            client._buffer = b""
            sizes.clear()
            client.send(post(b"x" * 90_000, "Content-Length: 90000", "Connection: close"))
            assert client.status() == 200
            assert client.rest() == b"90000"
            assert bool(sizes) is rests


def test_pipelined_requests_are_bounded(site: Site) -> None:
    """Thousands of requests in one packet do not start thousands of applications."""
    with RawClient(site.address) as client:
        client.send(get() * 1000)
        assert client.rest().count(b"hello") < 50
    assert errors(site, "too many pipelined requests") == 1


@pytest.mark.parametrize("start", [b"", b"G", get()[:-2], handshake()[:-2]], ids=["silent", "line", "head", "upgrade"])
def test_a_head_that_does_not_come_is_408(hasty: Site, start: bytes) -> None:
    """A silent connection, or one that stops in the middle, does not stay."""
    before = errors(hasty, "head too slow")
    assert answer(hasty, start)[0] == 408
    assert errors(hasty, "head too slow") == before + 1


def test_a_byte_at_a_time_does_not_extend_the_deadline(hasty: Site) -> None:
    """Slowloris: the deadline is for the whole head."""
    with RawClient(hasty.address) as client:
        client.send(b"GET /hello HTTP/1.1\r\n")
        client.socket.settimeout(0.02)
        for _ in range(200):
            try:
                client.send(b"X-Y: a\r\n")
                if client._more():
                    break
            except TimeoutError:
                continue
        client.socket.settimeout(10)
        assert client.status() == 408


def test_the_deadline_counts_again_for_the_next_request(hasty: Site) -> None:
    """On a connection that is kept alive."""
    with RawClient(hasty.address) as client:
        client.send(get())
        assert client.status() == 200
        client._buffer = b""
        client.send(b"GET /hello")
        client.socket.settimeout(10)
        assert b" 408 " in client.rest()


@pytest.mark.parametrize("header", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
def test_a_body_that_trickles_is_408(hasty: Site, header: str, caplog: pytest.LogCaptureFixture) -> None:
    """The application waits for it in vain, and hears of the disconnect; that is no error of the server."""
    with RawClient(hasty.address) as client:
        client.send(post(b"5\r\nhello\r\n", header))
        assert client.status() == 408
    assert errors(hasty, "body too slow") > 0
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_body_at_a_decent_pace_may_take_its_time(hasty: Site) -> None:
    """The deadline moves while enough arrives."""
    with RawClient(hasty.address) as client:
        client.send(post(b"", "Content-Length: 40000", "Connection: close"))
        client.socket.settimeout(0.05)
        for _ in range(19):
            client.send(b"x" * 2000)
            with pytest.raises(TimeoutError):
                client.socket.recv(1)
        client.socket.settimeout(10)
        client.send(b"x" * 2000)
        assert client.status() == 200
        assert client.rest() == b"40000"


def test_other_upgrades_are_ignored(site: Site) -> None:
    """RFC 9110 section 7.8: the request is answered as if nothing was asked."""
    with RawClient(site.address) as client:
        client.send(get("/hello", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAAA"))
        assert client.status() == 200


def test_an_upgrade_behind_an_unanswered_request_is_not_served(site: Site) -> None:
    """The answers could not be told apart."""
    with RawClient(site.address) as client:
        client.send(post(b"xx", "Content-Length: 2"), handshake())
        assert b"101 Switching" not in client.rest()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Sec-WebSocket-Version: 13": "Sec-WebSocket-Version: 8"}, 426),
        ({"Sec-WebSocket-Version: 13\r\n": ""}, 426),
        ({"Sec-WebSocket-Version: 13": "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13"}, 426),
        ({"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n": ""}, 400),
        ({"dGhlIHNhbXBsZSBub25jZQ==": "dGhlIHNhbXBsZQ=="}, 400),
        ({"dGhlIHNhbXBsZSBub25jZQ==": "not base64!"}, 400),
        ({"dGhlIHNhbXBsZSBub25jZQ==": "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, 400),
        ({"GET": "POST"}, 400),
        ({"Host: test\r\n": ""}, 400),
        ({"HTTP/1.1": "HTTP/1.0"}, 400),
        ({"Host: test": "Host: test\r\nContent-Length: 3"}, 400),
    ],
)
def test_a_handshake_that_is_none_is_refused(site: Site, changes: dict[str, str], status: int) -> None:
    """RFC 6455 section 4.2."""
    request = handshake().decode()
    for old, new in changes.items():
        assert old in request
        request = request.replace(old, new)
    with RawClient(site.address) as client:
        client.send(request.encode(), b"abc" * ("Content-Length" in request))
        head = client.head()
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert (b"\r\nsec-websocket-version: 13" in head) is (status == 426)


def test_the_answer_proves_that_the_handshake_was_read(site: Site) -> None:
    """The example of RFC 6455 section 1.3."""
    with RawClient(site.address) as client:
        head = client.upgrade()
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        assert b"extensions" not in head.lower()


def test_a_handshake_may_come_in_pieces(site: Site) -> None:
    """Any two, cut anywhere."""
    request = handshake()
    for place in range(1, len(request), 7):
        with RawClient(site.address) as client:
            client.send(request[:place])
            client.send(request[place:])
            assert client.status() == 101


def test_frames_that_come_with_the_handshake_are_not_lost(site: Site) -> None:
    """RFC 6455 allows no such haste, and some clients are."""
    with RawClient(site.address) as client:
        client.send(handshake(), masked(0x1, b"early"), masked(0x1, b"bird")[:5])
        assert client.status() == 101
        client.send(masked(0x1, b"bird")[5:])
        assert client.frame() == (0x1, b"early")
        assert client.frame() == (0x1, b"bird")


def test_a_reset_in_the_middle_of_a_handshake_disturbs_nobody(site: Site) -> None:
    """Before, within and right behind the request."""
    for place in (0, 10, len(handshake())):
        for _ in range(20):
            client = RawClient(site.address)
            client.send(handshake()[:place])
            client.reset()
    with RawClient(site.address) as client:
        client.send(get())
        assert client.status() == 200


def test_at_the_limit_requests_are_answered_and_upgrades_are_not() -> None:
    """Health checks work while nobody gets in; far above the limit nothing is listened to."""
    with fast_site(settings_of(connections=5)) as site:
        clients = [RawClient(site.address) for _ in range(5)]
        for client in clients:
            assert b" 101 " in client.upgrade()
        assert answer(site, handshake())[0] == 503
        assert answer(site, get("/hello", "Connection: close")) == (200, b"hello")
        crowd = [socket.create_connection(site.address) for _ in range(128)]
        assert answer(site, b"")[0] == 503
        for each in crowd:
            each.close()
        clients[0].socket.close()
        site.connections[0].wait_for("closed", 1006, "")
        for _ in range(100):
            if site.call(lambda: site.admission.total) == 4:
                break
        with RawClient(site.address) as client:
            assert b" 101 " in client.upgrade()
        for client in clients:
            client.socket.close()


@pytest.mark.slow
def test_thousands_of_half_open_connections_do_no_harm() -> None:
    """3,000 connections that never finish their head: others are served, and all of them are dropped in time."""

    async def run(site: Site) -> None:
        half = []
        for _ in range(3000):
            half.append(await asyncio.open_connection(*site.address))
            # At once: on a slow machine the first ones are dropped before the last ones are open.
            half[-1][1].write(b"GET /record HTTP/1.1\r\nHost: test\r\nX-")
        for _ in range(20):
            with RawClient(site.address) as client:
                assert b" 101 " in await asyncio.to_thread(client.upgrade)
        answers = await asyncio.gather(*[reader.read() for reader, _ in half])
        assert all(each.startswith(b"HTTP/1.1 408 ") for each in answers)
        for _, writer in half:
            writer.close()

    with fast_site(settings_of(header_timeout=3.0, unauthenticated_per_address=0)) as site:
        asyncio.run(run(site))


def test_no_line_of_the_log_shows_a_query_string(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens stand there. (Access lines are gateway.log's to cut.)"""
    with caplog.at_level("DEBUG"):
        for path in ("/record?token=SECRET", "/record?refuse=401&token=SECRET", "/nowhere?token=SECRET"):
            answer(site, handshake(path)[:-2], b"Connection: close\r\n\r\n", masked(0x8))
        assert answer(site, get("/nowhere?token=SECRET", "Connection: close"))[0] == 404
    for record in caplog.records:
        assert "SECRET" not in record.getMessage() or record.name == "uvicorn.access"
