"""The small protocols: what they send, and what they make of what comes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_loadtest.planning.plan import PROTOCOLS
from gateway_loadtest.wires.centrifuge_wire import Centrifuge
from gateway_loadtest.wires.contract import Acknowledged, Answer, Event, Failed, Opened, Subscribed, Wire
from gateway_loadtest.wires.emulation_wires import EmulatedEvents, EmulatedLines
from gateway_loadtest.wires.nats_wire import LARGEST_MESSAGE, LONGEST_LINE, Nats
from gateway_loadtest.wires.raw_wire import Raw
from gateway_loadtest.wires.socketio_wire import FIRST_PUBLISH_ID, SocketIO
from gateway_loadtest.wires.sse_wire import Sse
from gateway_loadtest.wires.wire_factory import make_wire

TEXT = "~abcdef~0~1~123456789~xxxx"


def events(wire: Wire, *frames: bytes) -> list[Event]:
    return [event for frame in frames for event in wire.received(frame)]


def open_nats() -> Nats:
    wire = Nats()
    wire.opening()
    assert events(wire, b'INFO {"server_id":"x"}\r\nPONG\r\n') == [Opened()]
    return wire


def open_socketio() -> SocketIO:
    wire = SocketIO()
    wire.opening()
    assert events(wire, b'0{"sid":"a","pingInterval":25000}', b'40{"sid":"b"}') == [Opened()]
    return wire


def test_every_protocol_has_a_wire() -> None:
    """A name leads to what speaks it."""
    kinds = {
        "centrifuge": Centrifuge,
        "centrifuge_http_stream": EmulatedLines,
        "centrifuge_sse": EmulatedEvents,
        "sse": Sse,
        "raw": Raw,
        "nats": Nats,
        "socketio": SocketIO,
    }
    assert {name: type(make_wire(name, "")) for name in PROTOCOLS} == kinds


# raw


def test_raw_fills_the_target() -> None:
    """The channel is quoted, and publishers may go elsewhere."""
    target = "ws://127.0.0.1:1/{role}/{channel}"
    assert Raw().url(target, ["load:1/ä"]) == "ws://127.0.0.1:1/sub/load%3A1%2F%C3%A4"
    assert make_wire("raw", "", subscribes=False).url(target, ["a"]) == "ws://127.0.0.1:1/pub/a"
    assert Raw().url(target, []) == "ws://127.0.0.1:1/sub/idle"


def test_raw_is_subscribed_when_it_is_open() -> None:
    """Nothing is sent but payloads, and nothing that comes is more than a publication."""
    wire = Raw()
    assert not wire.acknowledges
    assert not wire.opening()
    assert not wire.subscribe("a")
    assert wire.publish("a", TEXT, 1) == TEXT.encode()
    assert events(wire, b"", b"\xff\x00", TEXT.encode()) == []


# nats


def test_nats_shakes_hands_with_a_ping() -> None:
    """It is open with the first PONG, and answers the server's PING."""
    wire = Nats()
    (frame,) = wire.opening()
    connect, ping, rest = frame.split(b"\r\n")
    assert json.loads(connect.removeprefix(b"CONNECT "))["verbose"] is False
    assert (ping, rest) == (b"PING", b"")
    assert events(wire, b"INFO {}\r\n", b"PONG\r\nPING\r\n") == [Opened(), Answer(b"PONG\r\n")]
    assert wire.url("ws://127.0.0.1:1", ["a"]) == "ws://127.0.0.1:1"


def test_nats_answers_go_to_what_was_asked() -> None:
    """PONGs come in the order of what they answer; a violation of permissions belongs to the next one."""
    wire = open_nats()
    assert wire.subscribe("load:0") == (b"SUB load:0 1\r\nPING\r\n",)
    assert wire.publish("load:0", TEXT, 7) == b"PUB load:0 %d\r\n%b\r\nPING\r\n" % (len(TEXT), TEXT.encode())
    wire.publish("no", TEXT, 8)
    refusal = "Permissions Violation for Publish to"
    assert events(wire, b"+OK\r\nPONG\r\nPONG\r\n-ERR '%b'\r\nPONG\r\n" % refusal.encode()) == [
        Subscribed("load:0"),
        Acknowledged(7),
        Acknowledged(8, refusal),
    ]


def test_nats_refusals() -> None:
    """A subscription or a connection that is refused is of no use."""
    wire = open_nats()
    wire.subscribe("no")
    assert events(wire, b"-ERR 'Permissions Violation for Subscription to \"no\"'\r\nPONG\r\n") == [
        Failed('subscribe to no: Permissions Violation for Subscription to "no"')
    ]
    assert events(wire, b"-ERR 'Authorization Violation'\r\n") == [
        Failed("the server ended the connection: Authorization Violation")
    ]
    wire.opening()
    assert events(wire, b"-ERR 'permissions violation'\r\nPONG\r\n") == [Failed("connect: permissions violation")]


