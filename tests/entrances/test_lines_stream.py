"""A toy protocol over a long HTTP response, on a whole node. It takes two files, protocol and entrance.

It is the example for "how to add a protocol" in docs/architecture.md.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from gateway.entrances import ENTRANCES
from gateway.messages import Channel, Publication
from gateway.tokens import connection_token
from tests.api.site import KEY, SECRET, settings_of
from tests.entrances import ways
from tests.entrances.lines_stream import LINES_STREAM

WAYS = (*ENTRANCES, LINES_STREAM)
SETTINGS: dict[str, Any] = {
    "namespaces": {"kept": {"delivery": "recoverable", "allow_subscribe": ["anonymous", "client"]}, "closed": {}},
    "heartbeat": {"ping_interval": 1, "pong_timeout": 0.5},
}


@pytest.fixture(scope="module", params=[ways.detached, ways.plain_asgi], ids=["detached", "asgi"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.param(settings_of(**SETTINGS), WAYS) as address:
        yield f"http://{address}"


class Client:
    """A reader of lines, and an API client."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"X-API-Key": KEY}, trust_env=False, timeout=10)

    def call(self, method: str, **body: Any) -> Any:
        answer = self.http.post(f"/api/{method}", json=body).json()
        assert "result" in answer, answer
        return answer["result"]

    @contextmanager
    def lines(self, path: str) -> Iterator[Iterator[str]]:
        """The lines of a response, without the empty keep-alive lines; the channel is subscribed by then."""
        with self.http.stream("GET", path) as answer:
            assert answer.status_code == 200, answer.status_code
            yield (line for line in answer.iter_lines() if line)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    made = Client(url)
    with made.http:
        yield made


def test_publications_arrive_as_lines_in_order(client: Client) -> None:
    """As JSON, after the name of their event."""
    epoch = client.call("publish", channel="kept:a", data=0)["epoch"]
    with client.lines(f"/lines/kept:a?since={epoch}:1") as lines:
        for number in range(1, 50):
            client.call("publish", channel="kept:a", data={"n": number})
        assert [next(lines) for _ in range(1, 50)] == [f'message {{"n":{number}}}' for number in range(1, 50)]


def test_what_was_missed_comes_first(client: Client) -> None:
    """`since` has the same form as on the plain WebSocket."""
    for number in range(5):
        top = client.call("publish", channel="kept:b", data=number)
    with client.lines(f"/lines/kept:b?since={top['epoch']}:2") as lines:
        assert [next(lines) for _ in range(3)] == ["message 2", "message 3", "message 4"]


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/lines/kept:b?since=never:1", "! 4500 unrecoverable position"),
        ("/lines/closed:a", "! 3507 permission denied"),
        ("/lines/news?token=x", "! 3500 invalid token"),
        ("/lines/nowhere:a", "! 3501 unknown channel"),
    ],
)
def test_the_last_line_says_why(client: Client, path: str, last: str) -> None:
    """An HTTP response has no close code, so the last line carries it."""
    with client.lines(path) as lines:
        assert list(lines) == [last]


def test_a_client_is_disconnected_as_any_other(client: Client) -> None:
    token = connection_token(SECRET, "ada")
    epoch = client.call("publish", channel="kept:c", data=0)["epoch"]
    with client.lines(f"/lines/kept:c?since={epoch}:0&token={token}") as lines:
        assert next(lines) == "message 0"
        client.call("disconnect", user="ada", disconnect={"code": 4000, "reason": "as you wish"})
        assert list(lines) == ["! 4000 as you wish"]


def test_silence_does_not_end_it(client: Client) -> None:
    """Empty lines keep it alive; no pong is expected, since this client cannot send one."""
    with client.http.stream("GET", "/lines/news") as answer:
        pieces = answer.iter_raw()
        # Every ping comes after a pong to the previous one would have been due.
        assert [next(pieces) for _ in range(3)] == [b"\n"] * 3


def test_tokens_may_be_in_a_header(client: Client) -> None:
    headers = {"Authorization": f"Bearer {connection_token(SECRET, 'ada', expires_in=-5)}"}
    with client.http.stream("GET", "/lines/news", headers=headers) as answer:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert list(answer.iter_lines()) == ["! 3005 token expired"]


def test_a_node_that_ends_tells_its_clients() -> None:
    with ways.detached(settings_of(**SETTINGS), WAYS) as address:
        client = Client(f"http://{address}")
        epoch = client.call("publish", channel="kept:d", data=0)["epoch"]
        answer = client.http.send(client.http.build_request("GET", f"/lines/kept:d?since={epoch}:0"), stream=True)
        lines = answer.iter_lines()
        assert next(lines) == "message 0"
    assert [line for line in lines if line] == ["! 3001 shutdown"]
    client.http.close()


def test_a_client_that_reads_too_slowly_is_closed_as_slow() -> None:
    """Backpressure works as on every transport: waiting bytes are limited, and other clients are not affected."""
    settings = settings_of(**SETTINGS, limits={"outbox": 100_000})
    with ways.detached(settings, WAYS) as address, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = address.partition(":")
        slow.connect((host, int(port)))
        slow.settimeout(10)
        slow.sendall(b"GET /lines/news HTTP/1.1\r\nHost: test\r\n\r\n")
        # The first line shows that it is subscribed.
        client = Client(f"http://{address}")
        while b"message" not in slow.recv(4096):
            client.call("publish", channel="news", data=0)
        text = "x" * 60_000
        # Until it is no subscriber any more: then it has some seconds to read the goodbye.
        while client.call("channels")["channels"]:
            client.call("publish", channel="news", data=text)
        received = b""
        while piece := slow.recv(1 << 20):
            received = (received + piece)[-1000:]
        assert b"! 3008 slow" in received
        client.http.close()


def test_events_have_their_name() -> None:
    """The first word of their line."""
    (message,) = LINES_STREAM.protocol.events([Publication(Channel("default", "a"), b"1", event="moved")])
    assert message.data == b"moved 1"
