"""The native protocol over HTTP on a whole node, detached and under a standard uvicorn."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.hooks import Hooks, PublishRequest
from gateway.tokens import connection_token
from tests.api.site import SECRET, Site, running, settings_of
from tests.entrances.http_client import Stream, opened
from tests.transports.raw import RawClient

PAGE = "https://page.example"
SETTINGS: dict[str, Any] = {
    "namespaces": {"room": {"allow_subscribe": ["client"], "allow_publish": ["client"]}},
    "origins": {"allowed": [PAGE]},
    "heartbeat": {"ping_interval": 1.5, "pong_timeout": 1.2},
}
# Bytes of a message at most.
SIZE = settings_of(**SETTINGS).limits.frame_size
KINDS = ["sse", "http_stream"]
TOKEN = connection_token(SECRET, "anna")
CONNECT = {"id": 1, "connect": {"token": TOKEN}}


def send(http: httpx.Client, session: str, *commands: object) -> httpx.Response:
    data = "\n".join(map(json.dumps, commands))
    return http.post("/emulation", json={"session": session, "node": "", "data": data})


PROTOBUF = {"Content-Type": "application/octet-stream"}


def sized(message: bytes) -> bytes:
    """Behind its length."""
    return varint(len(message)) + message


def field(number: int, value: bytes) -> bytes:
    """A field that holds a message, a string or bytes."""
    return varint(number << 3 | 2) + sized(value)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def connect(stream: Stream) -> str:
    """The session of a stream that was just opened."""
    session: str = stream.next()["connect"]["session"]
    return session


@pytest.mark.parametrize("kind", KINDS)
def test_commands_come_in_requests_and_replies_in_the_response(http: httpx.Client, kind: str) -> None:
    """Several in one request, and the client gets what it publishes."""
    with opened(http, kind, CONNECT) as stream:
        session = connect(stream)
        subscribe, publish = {"subscribe": {"channel": "room:a"}}, {"publish": {"channel": "room:a", "data": "hi"}}
        answer = send(http, session, {"id": 2, **subscribe}, {"id": 3, **publish})
        assert (answer.status_code, answer.content) == (204, b"")
        assert stream.next() == {"id": 2, "subscribe": {}}
        replies = [stream.next(), stream.next()]
        assert {"id": 3, "publish": {}} in replies
        (push,) = [reply for reply in replies if "push" in reply]
        assert (push["push"]["channel"], push["push"]["pub"]["data"]) == ("room:a", "hi")


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_request_may_hold_more_commands(http: httpx.Client, kind: str) -> None:
    """SDKs send the subscribes of a reconnect with the connect."""
    commands = [CONNECT, {"id": 2, "subscribe": {"channel": "room:b"}}]
    with opened(http, kind, "\n".join(map(json.dumps, commands))) as stream:
        connect(stream)
        assert stream.next() == {"id": 2, "subscribe": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_answers_pings_stays(http: httpx.Client, kind: str) -> None:
    """The answer is a request; who sends none is gone, and told so."""
    with opened(http, kind, CONNECT) as stream:
        session = connect(stream)
        for id in (2, 3):
            assert next(line for line in stream.lines if line.endswith("{}"))
            assert send(http, session, {}).status_code == 204
            send(http, session, {"id": id, "subscribe": {"channel": f"room:{id}"}})
            assert stream.next() == {"id": id, "subscribe": {}}
        assert stream.next()["push"]["disconnect"]["code"] == 3012
        assert stream.ends()
        assert send(http, session, {}).status_code == 404


def test_a_session_ends_with_its_response(http: httpx.Client) -> None:
    """Its secret is good for nothing then."""
    with opened(http, "http_stream", CONNECT) as stream:
        session = connect(stream)
    while send(http, session).status_code != 404:
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_command_closes_the_connection(http: httpx.Client, kind: str) -> None:
    """As on a WebSocket; the code comes as a push."""
    with opened(http, kind, CONNECT) as stream:
        assert send(http, connect(stream), "no command").status_code == 204
        assert stream.next()["push"]["disconnect"]["code"] == 3501
        assert stream.ends()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["", "no json"])
def test_a_connection_without_a_connect(http: httpx.Client, kind: str, first: str) -> None:
    """Nothing at all is refused; nonsense ends as on a WebSocket."""
    with opened(http, kind, first) as stream:
        if first:
            assert stream.next()["push"]["disconnect"]["code"] == 3501
        else:
            assert stream.answer.status_code == 400
            assert "cf_connect" in stream.answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff", {}, 400),
        (b"x" * (SIZE + 1), {}, 413),
        (b"\x00", {"Content-Type": "application/octet-stream"}, 415),
        (b"", {"Content-Type": "application/octet-stream"}, 400),
    ],
)
def test_a_body_that_no_session_gets(http: httpx.Client, body: bytes, headers: dict[str, str], status: int) -> None:
    """An error that a page can read. (An event stream cannot carry Protobuf.)"""
    for kind in {415: ["sse"], 400: ["http_stream"], 413: KINDS}[status]:
        answer = http.post(f"/connection/{kind}", content=body, headers={"Origin": PAGE, **headers})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
        assert answer.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"session":1,"data":""}', 400),
        (b'{"session":"s","data":{}}', 400),
        (b'{"session":"s"}', 400),
        (rb'{"session":"s","data":"\ud800"}', 400),
        (b'{"session":"\xff","data":""}', 400),
        (b"[" * 10_000, 400),
        (b'{"session":"s","data":""}', 404),
        (b'{"session":"0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAA","data":""}', 404),
        (b'{"session":"0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAA\\n","data":""}', 404),
        (b'{"session":"' + b"s" * 10_000 + b'","data":""}', 404),
        (b'{"session":"s","data":"' + b"x" * (SIZE + 1) + b'"}', 413),
        (b"x" * (2 * SIZE + 1), 413),
    ],
)
def test_requests_for_no_session(http: httpx.Client, body: bytes, status: int) -> None:
    """The protocol's status, with words."""
    answer = http.post("/emulation", content=body, headers={"Origin": PAGE})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_protobuf(http: httpx.Client) -> None:
    """Commands and replies behind their lengths, and a request with an EmulationRequest."""
    command = b"\x08\x01" + field(4, field(1, TOKEN.encode()))
    with http.stream("POST", "/connection/http_stream", content=sized(command), headers=PROTOBUF) as answer:
        assert answer.headers["content-type"] == "application/octet-stream"
        pieces = answer.iter_raw()
        session = re.findall(rb"[0-9a-f]{16}\.[\w-]{22}", next(pieces))[0]
        subscribe = b"\x08\x02" + field(5, field(1, b"room:p"))
        request = field(2, session) + field(3, sized(subscribe))
        assert http.post("/emulation", content=request, headers=PROTOBUF).status_code == 204
        # Reply{id: 2, subscribe: {}}.
        assert next(pieces) == sized(b"\x08\x02" + field(6, b""))
        as_json = {"session": session.decode(), "data": "{}"}
        assert http.post("/emulation", json=as_json).status_code == 204
        # A 0x7B begins a message of 123 bytes that does not come.
        assert b"bad request" in next(pieces)


