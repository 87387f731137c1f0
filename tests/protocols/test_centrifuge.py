"""The native protocol, byte for byte."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    BAD_COMMAND,
    INTERNAL,
    PERMISSION_DENIED,
    UNSUBSCRIBED_INSUFFICIENT,
    Disconnect,
)
from gateway.messages import (
    Call,
    Channel,
    ClientId,
    ClientInfo,
    Connect,
    ConnectResult,
    History,
    Kind,
    Pong,
    Position,
    Presence,
    PresenceStats,
    Publication,
    Publish,
    Refresh,
    RefreshResult,
    Request,
    SubRefresh,
    Subscribe,
    SubscribeResult,
    UnknownFields,
    Unsubscribe,
    Unsupported,
)
from gateway.protocols.centrifuge import CentrifugeProtocol, SilentCentrifugeProtocol
from gateway.protocols.frames import FRAME_LIMIT
from gateway.protocols.wire_protocol import Message

PROTOCOL = CentrifugeProtocol()
CHANNEL = Channel("default", 'a"b')


def only(messages: Any) -> Any:
    """The JSON in the single message."""
    (message,) = messages
    assert not message.binary
    return json.loads(message.data)


def requests_of(frame: bytes) -> list[Request]:
    """All commands of a frame, as sessions take them."""
    requests: list[Request] = []
    start = 0
    while start < len(frame):
        command, start = PROTOCOL.cut(frame, start)
        requests += PROTOCOL.decode(command, binary=False)
    return requests


@pytest.mark.parametrize(
    ("frame", "request_"),
    [
        (
            b'{"id":1,"connect":{"token":"t","data":{"x":1},"name":"js","version":"5"}}',
            Connect(1, "t", data=b'{"x":1}', name="js", version="5"),
        ),
        (b'{"id":1,"connect":{}}', Connect(1)),
        (b'{"id":2,"subscribe":{"channel":"c","token":"t"}}', Subscribe(2, "c", "t")),
        (
            b'{"id":2,"subscribe":{"channel":"c","recover":true,"offset":7,"epoch":"x","flag":1}}',
            Subscribe(2, "c", since=Position(7, "x")),
        ),
        (
            b'{"id":2,"subscribe":{"channel":"c","flag":3,"delta":"fossil"}}',
            Subscribe(2, "c", all_or_nothing=True, delta=True),
        ),
        (
            b'{"id":1,"connect":{"subs":{"c":{"recover":true,"offset":7,"epoch":"x"},"d":{"offset":7}}}}',
            Connect(1, positions={"c": Position(7, "x")}),
        ),
        (b'{"id":3,"unsubscribe":{"channel":"c"}}', Unsubscribe(3, "c")),
        (b'{"id":4,"publish":{"channel":"c","data":[1, 2]}}', Publish(4, "c", b"[1, 2]")),
        (b'{"id":4,"publish":{"channel":"c","data":null}}', Publish(4, "c", b"null")),
        (b'{"id":4,"publish":{"channel":"c"}}', Publish(4, "c", b"")),
        (b'{"send":{"data":"hi"}}', Call(0, "", b'"hi"')),
        (b'{"id":5,"rpc":{"method":"m","data":0}}', Call(5, "m", b"0")),
        (b'{"id":6,"refresh":{"token":"t"}}', Refresh(6, "t")),
        (b'{"id":7,"sub_refresh":{"channel":"c","token":"t"}}', SubRefresh(7, "c", "t")),
        (b'{"id":8,"presence":{"channel":"c"}}', Presence(8, "c")),
        (b'{"id":8,"presence_stats":{"channel":"c"}}', PresenceStats(8, "c")),
        (b'{"id":8,"history":{"channel":"c","limit":10}}', History(8, "c", 10)),
        (
            b'{"id":8,"history":{"channel":"c","since":{"offset":3,"epoch":"x"},"reverse":true}}',
            History(8, "c", 0, Position(3, "x"), reverse=True),
        ),
        (b'{"id":8,"ping":{}}', Unsupported(8, "ping")),
        (b"{}", Pong()),
        (b'{"id":4294967295,"unsubscribe":{"channel":"c"}}', Unsubscribe(4294967295, "c")),
    ],
)
def test_commands(frame: bytes, request_: object) -> None:
    """Each command becomes its request."""
    assert list(PROTOCOL.decode(frame, binary=False)) == [request_]


@pytest.mark.parametrize(
    "frame",
    [
        b'{"unknown":{"a":1},"id":4,"publish":{"channel":"c","data":1}}',
        b'{"id":4,"publish":{"channel":"c","new":2,"data":1}}',
        b'{"id":4,"publish":{"channel":"c","data":1,"\\ud800":"\\ud800"}}',
        b'{"id":4,"publish":{"channel":"c","data":1,"token":"of another command"}}',
    ],
)
def test_a_command_with_unknown_names_is_told_apart(frame: bytes) -> None:
    """Also among fields that other commands have. The names are ignored otherwise (client protocol, 2.1)."""
    assert list(PROTOCOL.decode(frame, binary=False)) == [UnknownFields(), Publish(4, "c", b"1")]


@pytest.mark.parametrize(
    "frame",
    [
        b'{"id":1,"connect":{"subs":{"c":{"recover":true,"offset":7,"epoch":"x","new":1}}}}',
        b'{"id":1,"history":{"channel":"c","since":{"offset":1,"epoch":"x","new":1}}}',
        b'{"id":1,"ping":{"new":1}}',
        b'{"new":1}',
    ],
)
def test_unknown_names_are_seen_at_any_depth(frame: bytes) -> None:
    first, second = PROTOCOL.decode(frame, binary=False)
    assert first == UnknownFields()
    assert second != UnknownFields()


FIELDS = {
    "connect": "token data subs name version headers flag profile dict",
    "subscribe": "channel token recover epoch offset data positioned recoverable join_leave delta tf flag type phase "
    "cursor limit asc",
    "unsubscribe": "channel",
    "publish": "channel type key removed",
    "presence": "channel",
    "presence_stats": "channel",
    "history": "channel limit since reverse",
    "rpc": "method",
    "refresh": "token",
    "sub_refresh": "channel token type track untrack",
}


@pytest.mark.parametrize("command", FIELDS)
def test_null_is_absent(command: str) -> None:
    """For every field of every command: serialisers of several languages write it for what is not set."""
    nulls = dict.fromkeys(FIELDS[command].split())
    for body in ({command: nulls}, {command: nulls, **{other: None for other in FIELDS if other != command}}):
        (request,) = PROTOCOL.decode(json.dumps({"id": 3, **body}).encode(), binary=False)
        assert [request] == list(PROTOCOL.decode(json.dumps({"id": 3, command: {}}).encode(), binary=False))


def test_null_is_absent_inside_of_fields() -> None:
    """And for ids, where they are optional. A null payload is a value."""
    assert list(PROTOCOL.decode(b'{"id":null,"send":{"data":1}}', binary=False)) == [Call(0, "", b"1")]
    assert list(PROTOCOL.decode(b'{"id":null}', binary=False)) == [Pong()]
    assert list(PROTOCOL.decode(b'{"id":1,"connect":{"subs":{"c":null,"d":{"recover":null}}}}', binary=False)) == [
        Connect(1)
    ]
    since = b'{"id":1,"history":{"channel":"c","since":{"offset":null,"epoch":null}}}'
    assert list(PROTOCOL.decode(since, binary=False)) == [History(1, "c", 0, Position(0, ""))]
    with pytest.raises(Disconnect):
        PROTOCOL.decode(b'{"id":null,"rpc":{}}', binary=False)


def test_what_only_informs_is_accepted_with_any_value() -> None:
    """And what the client would allow, which SDKs always send."""
    frame = {"name": "js", "version": 5, "data": {"a": 1}, "headers": {"x": "y"}, "flag": 1, "profile": "p", "dict": 7}
    assert list(PROTOCOL.decode(json.dumps({"id": 1, "connect": frame}).encode(), binary=False)) == [
        Connect(1, data=b'{"a": 1}', name="js")
    ]
    body = {"channel": "c", "flag": 1, "data": [1], "positioned": True, "recoverable": True, "join_leave": True}
    assert list(PROTOCOL.decode(json.dumps({"id": 1, "subscribe": body}).encode(), binary=False)) == [
        Subscribe(1, "c", data=b"[1]")
    ]


@pytest.mark.parametrize("field", ["type", "phase", "cursor", "limit", "asc"])
def test_empty_values_ask_for_nothing(field: str) -> None:
    """As defaults that a serialiser writes."""
    empty = {"cursor": "", "asc": False}.get(field, 0)
    frame = json.dumps({"id": 1, "subscribe": {"channel": "c", field: empty}}).encode()
    assert list(PROTOCOL.decode(frame, binary=False)) == [Subscribe(1, "c")]


@pytest.mark.parametrize(("tf", "is_one"), [({}, True), ({"op": "and"}, True), (None, False)])
def test_an_empty_filter_is_a_filter(tf: dict[str, str] | None, is_one: bool) -> None:
    """As in Centrifugo; null is none."""
    frame = json.dumps({"id": 1, "subscribe": {"channel": "c", "tf": tf}}).encode()
    (request,) = PROTOCOL.decode(frame, binary=False)
    assert request == (Unsupported(1, "subscribe with tf", "c") if is_one else Subscribe(1, "c"))


def test_server_side_subscriptions_have_no_filters_either() -> None:
    (request,) = PROTOCOL.decode(
        b'{"id":1,"connect":{"subs":{"a":{},"b":{"tf":{"key":"k"}},"c":{"type":1}}}}', binary=False
    )
    assert request == Connect(1, unavailable="tf")


def test_the_largest_offset_is_one_that_no_stream_has_reached() -> None:
    """Offsets are uint64 on the wire, and smaller here."""
    frame = b'{"id":2,"subscribe":{"channel":"c","recover":true,"offset":%d}}'
    assert list(PROTOCOL.decode(frame % (2**64 - 1), binary=False)) == [
        Subscribe(2, "c", since=Position(2**63 - 1, ""))
    ]
    for offset in (-1, 2**64):
        with pytest.raises(Disconnect):
            PROTOCOL.decode(frame % offset, binary=False)


def test_without_pings_the_client_is_told_of_none() -> None:
    """The transport has its own."""
    protocol = SilentCentrifugeProtocol()
    result = ConnectResult(ClientId("c"), "1", ping=25)
    assert only(protocol.open().connected(1, result)) == {"id": 1, "connect": {"client": "c", "version": "1"}}
    assert protocol.ping() == ()


def test_several_commands_in_one_frame_keep_their_order() -> None:
    frame = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"c"}}\n'
    assert requests_of(frame) == [Connect(1), Subscribe(2, "c")]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\n",
        b" ",
        b"null",
        b"[]",
        b"42",
        b'"x"',
        b"{",
        b'{"id":1}',
        b'{"id":1,"connect":{},"publish":{"channel":"c","data":1}}',
        b'{"id":1,"connect":[]}',
        b'{"id":0,"connect":{}}',
        b'{"publish":{"channel":"c","data":1}}',
        b'{"id":-1,"connect":{}}',
        b'{"id":4294967296,"connect":{}}',
        b'{"id":99999999999999999999,"connect":{}}',
        b'{"id":"1","connect":{}}',
        b'{"id":1.5,"connect":{}}',
        b'{"id":1,"publish":{"channel":7,"data":1}}',
        b'{"id":1,"publish":{"channel":"c","data":}}',
        b'{"id":1,"publish":{"channel":"c","data":{"a":nul}}}',
        b'{"id":1,"publish":{"channel":"c","data":"\x01"}}',
        b'{"id":1,"connect":{}}\n{"id":',
        b'{"id":1,"connect":{"token":{"a":1}}}',
        b'{"id":1,"publish":{"channel":"c","data":' + b"[" * 60_000 + b"}}",
    ],
)
def test_anything_else_is_a_bad_request(frame: bytes) -> None:
    """Malformed JSON, wrong types, no command or two: close code 3501, and nothing but that."""
    with pytest.raises(Disconnect) as caught:
        PROTOCOL.decode(frame, binary=False)
    assert caught.value.code == BAD_COMMAND


def test_a_binary_frame_is_a_bad_request() -> None:
    with pytest.raises(Disconnect) as caught:
        PROTOCOL.decode(b"{}", binary=True)
    assert caught.value.code == BAD_COMMAND


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(Disconnect):
        assert PROTOCOL.decode(data, binary=False)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(JSON_VALUES, st.sampled_from([None, 1]), st.text(min_size=1))
def test_payloads_come_out_as_they_went_in(value: object, indent: int | None, channel: str) -> None:
    """Any JSON value, also when written over several lines, reaches the other side equal and on one line."""
    data = json.dumps(value, indent=indent).encode()
    frame = b'{"id":1,"publish":{"channel":"c","data":' + data.replace(b"\n", b"\r\n") + b"}}"
    (publish,) = PROTOCOL.decode(frame, binary=False)
    assert isinstance(publish, Publish)
    (message,) = PROTOCOL.events([Publication(Channel("default", channel), publish.data)])
    assert b"\n" not in message.data
    assert b"\r" not in message.data
    push = json.loads(message.data)["push"]
    assert push == {"channel": channel, "pub": {"data": value}}


def test_connect_reply() -> None:
    """Zero fields are left out."""
    plain = PROTOCOL.connected(1, ConnectResult(ClientId("u"), "0.1", ping=25))
    assert only(plain) == {"id": 1, "connect": {"client": "u", "version": "0.1", "ping": 25, "pong": True}}
    full = ConnectResult(
        ClientId("u"),
        "0.1",
        ping=25,
        pong=False,
        expires=True,
        ttl=60,
        node='n"1',
        subs={"a": SubscribeResult(), 'b"': SubscribeResult(expires=True, ttl=5, data=b"[1]")},
    )
    assert only(PROTOCOL.connected(1, full)) == {
        "id": 1,
        "connect": {
            "client": "u",
            "version": "0.1",
            "ping": 25,
            "expires": True,
            "ttl": 60,
            "node": 'n"1',
            "subs": {"a": {}, 'b"': {"expires": True, "ttl": 5, "data": [1]}},
        },
    }


def test_replies() -> None:
    assert only(PROTOCOL.subscribed(2, "c", SubscribeResult())) == {"id": 2, "subscribe": {}}
    assert only(PROTOCOL.subscribed(2, "c", SubscribeResult(expires=True, ttl=9))) == {
        "id": 2,
        "subscribe": {"expires": True, "ttl": 9},
    }
    assert only(PROTOCOL.sub_refreshed(2, SubscribeResult(expires=True, ttl=9))) == {
        "id": 2,
        "sub_refresh": {"expires": True, "ttl": 9},
    }
    assert only(PROTOCOL.unsubscribed(3)) == {"id": 3, "unsubscribe": {}}
    assert only(PROTOCOL.published(4)) == {"id": 4, "publish": {}}
    assert only(PROTOCOL.refreshed(5, RefreshResult(ClientId("u"), "0.1", expires=True, ttl=3))) == {
        "id": 5,
        "refresh": {"client": "u", "version": "0.1", "expires": True, "ttl": 3},
    }
    assert only(PROTOCOL.refreshed(5, RefreshResult(ClientId("u"), "0.1"))) == {
        "id": 5,
        "refresh": {"client": "u", "version": "0.1"},
    }


def test_errors_say_whether_they_are_temporary() -> None:
    assert only(PROTOCOL.failed(1, PERMISSION_DENIED)) == {
        "id": 1,
        "error": {"code": 103, "message": "permission denied"},
    }
    assert only(PROTOCOL.failed(1, INTERNAL)) == {
        "id": 1,
        "error": {"code": 100, "message": "internal server error", "temporary": True},
    }


def test_pushes() -> None:
    assert only(PROTOCOL.push_subscribe("c", SubscribeResult(data=b"1"))) == {
        "push": {"channel": "c", "subscribe": {"data": 1}}
    }
    assert only(PROTOCOL.push_unsubscribe("c", UNSUBSCRIBED_INSUFFICIENT)) == {
        "push": {"channel": "c", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
    }
    assert only(PROTOCOL.push_refresh(30)) == {"push": {"refresh": {"expires": True, "ttl": 30}}}
    assert only(PROTOCOL.push_refresh(0)) == {"push": {"refresh": {}}}
    assert PROTOCOL.ping() == (Message(b"{}"),)


def test_a_full_publication() -> None:
    publication = Publication(
        CHANNEL,
        b'{"n":1}',
        offset=12,
        tags={"k": "v"},
        info=ClientInfo("ann", "id-1", b'{"name":"Ann"}', b"[1]"),
        time=5,
        exclude_client="x",
    )
    assert only(PROTOCOL.events([publication])) == {
        "push": {
            "channel": 'a"b',
            "pub": {
                "data": {"n": 1},
                "info": {"user": "ann", "client": "id-1", "conn_info": {"name": "Ann"}, "chan_info": [1]},
                "offset": 12,
                "tags": {"k": "v"},
            },
        }
    }
    anonymous = Publication(CHANNEL, b"1", info=ClientInfo("", "id-2"))
    assert only(PROTOCOL.events([anonymous]))["push"]["pub"]["info"] == {"user": "", "client": "id-2"}


def test_text_and_binary_are_shown_as_json() -> None:
    """Text becomes a JSON string, binary an object with base64 (payload.py)."""
    text = Publication(CHANNEL, 'héllo "x"\n'.encode(), Kind.TEXT)
    binary = Publication(CHANNEL, b"\x00\xff", Kind.BINARY)
    assert only(PROTOCOL.events([text]))["push"]["pub"]["data"] == 'héllo "x"\n'
    assert only(PROTOCOL.events([binary]))["push"]["pub"]["data"] == {"base64": "AP8="}


def test_many_publications_share_frames_up_to_a_limit() -> None:
    """Clients bound the size of a message, so a frame ends in time; no publication is split or lost."""
    publications = [Publication(CHANNEL, msgspec.json.encode("x" * 5000 + str(number))) for number in range(40)]
    messages = PROTOCOL.events(publications)
    assert 1 < len(messages) < 10
    assert all(len(message.data) <= FRAME_LIMIT + 40 for message in messages)
    lines = [json.loads(line) for message in messages for line in message.data.split(b"\n")]
    assert [line["push"]["pub"]["data"][5000:] for line in lines] == [str(number) for number in range(40)]


def test_half_an_emoji_does_not_end_the_connection() -> None:
    """JavaScript's JSON.stringify writes it as an escape when a text was cut in its middle."""
    line = rb'{"id":1,"publish":{"channel":"a","data":"\ud83d"}}'
    for data in (line, line + b"\n" + line):
        assert set(requests_of(data)) == {Publish(1, "a", rb'"\ufffd"')}


@pytest.mark.parametrize("between", [b"\n", b"\r\n", b"\n\n", b" \n \t"])
def test_commands_are_cut_where_one_ends_and_the_next_begins(between: bytes) -> None:
    """Not within one that is spread over lines, nor within a string."""
    commands = [b'{"id":1,"rpc":{"data":"}{"}}', b'{"id":2,\n"rpc":{\n}\n}', b'{"id":3,"rpc":{"data":"}\\n{"}}']
    data = between.join(commands)
    found, start = [], 0
    while start < len(data):
        command, start = PROTOCOL.cut(data, start)
        found.append(command)
    assert found == commands
    assert len(requests_of(data)) == 3


def test_a_line_holds_one_command() -> None:
    """Each is counted by its line."""
    with pytest.raises(Disconnect):
        requests_of(b'{"id":1,"ping":{}}{"id":2,"ping":{}}\n{"id":3,"ping":{}}')
