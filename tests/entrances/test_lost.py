"""Requests that find no entrance, on real sockets: the answer and the log say what is wrong."""

import json
import logging
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gateway.entrances import ENTRANCES, lost
from gateway.entrances.lost import INTERNAL, OTHER_PROTOCOLS
from gateway.log import DISTINCT
from tests.api.clients import PATIENCE
from tests.api.site import running, settings_of
from tests.entrances.ways import plain_asgi


@pytest.fixture(params=["detached", "plain ASGI"])
def address(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """A node, under our HTTP class and under that of uvicorn; with what it logs."""
    caplog.set_level(logging.INFO, lost.__name__)
    if request.param == "detached":
        with running(settings_of()) as site:
            yield site.public
    else:
        with plain_asgi(settings_of()) as address:
            yield address


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [
        {"level": record.levelname, "text": record.getMessage(), **vars(record)}
        for record in caplog.records
        if record.name == lost.__name__
    ]


PATHS = "/connection/websocket, /ws/CHANNEL and /connection/uni_websocket"
HANDSHAKE = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


@pytest.mark.parametrize("headers", [{}, HANDSHAKE, {**HANDSHAKE, "Connection": "close"}])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_proxy_that_passes_no_upgrade(
    address: str, caplog: pytest.LogCaptureFixture, headers: dict[str, str], method: str
) -> None:
    """nginx without `proxy_set_header Upgrade`: 426 on every WebSocket path, and one warning a minute for each
    entrance: a proxy may pass it for one location and not for another.
    """
    for path in ("/connection/websocket", "/ws/room", "/ws/a/b"):
        answer = httpx.request(method, f"http://{address}{path}", headers=headers, trust_env=False)
        assert answer.status_code == 426
        assert answer.headers["upgrade"] == "websocket"
        assert "Upgrade" in answer.headers["connection"]
        if method != "HEAD":
            assert "Upgrade" in answer.json()["error"]["message"]
    lines = logged(caplog)
    for line in lines:
        assert line["level"] == "WARNING"
        assert "does your proxy pass Upgrade and Connection?" in str(line["text"])
    assert [(line["path"], line["address"]) for line in lines] == [
        ("/connection/websocket", "127.0.0.1"),
        ("/ws/room", "127.0.0.1"),
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/engine.io/?EIO=4&transport=polling&token=SECRET", "Engine.IO"),
        ("/engine.io", "Engine.IO"),
        ("/connection/sockjs/info?SECRET", "Centrifuge over SockJS"),
        ("/app/KEY?protocol=7", "Pusher"),
    ],
)
def test_clients_of_other_protocols_are_told(
    address: str, caplog: pytest.LogCaptureFixture, path: str, name: str
) -> None:
    """404 over HTTP and over WebSocket, with the name of the protocol, and one line a minute for each."""
    for method in ("GET", "POST"):
        answer = httpx.request(method, f"http://{address}{path}", content=b"x" * 100, trust_env=False)
        assert answer.status_code == 404
        assert answer.json()["error"] == {"code": 404, "message": f"{name} is not served here"}
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{address}{path}", proxy=None, open_timeout=PATIENCE)
    assert caught.value.response.status_code == 404
    assert json.loads(caught.value.response.body or b"")["error"]["message"] == f"{name} is not served here"
    (line,) = logged(caplog)
    assert (line["speaks"], line["path"]) == (name, path.partition("?")[0])


@pytest.mark.parametrize("path", ["/", "/websocket", "/connection/websockets", "/health/live"])
def test_a_websocket_to_another_path_is_told_the_right_ones(
    address: str, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """404, not the 403 of a server that wants no such client; and a line in the log."""
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{address}{path}", proxy=None, open_timeout=PATIENCE)
    assert caught.value.response.status_code == 404
    message = json.loads(caught.value.response.body or b"")["error"]["message"]
    assert (
        message == "no WebSocket at this path, only at /connection/websocket, /ws/CHANNEL and /connection/uni_websocket"
    )
    (line,) = logged(caplog)
    assert (line["text"], line["path"]) == ("WebSocket to a path that has none", path)
    assert line["paths"] == PATHS


def test_a_flood_of_such_requests_is_a_few_lines(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """As many as there are protocols, whatever the paths."""
    with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
        for number in range(200):
            for path in (f"/engine.io/{number}", f"/app/{number}", f"/ws/{number}"):
                client.get(path)
    assert len(logged(caplog)) == 3


def test_each_path_that_has_no_websocket_has_its_line(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Two clients with two misspelt URLs. Whoever tries thousands gets as many lines as a limit allows."""
    for path in ["/websocket", "/socket", "/websocket", *(f"/{number}" for number in range(20))]:
        with pytest.raises(InvalidStatus):
            connect(f"ws://{address}{path}", proxy=None, open_timeout=PATIENCE)
    paths = [line["path"] for line in logged(caplog)]
    assert paths[:3] == ["/websocket", "/socket", "/0"]
    assert len(paths) == DISTINCT


def test_other_paths_are_no_protocol_at_all(address: str, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/connection", "/connection/sockets", "/connection/websocket/", "/app", "/favicon.ico"):
        answer = httpx.get(f"http://{address}{path}", trust_env=False)
        assert answer.status_code == 404
        assert "is not served here" not in answer.json()["error"]["message"]
    assert logged(caplog) == []


@pytest.mark.parametrize("path", ["/publish", "/api/publish/", "/health", "/foo", "/connection/websocket/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("public", [False, True])
def test_other_paths_are_told_where_everything_is(path: str, method: str, public: bool) -> None:
    """On both listeners, in the shape of all errors. A path that is right, with a wrong method, stays a 405."""
    with running(settings_of(api={"public": public})) as site:
        for address in (site.public, site.internal):
            answer = httpx.request(method, f"http://{address}{path}", trust_env=False)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)
            message = answer.json()["error"]["message"]
            assert "the API is at /api/METHOD" in message
            assert "health is at /health/live and /health/ready" in message
            elsewhere = address == site.public and not public
            assert ("of the internal listener (setting api.public)" in message) == elsewhere
            assert httpx.post(f"http://{address}/health/live", trust_env=False).status_code == 405


def test_clients_that_use_the_internal_listener_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """Over WebSocket, whatever the path, and over HTTP; with one line a minute."""
    with running(settings_of()) as site:
        for path in ("/connection/websocket", "/ws/room", "/other"):
            with pytest.raises(InvalidStatus) as caught:
                connect(f"ws://{site.internal}{path}", proxy=None, open_timeout=PATIENCE)
            assert caught.value.response.status_code == 404
            assert json.loads(caught.value.response.body or b"")["error"]["message"] == INTERNAL
        for path in ("/connection/websocket", "/ws/room"):
            answer = httpx.get(f"http://{site.internal}{path}", trust_env=False)
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, INTERNAL)
    (line,) = logged(caplog)
    assert line["text"] == INTERNAL
    assert (line["path"], line["address"]) == ("/connection/websocket", "127.0.0.1")


def test_no_entrance_lies_under_a_path_of_another_protocol() -> None:
    """Whoever adds one takes the line away."""
    assert not [
        (entrance.path, path) for entrance in ENTRANCES for path in OTHER_PROTOCOLS if entrance.path.startswith(path)
    ]