@pytest.mark.parametrize("body", [b"\xff", b"\x12\xff", b"\x1a\x00\x0b", b"\x12\x01\xff"])
def test_an_emulation_request_in_protobuf_that_is_none(http: httpx.Client, body: bytes) -> None:
    """As in JSON."""
    assert http.post("/emulation", content=body, headers=PROTOBUF).status_code == 400


def test_bytes_for_a_session_in_json(http: httpx.Client) -> None:
    """They are not UTF-8: its session never sees them."""
    with opened(http, "http_stream", CONNECT) as stream:
        session = connect(stream).encode()
        answer = http.post("/emulation", content=field(2, session) + field(3, b"\xff"), headers=PROTOBUF)
        assert answer.status_code == 400
        send(http, session.decode(), {"id": 2, "subscribe": {"channel": "room:a"}})
        assert stream.next() == {"id": 2, "subscribe": {}}


def test_pages_of_other_origins(http: httpx.Client) -> None:
    """One list for all; a browser asks before it sends JSON."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for path in ("/emulation", "/connection/http_stream", "/connection/sse"):
        allowed = http.options(path, headers={"Origin": PAGE, **asked})
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == PAGE
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert "content-type" in allowed.headers["access-control-allow-headers"]
        stranger = {"Origin": "https://stranger.example"}
        assert "access-control-allow-origin" not in http.options(path, headers={**stranger, **asked}).headers
        refused = http.post(path, content=json.dumps(CONNECT), headers=stranger)
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


@pytest.fixture(scope="module")
def strict() -> Iterator[Site]:
    """A node on our own server, whose HTTP class takes no body of more than MAX_BODY bytes."""
    with running(settings_of(**SETTINGS, api={"max_body": MAX_BODY})) as site:
        yield site


MAX_BODY = 1_000
ENDLESS = b"3e9\r\n" + b"x" * 1_001 + b"\r\n"


def head_of_refusal(site: Site, path: str, *headers: str, body: bytes = b"") -> list[str]:
    """The lines of the head that answers a request."""
    host, port = site.public.split(":")
    with RawClient((host, int(port))) as client:
        lines = [f"POST {path} HTTP/1.1", "Host: test", *headers]
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return client.head().decode().lower().split("\r\n")


def cors(head: list[str]) -> list[str]:
    return [line for line in head if line.startswith(("access-control-", "vary"))]


SHARED = [f"access-control-allow-origin: {PAGE}", "access-control-allow-credentials: true", "vary: origin"]


@pytest.mark.parametrize(
    ("framing", "body", "status"),
    [
        ("Content-Length: 1001", b"", "413"),
        ("Transfer-Encoding: chunked", ENDLESS, "413"),
        ("Transfer-Encoding: chunked", b"1\r\nx\r\n" * 600, "400"),
        ("Transfer-Encoding: chunked", b"nonsense\r\n", "400"),
    ],
    ids=["announced", "chunked", "tiny chunks", "no chunks"],
)
@pytest.mark.parametrize(
    "path",
    ["/emulation", "/emulation?a=/b", "/connection/sse", "/connection/http_stream", "/connection/uni_sse", "/sse/a/b"],
)
def test_a_page_reads_why_its_body_is_refused_before_anything_sees_it(
    strict: Site, path: str, framing: str, body: bytes, status: str
) -> None:
    """By the HTTP class, which knows no entrance."""
    head = head_of_refusal(strict, path, f"Origin: {PAGE}", framing, body=body)
    assert head[0].split()[1] == status
    assert cors(head) == SHARED


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/emulation", [], []),
        ("/emulation", ["Origin: https://stranger.example"], ["vary: origin"]),
        ("/emulation", [f"Origin: {PAGE}", "Origin: https://stranger.example"], ["vary: origin"]),
        ("/emulation", ["Origin: \xff"], ["vary: origin"]),
        ("/emulation2", [f"Origin: {PAGE}"], []),
        ("/emulation/2", [f"Origin: {PAGE}"], []),
        ("/connection/websocket", [f"Origin: {PAGE}"], []),
        ("/api/publish", [f"Origin: {PAGE}"], []),
        ("/api/publish?/emulation", [f"Origin: {PAGE}"], []),
        ("/%ff", [f"Origin: {PAGE}"], []),
        ("*", [f"Origin: {PAGE}"], []),
    ],
)
def test_who_may_not_read_that(strict: Site, path: str, headers: list[str], expected: list[str]) -> None:
    """Pages of other origins, and of the API nobody."""
    head = head_of_refusal(strict, path, *headers, "Content-Length: 1001")
    assert (head[0].split()[1], cors(head)) == ("413", expected)


def test_the_origin_of_an_earlier_request_reads_nothing(strict: Site) -> None:
    """Proxies send requests of many pages over one connection."""
    host, port = strict.public.split(":")
    with RawClient((host, int(port))) as client:
        fine = f"POST /emulation HTTP/1.1\r\nHost: test\r\nOrigin: {PAGE}\r\nContent-Length: 0\r\n\r\n"
        client.send(fine.encode())
        assert client.status() == 400
        client.send(b"POST /emulation HTTP/1.1\r\nHost: test\r\nContent-Length: 1001\r\n\r\n")
        assert client.rest().count(PAGE.encode()) == 0


def test_commands_from_pages_that_may_not_connect_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """As their connects are, and in the log, however many pages there are: a stranger chooses the names."""
    names = [f"https://{number}.stranger.example" for number in range(50)]
    with (
        running(settings_of(**SETTINGS)) as site,
        httpx.Client(base_url=f"http://{site.public}", trust_env=False) as http,
    ):
        statuses = {http.post("/emulation", headers={"Origin": name}).status_code for name in names}
        own = {"Sec-Fetch-Site": "same-origin"}
        others = [http.post("/emulation", headers=each).status_code for each in ({}, own, {"Origin": PAGE})]
        counted = site.metric("gateway_connections_refused_total", reason="origin")
    assert (statuses, others, counted) == ({403}, [400, 400, 400], 50)
    told = [vars(record) for record in caplog.records if record.message == "connection refused"]
    assert [(each["reason"], names[0] in each["detail"]) for each in told[:1]] == [("origin", True)]
    assert len(told) <= 10


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/emulation", "POST, OPTIONS"),
        ("/connection/http_stream", "POST, OPTIONS"),
        ("/connection/sse", "GET, POST, OPTIONS"),
    ],
)
def test_other_methods(http: httpx.Client, path: str, allowed: str) -> None:
    """405 names those that there are."""
    answer = http.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_a_session_that_takes_no_more() -> None:
    """While a publish waits for the application, 256 KiB may wait with it; then its client is told to come again."""
    hooks = Hooks()
    answered = threading.Event()

    @hooks.publish()
    async def slow(request: PublishRequest) -> bool:
        while not answered.is_set():
            await asyncio.sleep(0.01)
        return True

    with (
        running(settings_of(**SETTINGS), hooks=hooks) as site,
        httpx.Client(base_url=f"http://{site.public}", trust_env=False) as http,
        opened(http, "http_stream", CONNECT) as stream,
    ):
        session = connect(stream)
        large = {"id": 3, "publish": {"channel": "room:a", "data": "x" * 60_000}}
        statuses = [send(http, session, large).status_code for _ in range(6)]
        answered.set()
        assert statuses == [204, 204, 204, 204, 503, 503]
        assert [stream.next() for _ in range(4)] == [{"id": 3, "publish": {}}] * 4
