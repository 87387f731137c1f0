"""Clients that only listen on a whole node, detached and under a standard uvicorn."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket
from websockets.typing import Origin

from gateway.tokens import connection_token
from tests.api.site import SECRET
from tests.entrances.http_client import Stream, opened

PATIENCE = 20
PAGE = "https://page.example"
HEADERS = {"Origin": PAGE}
SETTINGS: dict[str, Any] = {
    "namespaces": {"kept": {"delivery": "recoverable"}},
    "auth": {"hmac_secret": SECRET, "cookie": "session"},
    "origins": {"allowed": [PAGE]},
    "heartbeat": {"ping_interval": 1.5, "pong_timeout": 1.2},
}
KINDS = ["uni_sse", "uni_http_stream", "uni_websocket"]
CHANNEL = "kept:a"


class Socket:
    """The JSON objects of a WebSocket, with the way of a Stream."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._lines: list[str] = []

    @property
    def code(self) -> int | None:
        """The close code."""
        return self.connection.close_code

    def next(self) -> dict[str, Any]:
        while True:
            while self._lines:
                if (line := self._lines.pop(0)) != "{}":
                    found: dict[str, Any] = json.loads(line)
                    return found
            try:
                self._lines = str(self.connection.recv(PATIENCE)).split("\n")
            except ConnectionClosed as error:
                raise EOFError from error


@contextmanager
def listening(http: httpx.Client, kind: str, request: Any) -> Iterator[Stream | Socket]:
    if kind != "uni_websocket":
        with opened(http, kind, request) as stream:
            yield stream
        return
    path = f"{http.base_url}".replace("http", "ws").rstrip("/") + "/connection/uni_websocket"
    with open_websocket(path, proxy=None, origin=Origin(PAGE)) as connection:
        connection.send(request if isinstance(request, str) else json.dumps(request))
        yield Socket(connection)


def publish(http: httpx.Client, *values: object) -> str:
    """The epoch of the channel after the last of them."""
    epoch = ""
    for value in values:
        answer = http.post("/api/publish", json={"channel": CHANNEL, "data": value}).json()
        epoch = answer["result"]["epoch"]
    return epoch


def token(**claims: Any) -> str:
    return connection_token(SECRET, "anna", channels=[CHANNEL], **claims)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_gets_what_its_token_says(http: httpx.Client, kind: str) -> None:
    """The first message is the connect; each after it is a push."""
    with listening(http, kind, {"token": token()}) as stream:
        connect = stream.next()["connect"]
        assert list(connect["subs"]) == [CHANNEL]
        assert "session" not in connect
        assert "pong" not in connect
        publish(http, {"a": 1})
        push = stream.next()
        assert (push["channel"], push["pub"]["data"]) == (CHANNEL, {"a": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_missed(http: httpx.Client, kind: str) -> None:
    """The positions of the channels are in the connect request."""
    with listening(http, kind, {"token": token()}) as stream:
        sub = stream.next()["connect"]["subs"][CHANNEL]
    publish(http, "missed", "missed too")
    since = {"recover": True, "epoch": sub["epoch"], "offset": sub.get("offset", 0)}
    with listening(http, kind, {"token": token(), "subs": {CHANNEL: since}}) as stream:
        found = stream.next()["connect"]["subs"][CHANNEL]
        assert found["recovered"] is True
        assert [each["data"] for each in found["publications"]] == ["missed", "missed too"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_client_stays(http: httpx.Client, kind: str) -> None:
    """Two pings later it is still there: nobody has to answer them."""
    with listening(http, kind, {"token": token()}) as stream:
        stream.next()
        if isinstance(stream, Socket):
            pings = [stream.connection.recv(PATIENCE) for _ in range(3)]
        else:
            pings = []
            while len(pings) < 3:
                pings += [line for line in [next(stream.lines)] if line.endswith("{}")]
        assert len(pings) == 3
        publish(http, "after")
        assert stream.next()["pub"]["data"] == "after"


def test_a_token_where_others_have_it(http: httpx.Client) -> None:
    """A page with a session cookie needs no request body, `curl` can set a header, and a URL may do."""
    for how in (
        {"cookies": {"session": token()}},
        {"headers": {"Authorization": f"Bearer {token()}"}},
        {"params": {"token": token()}},
    ):
        request = http.build_request("GET", "/connection/uni_sse", **how)  # type: ignore[arg-type]  # any of them
        answer = http.send(request, stream=True)
        assert Stream(answer).next()["connect"]["client"]
        answer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_is_none(http: httpx.Client, kind: str) -> None:
    """An error closes the connection: there are no replies."""
    with listening(http, kind, {"token": "none"}) as stream:
        if isinstance(stream, Socket):
            with pytest.raises(EOFError):
                stream.next()
            assert stream.code == 3500
        else:
            assert stream.next()["disconnect"]["code"] == 3500
            assert stream.ends()


@pytest.mark.parametrize("kind", ["uni_sse", "uni_http_stream"])
@pytest.mark.parametrize("request_", ["[]", '{"token":1}', "no json"])
def test_what_is_no_connect_request(http: httpx.Client, kind: str, request_: str) -> None:
    """Refused before anything is opened."""
    with opened(http, kind, request_) as stream:
        assert stream.answer.status_code == 400
        assert "not a connect request" in stream.answer.json()["error"]["message"]


def test_a_websocket_that_says_more(http: httpx.Client) -> None:
    """Its client believes that somebody answers."""
    with listening(http, "uni_websocket", {"token": token()}) as stream:
        assert isinstance(stream, Socket)
        stream.next()
        stream.connection.send('{"subscribe":{"channel":"kept:a"}}')
        with pytest.raises(EOFError):
            stream.next()
        assert stream.code == 3501


def test_a_websocket_with_its_request_in_the_url(http: httpx.Client) -> None:
    """It need not say anything."""
    path = f"{http.base_url}".replace("http", "ws").rstrip("/") + "/connection/uni_websocket"
    request = quote(json.dumps({"token": token()}))
    with open_websocket(f"{path}?cf_connect={request}", proxy=None, origin=Origin(PAGE)) as connection:
        assert list(Socket(connection).next()["connect"]["subs"]) == [CHANNEL]