def test_nats_messages_may_look_like_lines() -> None:
    """What is inside a message is not read, also with a reply-to and with nothing inside."""
    wire = open_nats()
    wire.publish("a", TEXT, 1)
    stream = b"MSG a 1 12\r\nPONG\r\nPING\r\n\r\nMSG a 1 inbox.1 0\r\n\r\nMSG a 1 4\r\n-ERR\r\nPONG\r\n"
    assert events(wire, stream) == [Acknowledged(1)]


@settings(derandomize=True, max_examples=60)
@given(st.sets(st.integers(1, 90)))
def test_nats_lines_may_be_cut_anywhere(cuts: set[int]) -> None:
    """However the stream is cut into frames, the same is read from it."""
    wire = open_nats()
    wire.subscribe("a")
    wire.publish("a", TEXT, 1)
    stream = b"PONG\r\nMSG a 1 26\r\n%b\r\nPING\r\nMSG a 1 6\r\nPONG\r\n\r\nPONG\r\n" % TEXT.encode()
    ends = [*sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    frames = [stream[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    assert events(wire, *frames) == [Subscribed("a"), Answer(b"PONG\r\n"), Acknowledged(1)]


def test_nats_begins_anew() -> None:
    """After a loss nothing of the connection before is waited for."""
    wire = open_nats()
    wire.publish("a", TEXT, 1)
    assert events(wire, b"MSG a 1 100\r\nhal") == []
    wire.opening()
    assert events(wire, b"INFO {}\r\nPONG\r\n") == [Opened()]
    assert wire.subscribe("a") == (b"SUB a 1\r\nPING\r\n",)


@pytest.mark.parametrize(
    "frame",
    [
        b"PONG\r\n",
        b"<html>\r\n",
        b"\r\n",
        b"INFO\r\n",
        b"HMSG a 1 2 3\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 -1\r\n",
        b"MSG a 1 1_0\r\n",
        b"MSG a 1 2 3 4\r\n",
        b"MSG a 1 %d\r\n" % (LARGEST_MESSAGE + 1),
        b"MSG a 1 " + b"9" * 5000 + b"\r\n",
        b"MSG a 1 2\r\nabcdef\r\n",
        b"x" * LONGEST_LINE,
    ],
)
def test_nats_nonsense(frame: bytes) -> None:
    """Another protocol at the other end is told apart."""
    with pytest.raises(ValueError, match=r"."):
        open_nats().received(frame)


# socketio


def test_socketio_url() -> None:
    """The usual path unless there is another, and the version and transport."""
    query = "EIO=4&transport=websocket"
    assert SocketIO().url("ws://127.0.0.1:1", []) == f"ws://127.0.0.1:1/socket.io/?{query}"
    assert SocketIO().url("ws://127.0.0.1:1/", []) == f"ws://127.0.0.1:1/socket.io/?{query}"
    assert SocketIO().url("wss://h/io/?a=1", []) == f"wss://h/io/?a=1&{query}"


def test_socketio_asks_and_is_answered() -> None:
    """Acknowledgements go to what was asked; publications are left to their marks."""
    wire = open_socketio()
    assert wire.subscribe('a"b') == (b'420["subscribe","a\\"b"]',)
    assert wire.subscribe("c") == (b'421["subscribe","c"]',)
    number = FIRST_PUBLISH_ID + 3
    assert wire.publish("c", TEXT, 3) == b'42%d["publish","c","%b"]' % (number, TEXT.encode())
    assert events(wire, b"431[]", b'430[{"status":"ok"}]', b'42["message","%b"]' % TEXT.encode()) == [
        Subscribed("c"),
        Subscribed('a"b'),
    ]
    assert events(wire, b"43%d[null]" % number, b'43%d[{"error":"full"}]' % number) == [
        Acknowledged(3),
        Acknowledged(3, "publish refused: full"),
    ]


def test_socketio_stays_alive() -> None:
    """A ping is answered; what needs no answer gets none."""
    assert events(open_socketio(), b"2", b"3", b"6", b"1") == [Answer(b"3")]


def test_socketio_refusals() -> None:
    """Refused connections and subscriptions, and a server that lets go."""
    wire = open_socketio()
    wire.subscribe("a")
    assert events(wire, b'44{"message":"Invalid namespace"}', b"44", b"41", b'430[{"error":true}]') == [
        Failed("connect: refused: Invalid namespace"),
        Failed("connect: refused"),
        Failed("the server disconnected the socket"),
        Failed("subscribe to a: refused: True"),
    ]


def test_socketio_begins_anew() -> None:
    """After a loss the subscriptions are numbered from the beginning."""
    wire = open_socketio()
    wire.subscribe("a")
    assert wire.opening() == (b"40",)
    assert wire.subscribe("b") == (b'420["subscribe","b"]',)
    assert events(wire, b"430[]") == [Subscribed("b")]


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"x", b"\xff", b"{}", b"4", b"49", b"451-[]", b"43", b"43[]", b"43x[]", b"430", b"430[", b"430[]",
        b"43-1[]", b"43\xb2[]", b"44{", b"43" + b"9" * 5000 + b"[]",
    ],
)  # fmt: skip
def test_socketio_nonsense(frame: bytes) -> None:
    """Another protocol at the other end is told apart."""
    with pytest.raises(ValueError, match=r"."):
        open_socketio().received(frame)
