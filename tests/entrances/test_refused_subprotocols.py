"""Handshakes that ask for what an entrance does not speak: an answer in words, on real sockets, before any upgrade."""

import json
import logging
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gateway.entrances import centrifuge_websocket, plain_websocket
from gateway.tokens import connection_token
from tests.api.clients import PATIENCE, close_of
from tests.api.site import SECRET, Site, running, settings_of
from tests.entrances.ways import plain_asgi
from tests.protocols.encodings import Reply

NATIVE = "/connection/websocket"
MIXED = "Protobuf by its URL and another subprotocol"


@pytest.fixture(scope="module", params=["detached", "plain ASGI"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A node, under our HTTP class and under that of uvicorn."""
    settings = settings_of()
    if request.param == "detached":
        with running(settings) as site:
            yield site.public
    else:
        with plain_asgi(settings) as address:
            yield address


def opened(address: str, path: str, *offered: str) -> ClientConnection:
    return connect(
        f"ws://{address}{path}",
        subprotocols=[Subprotocol(each) for each in offered] or None,
        compression=None,
        proxy=None,
        open_timeout=PATIENCE,
    )


def refusal(address: str, path: str, *offered: str) -> tuple[int, str]:
    """The status and the message of the answer."""
    with pytest.raises(InvalidStatus) as caught:
        opened(address, path, *offered)
    response = caught.value.response
    error = json.loads(response.body or b"")["error"]
    assert error["code"] == response.status_code
    return response.status_code, error["message"]


@pytest.mark.parametrize(
    ("path", "offered", "spoken"),
    [
        (NATIVE, ["graphql-ws"], "centrifuge-json"),
        (NATIVE, ["token", "SECRET"], "centrifuge-json"),
        (NATIVE, ["graphql-ws"], "centrifuge-protobuf"),
        # Frames would not be what the subprotocol says.
        (NATIVE + "?cf_protocol=protobuf", ["centrifuge-json"], "centrifuge-protobuf"),
        ("/ws/room", ["mqtt"], "token"),
        ("/ws/room", ["token"], "token"),
        ("/ws/room", ["token", "a", "b"], "token"),
        ("/ws/room", ["centrifuge-json"], "token"),
    ],
)
def test_unknown_subprotocols_are_refused_with_words(address: str, path: str, offered: list[str], spoken: str) -> None:
    """What is spoken and what was offered. (Browsers give up a connection that accepts none of what they offer.)"""
    status, message = refusal(address, path, *offered)
    assert status == 400
    spoken_here, _, told = message.partition("subprotocols offered: ")
    assert spoken in spoken_here
    assert told == ", ".join(offered)


@pytest.mark.parametrize(
    ("path", "offered", "accepted"),
    [
        (NATIVE, [], None),
        (NATIVE, ["centrifuge-json"], "centrifuge-json"),
        (NATIVE, ["centrifuge-protobuf", "centrifuge-json"], "centrifuge-json"),
        (NATIVE + "?format=json&cf_protocol=json&x=protobuf", [], None),
        (NATIVE, ["centrifuge-protobuf"], "centrifuge-protobuf"),
        (NATIVE, ["other", "centrifuge-protobuf"], "centrifuge-protobuf"),
        (NATIVE + "?format=protobuf", ["centrifuge-json", "centrifuge-protobuf"], "centrifuge-protobuf"),
        ("/ws/room", [], None),
    ],
)
def test_the_others_are_let_in(address: str, path: str, offered: list[str], accepted: str | None) -> None:
    """Without a subprotocol, or with one that is spoken."""
    with opened(address, path, *offered) as client:
        assert client.subprotocol == accepted


def test_a_token_may_still_be_a_subprotocol(address: str) -> None:
    token = connection_token(SECRET, "ann")
    with opened(address, "/ws/room", "token", token) as client:
        assert client.subprotocol == "token"
        client.send("hello")
        assert client.recv(PATIENCE) == "hello"


def test_long_offers_are_cut(address: str) -> None:
    _, message = refusal(address, NATIVE, *["x" * 100] * 20)
    assert len(message) < 500


def test_the_log_has_no_token(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each entrance and reason that says what it speaks, not what was offered: that may be a secret."""
    caplog.set_level(logging.INFO)
    with running(settings_of()) as site:
        refusal(site.public, NATIVE, "token", "SECRET")
        refusal(site.public, NATIVE + "?format=protobuf", "centrifuge-json")
        refusal(site.public, "/ws/room", "SECRET")
        refusal(site.public, "/ws/other", "SECRET")
        assert refused(site) == {"no known subprotocol": 3.0, MIXED: 1.0}
    lines = [vars(record) for record in caplog.records if record.getMessage() == "connection refused"]
    assert [(line["reason"], line["detail"]) for line in lines] == [
        ("no known subprotocol", centrifuge_websocket.SPEAKS),
        (MIXED, centrifuge_websocket.SPEAKS),
        ("no known subprotocol", plain_websocket.SPEAKS),
    ]
    assert "SECRET" not in str(lines)


def refused(site: Site) -> dict[str, float]:
    reasons = ("no known subprotocol", MIXED)
    return {reason: site.metric("gateway_connections_refused_total", reason=reason) for reason in reasons}


CONNECT, CONNECTED = b"\x04\x08\x01\x22\x00", b"\x08\x01\x2a"


@pytest.mark.parametrize(
    ("path", "offered"),
    [
        (NATIVE, ["centrifuge-protobuf"]),
        (NATIVE + "?format=protobuf", []),
        (NATIVE + "?cf_protocol=protobuf", []),
        (NATIVE + "?format=protobuf", ["centrifuge-protobuf", "centrifuge-json"]),
    ],
)
def test_protobuf_is_spoken_to_those_who_ask(address: str, path: str, offered: list[str]) -> None:
    """In binary messages; a text message is none of theirs."""
    with opened(address, path, *offered) as client:
        client.send(CONNECT)
        reply = client.recv(PATIENCE)
        assert isinstance(reply, bytes)
        assert reply[1:].startswith(CONNECTED)
        client.send('{"id":2,"subscribe":{"channel":"room"}}')
        assert close_of(client)[0] == 3501


@pytest.mark.parametrize("offered", [[], ["centrifuge-json"], ["centrifuge-protobuf", "centrifuge-json"]])
def test_json_is_spoken_to_the_others(address: str, offered: list[str]) -> None:
    """Who offers both gets it, as from Centrifugo. A binary message is none of theirs."""
    with opened(address, NATIVE, *offered) as client:
        client.send('{"id":1,"connect":{}}')
        assert json.loads(client.recv(PATIENCE))["id"] == 1
        client.send(CONNECT)
        assert close_of(client)[0] == 3501


def test_pings_in_frames_with_protobuf() -> None:
    """The reply to the connect has neither `ping` nor `pong`, and no empty reply comes."""
    with (
        running(settings_of(heartbeat={"ping_interval": 1, "pong_timeout": 0.5})) as site,
        opened(site.public, NATIVE + "?cf_ws_frame_ping_pong=true&format=protobuf") as client,
        opened(site.public, NATIVE + "?format=protobuf") as other,
    ):
        for each in (client, other):
            each.send(CONNECT)
        _, connected = other.recv(PATIENCE), bytes(client.recv(PATIENCE))  # type: ignore[arg-type]  # a binary message
        found = Reply.FromString(connected[1:]).connect
        assert found.client
        assert (found.ping, found.pong) == (0, False)
        assert other.recv(PATIENCE) == b"\0"
        assert close_of(other)[0] == 3012
        client.send(b"\x09\x08\x02\x4a\x05\x0a\x03a.b")
        assert bytes(client.recv(PATIENCE))[1:3] == b"\x08\x02"  # type: ignore[arg-type]  # as above


def test_pings_in_frames() -> None:
    """For tools that answer pings of WebSocket only: they stay connected, and get no other messages than theirs.

    One beside it that does not ask for them, and answers none, is closed meanwhile.
    """
    with (
        running(settings_of(heartbeat={"ping_interval": 1, "pong_timeout": 0.5})) as site,
        opened(site.public, NATIVE + "?cf_ws_frame_ping_pong=true") as client,
    ):
        client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room"}}')
        connected, subscribed = str(client.recv(PATIENCE)).split("\n")
        assert not {"ping", "pong"} & json.loads(connected)["connect"].keys()
        assert json.loads(subscribed) == {"id": 2, "subscribe": {}}
        with opened(site.public, NATIVE) as other:
            other.send('{"id":1,"connect":{}}\n{"id":2,"publish":{"channel":"room","data":1}}')
            assert close_of(other)[0] == 3012
        client.send('{"id":3,"presence_stats":{"channel":"room"}}')
        pushed, answered = json.loads(client.recv(PATIENCE)), json.loads(client.recv(PATIENCE))
        assert pushed["push"]["pub"]["data"] == 1
        assert answered["id"] == 3
