"""The native protocol, byte for byte."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    BAD_COMMAND,
    Disconnect,
)
from gateway.messages import (
    Call,
    Channel,
    Connect,
    History,
    Kind,
    Pong,
    Position,
    Publication,
    Publish,
    Request,
    Subscribe,
    UnknownFields,
    Unsupported,
)
from gateway.protocols.centrifuge import CentrifugeProtocol

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


@pytest.mark.parametrize(("tf", "is_one"), [({}, True), ({"op": "and"}, True), (None, False)])
def test_an_empty_filter_is_a_filter(tf: dict[str, str] | None, is_one: bool) -> None:
    """As in Centrifugo; null is none."""
    frame = json.dumps({"id": 1, "subscribe": {"channel": "c", "tf": tf}}).encode()
    (request,) = PROTOCOL.decode(frame, binary=False)
    assert request == (Unsupported(1, "subscribe with tf", "c") if is_one else Subscribe(1, "c"))


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


def test_text_and_binary_are_shown_as_json() -> None:
    """Text becomes a JSON string, binary an object with base64 (payload.py)."""
    text = Publication(CHANNEL, 'héllo "x"\n'.encode(), Kind.TEXT)
    binary = Publication(CHANNEL, b"\x00\xff", Kind.BINARY)
    assert only(PROTOCOL.events([text]))["push"]["pub"]["data"] == 'héllo "x"\n'
    assert only(PROTOCOL.events([binary]))["push"]["pub"]["data"] == {"base64": "AP8="}


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
