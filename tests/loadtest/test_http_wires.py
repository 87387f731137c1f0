"""The wires over HTTP: what they ask for, and what they make of what comes."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway_loadtest.planning.plan import Protocol
from gateway_loadtest.wires.centrifuge_wire import FIRST_PUBLISH_ID
from gateway_loadtest.wires.contract import Acknowledged, Answer, Closing, Event, HttpWire, Opened, Subscribed
from gateway_loadtest.wires.emulation_wires import Emulated, EmulatedEvents, EmulatedLines
from gateway_loadtest.wires.sse_wire import Sse, SsePublisher
from gateway_loadtest.wires.wire_factory import make_wire

TARGET = "http://127.0.0.1:1"
SESSION = {"client": "c", "session": "node.secret", "node": "n"}


def body(wire: HttpWire, *messages: Any) -> bytes:
    """As a server writes them."""
    lines = [json.dumps(each, separators=(",", ":")).encode() for each in messages]
    if isinstance(wire, EmulatedEvents):
        return b"".join(b"data: %b\n\n" % line for line in lines)
    return b"".join(line + b"\n" for line in lines)


def heard(wire: HttpWire, *pieces: bytes) -> list[Event]:
    return [event for piece in pieces if (whole := wire.cut(piece)) for event in wire.received(whole)]


@pytest.fixture(params=["centrifuge_http_stream", "centrifuge_sse"])
def emulated(request: pytest.FixtureRequest) -> EmulatedLines | EmulatedEvents:
    protocol: Protocol = request.param
    wire = make_wire(protocol, "")
    assert isinstance(wire, EmulatedLines | EmulatedEvents)
    wire.stream(TARGET, ["news"])
    return wire


def test_a_stream_of_lines_is_asked_for_with_a_post() -> None:
    request = EmulatedLines(lambda: "token").stream(TARGET, ["news"])
    assert (request.method, request.url) == ("POST", f"{TARGET}/connection/http_stream")
    assert json.loads(request.body) == {"id": 1, "connect": {"token": "token", "name": "gateway-loadtest"}}


def test_a_stream_of_events_is_asked_for_as_browsers_do() -> None:
    request = EmulatedEvents(lambda: "a&b").stream(TARGET, ["news"])
    parts = urlsplit(request.url)
    assert (request.method, parts.path, request.body) == ("GET", "/connection/sse", b"")
    (connect,) = parse_qs(parts.query, strict_parsing=True)["cf_connect"]
    assert json.loads(connect)["connect"]["token"] == "a&b"


@pytest.mark.parametrize(
    ("target", "url"),
    [
        (TARGET, f"{TARGET}/emulation"),
        ("https://a/base/connection/http_stream", "https://a/base/emulation"),
        ("http://a:1/elsewhere", "http://a:1/emulation"),
    ],
)
def test_commands_go_beside_the_stream(target: str, url: str) -> None:
    wire = EmulatedLines(lambda: "")
    wire.stream(target, [])
    heard(wire, body(wire, {"id": 1, "connect": SESSION}))
    request = wire.command(target, [b'{"id":2}', b"{}"])
    assert (request.method, request.url) == ("POST", url)
    assert json.loads(request.body) == {"session": "node.secret", "node": "n", "data": '{"id":2}\n{}'}


def test_the_protocol_is_that_of_a_websocket(emulated: EmulatedLines | EmulatedEvents) -> None:
    """Wherever the body is cut."""
    emulated.subscribe("news")
    push = {"push": {"channel": "news", "pub": {"data": "x", "offset": 1}}}
    stream = body(
        emulated,
        {"id": 1, "connect": {**SESSION, "version": "v"}},
        {},
        {"id": 2, "subscribe": {"recoverable": True, "offset": 0, "epoch": "e"}},
        push,
        {"id": FIRST_PUBLISH_ID + 5, "publish": {}},
        {"push": {"disconnect": {"code": 3001, "reason": "shutdown"}}},
    )
    for at in range(len(stream)):
        emulated.stream(TARGET, ["news"])
        emulated.subscribe("news")
        assert heard(emulated, stream[:at], stream[at:]) == [
            Opened("v"),
            Answer(b"{}"),
            Subscribed("news"),
            Acknowledged(5),
            Closing(3001, "shutdown"),
        ]


def test_it_recovers_from_where_it_stood(emulated: EmulatedLines | EmulatedEvents) -> None:
    """And what was cut off with the connection before is forgotten."""
    emulated.subscribe("news")
    heard(emulated, body(emulated, {"id": 2, "subscribe": {"recoverable": True, "offset": 3, "epoch": "e"}}))
    push = {"push": {"channel": "news", "pub": {"data": 1, "offset": 4}}}
    heard(emulated, body(emulated, push), b'{"unfinished')
    emulated.stream(TARGET, ["news"])
    (frame,) = emulated.subscribe("news")
    assert json.loads(frame)["subscribe"] == {"channel": "news", "recover": True, "offset": 4, "epoch": "e"}
    assert heard(emulated, body(emulated, {"id": 1, "connect": SESSION})) == [Opened()]


@pytest.mark.parametrize("reply", [{}, {"session": 1}, None])
def test_a_server_without_emulation(emulated: Emulated, reply: Any) -> None:
    """No session can be named: it is another protocol."""
    with pytest.raises((KeyError, TypeError)):
        emulated.received(json.dumps({"id": 1, "connect": reply}).encode())


# sse


def events(*blocks: str) -> bytes:
    return "".join(f"{block}\n\n" for block in blocks).encode()


def test_one_channel_is_asked_for() -> None:
    wire = Sse(lambda: "token")
    request = wire.stream(TARGET, ["room:1/ä"])
    assert (request.method, request.url) == ("GET", f"{TARGET}/sse/room%3A1%2F%C3%A4")
    assert request.headers == {"Accept": "text/event-stream", "Authorization": "Bearer token"}
    assert wire.url("https://a/base/sse/{channel}", ["b"]) == "https://a/base/sse/b"
    assert wire.url("http://a/?x=y", []) == "http://a/sse/idle?x=y"
    assert "Authorization" not in Sse(lambda: "").stream(TARGET, []).headers


def test_publishers_take_a_websocket() -> None:
    """Of the same node: nothing can be published over server-sent events."""
    wire = make_wire("sse", "", subscribes=False)
    assert isinstance(wire, SsePublisher)
    assert wire.acknowledges
    assert wire.url(TARGET, []) == "ws://127.0.0.1:1/connection/websocket"
    assert wire.url("https://a/base/sse/{channel}?x=y", []) == "wss://a/base/connection/websocket"


def test_it_stands_when_the_server_says_so() -> None:
    """Wherever the body is cut, and publications are left to their marks."""
    stream = events(": subscribed\nid: e:1", 'data: "x"\nid: e:2', ":", 'event: name\ndata: "y"\nid: e:3')
    for at in range(len(stream)):
        wire = Sse(lambda: "")
        wire.stream(TARGET, ["news"])
        assert heard(wire, stream[:at], stream[at:]) == [Opened(), Subscribed("news")]
        assert wire.stream(TARGET, ["news"]).headers["Last-Event-ID"] == "e:3"


def test_what_was_missed_is_recovered_or_told() -> None:
    """As the server answers to the last position."""
    wire = Sse(lambda: "")
    wire.stream(TARGET, ["news"])
    heard(wire, events(": subscribed\nid: e:1", 'data: "x"\nid: e:2', 'data: "without"'), b'data: "cut off"\nid: e:9')
    assert wire.stream(TARGET, ["news"]).headers["Last-Event-ID"] == "e:2"
    back = [Opened(), Subscribed("news", recovered=True)]
    assert heard(wire, events(": subscribed\nid: e:2", 'data: "x"\nid: e:3')) == back
    assert wire.stream(TARGET, ["news"]).headers["Last-Event-ID"] == "e:3"
    gone = [Opened(), Subscribed("news", recovered=False)]
    assert heard(wire, events("event: gateway:gap\ndata: {}\nid: f:7")) == gone
    assert wire.stream(TARGET, ["news"]).headers["Last-Event-ID"] == "f:7"
    assert heard(wire, events("event: gateway:gap\ndata: {}\nid:")) == gone
    assert "Last-Event-ID" not in wire.stream(TARGET, ["news"]).headers
    assert heard(wire, events(": subscribed")) == [Opened(), Subscribed("news")]


@pytest.mark.parametrize("retry", ["", "retry: 60000\n"])
def test_the_server_says_why_it_ends(retry: str) -> None:
    wire = Sse(lambda: "")
    wire.stream(TARGET, ["news"])
    told = json.dumps({"code": 3500, "reason": "invalid token", "reconnect": False})
    assert heard(wire, events(f"{retry}event: gateway:disconnect\ndata: {told}")) == [Closing(3500, "invalid token")]


def test_who_has_no_channel_only_stays() -> None:
    wire = Sse(lambda: "")
    wire.stream(TARGET, [])
    assert heard(wire, events(": subscribed")) == [Opened()]


@pytest.mark.parametrize(
    "block", [b"<html>", b"\xff\xfe", b"event: gateway:disconnect\ndata: {", b"event: gateway:disconnect\ndata: {}"]
)
def test_nonsense_is_an_error(block: bytes) -> None:
    wire = Sse(lambda: "")
    wire.stream(TARGET, ["news"])
    with pytest.raises((ValueError, KeyError)):
        wire.received(block)


def test_a_position_that_would_be_a_header_of_its_own() -> None:
    """Line ends of any kind end it."""
    wire = Sse(lambda: "")
    wire.stream(TARGET, ["news"])
    heard(wire, b": subscribed\nid: e:1\rX-Evil: 1\r\n\r\n")
    assert wire.stream(TARGET, ["news"]).headers["Last-Event-ID"] == "e:1"
