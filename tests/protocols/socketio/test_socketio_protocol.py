"""What a session gets of a client's packets, and what the client gets of a session's answers."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import errors
from gateway.errors import BAD_COMMAND, CONNECTION_CLOSED, SHUTDOWN, CloseCode, Disconnect, ErrorCode
from gateway.messages import (
    Call,
    Channel,
    ClientId,
    Connect,
    ConnectResult,
    Kind,
    Malformed,
    Publication,
    Publish,
    Request,
    Subscribe,
    SubscribeResult,
    Unsubscribe,
    Unsupported,
)
from gateway.protocols.socketio.socketio_protocol import MOST_ASKED, Namespace, SocketIOCodec, SocketIOProtocol
from gateway.protocols.wire_protocol import Message

PROTOCOL = SocketIOProtocol(Namespace({"message": "chat:all", "note": "chat:notes"}, "chat:all", 10_000))
ADMIN = SocketIOProtocol(Namespace({}, "", 10_000, own="own:", name="/admin"))
CHANNEL = Channel("app", "chat:all")
CONNECTED = ConnectResult(ClientId("c"), "", 25)


@pytest.fixture
def codec() -> SocketIOCodec:
    return PROTOCOL.open()


def request_of(codec: SocketIOCodec, packet: str, *buffers: bytes) -> Request:
    """The one request in a packet and its buffers."""
    found = list(codec.decode(packet.encode(), binary=False))
    for buffer in buffers:
        assert found == []
        found += codec.decode(buffer, binary=True)
    (request,) = found
    return request


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.data.decode() for message in messages]


@pytest.mark.parametrize(
    ("auth", "token"),
    [("", ""), ("{}", ""), ('{"token":"a.b"}', "a.b"), ('{"token":5}', ""), ('{"user":1,"token":"\\u0061"}', "a")],
)
def test_connect(codec: SocketIOCodec, auth: str, token: str) -> None:
    """With the token of `auth`, which the application gets as a whole; and with everybody's channel."""
    assert request_of(codec, f"0{auth}") == Connect(1, token, data=auth.encode(), joins=("chat:all",))


def test_a_token_that_nobody_here_can_check_is_for_the_application() -> None:
    codec = SocketIOProtocol(Namespace({}, "", 10_000, reads_tokens=False)).open()
    assert request_of(codec, '0{"token":"of its own"}') == Connect(1, data=b'{"token":"of its own"}')


@pytest.mark.parametrize(
    ("packet", "request_"),
    [
        ('2["join","a"]', Subscribe(1, "a")),
        ('2["subscribe",{"channel":"a","token":"t"}]', Subscribe(1, "a", "t")),
        ('2["subscribe",{"channel":"a","token":null}]', Subscribe(1, "a")),
        ('2["leave","a"]', Unsubscribe(1, "a")),
        ('2["unsubscribe",{"channel":"a"}]', Unsubscribe(1, "a")),
        ('2["message",{"a":1}]', Publish(1, "chat:all", b'{"a":1}', event="message")),
        ('2["note","x"]', Publish(1, "chat:notes", b'"x"', event="note")),
        ('2["publish","chat:1",{"a":1}]', Publish(1, "chat:1", b'{"a":1}')),
        ('2["other"]', Call(1, "other", b"[]")),
        ('27["other",1,"b"]', Call(1, "other", b'[1,"b"]')),
    ],
)
def test_events(codec: SocketIOCodec, packet: str, request_: Request) -> None:
    assert request_of(codec, packet) == request_


def test_a_buffer_is_a_binary_publication(codec: SocketIOCodec) -> None:
    packet = '51-["message",{"_placeholder":true,"num":0}]'
    assert request_of(codec, packet, b"\0") == Publish(1, "chat:all", b"\0", Kind.BINARY, "message")


@pytest.mark.parametrize(
    "packet",
    [
        '2["publish"]',
        '2["publish",1,2]',
        '2["publish","a"]',
        '2["publish","a",1,2]',
        '2["join"]',
        '2["join",1]',
        '2["join","a","b"]',
        '2["note"]',
        '2["note",1,2]',
    ],
)
def test_events_that_make_no_sense(codec: SocketIOCodec, packet: str) -> None:
    """They get an answer: only what violates the protocol ends the connection."""
    assert isinstance(request_of(codec, packet), Malformed)


def test_buffers_where_none_can_be(codec: SocketIOCodec) -> None:
    within = request_of(codec, '51-["note",{"a":{"_placeholder":true,"num":0}}]', b"x")
    assert isinstance(within, Malformed)
    assert isinstance(request_of(codec, '51-["other",{"_placeholder":true,"num":0}]', b"x"), Unsupported)


def test_the_methods_of_a_namespace_have_its_name() -> None:
    assert request_of(ADMIN.open(), '2/admin,["x",1]') == Call(1, "/admin,x", b"[1]")


def test_an_acknowledgement_asks_for_nothing(codec: SocketIOCodec) -> None:
    assert codec.decode(b"31[]", binary=False) == ()


def test_the_end(codec: SocketIOCodec) -> None:
    with pytest.raises(Disconnect) as caught:
        codec.decode(b"1", binary=False)
    assert caught.value.code == CONNECTION_CLOSED


def test_answers_are_acknowledgements(codec: SocketIOCodec) -> None:
    """With the number of the event, once; without one nobody is told."""
    ids = [getattr(request_of(codec, packet), "id", 0) for packet in ('25["note",1]', '26["a"]', '2["a"]', '27["a"]')]
    assert texts(codec.published(ids[0])) == ["435[{}]"]
    assert texts(codec.answered(ids[1], b'{"a":1}')) == ['436[{"a":1}]']
    assert codec.answered(ids[2], b"1") == ()
    assert texts(codec.failed(ids[3], errors.PERMISSION_DENIED)) == [
        '437[{"error":{"code":103,"message":"permission denied"}}]'
    ]
    assert codec.published(ids[0]) == ()


def test_answers_of_a_namespace_have_its_name() -> None:
    codec = ADMIN.open()
    assert request_of(codec, "0/admin,") == Connect(1, own="own:")
    assert texts(codec.connected(1, CONNECTED)) == ['40/admin,{"sid":"c"}']
    request_of(codec, '2/admin,3["join","a"]')
    assert texts(codec.subscribed(2, "a", SubscribeResult())) == ['43/admin,3[{"channel":"a"}]']
    assert texts(ADMIN.events([Publication(CHANNEL, b"1")])) == ['42/admin,["message",1]']
    assert texts(codec.goodbye(errors.INVALID_TOKEN, is_told=False)) == ["41/admin,"]


def test_events_of_a_channel() -> None:
    """With their name, or as everybody's; text is a string, and bytes are a buffer."""
    events = [
        Publication(CHANNEL, b'{"a":1}'),
        Publication(CHANNEL, b"hello", Kind.TEXT, event="note"),
        Publication(CHANNEL, b"\0", Kind.BINARY),
    ]
    assert PROTOCOL.events(events) == [
        Message(b'42["message",{"a":1}]'),
        Message(b'42["note","hello"]'),
        Message(b'451-["message",{"_placeholder":true,"num":0}]'),
        Message(b"\0", binary=True),
    ]


def test_what_was_missed_follows_the_answer(codec: SocketIOCodec) -> None:
    missed = SubscribeResult(publications=[Publication(CHANNEL, b"1")])
    request_of(codec, "0")
    result = ConnectResult(ClientId("c"), "", 25, subs={"chat:all": missed})
    assert texts(codec.connected(1, result)) == ['40{"sid":"c"}', '42["message",1]']
    request_of(codec, '21["join","a"]')
    assert texts(codec.subscribed(2, "a", missed)) == ['431[{"channel":"a"}]', '42["message",1]']


@pytest.mark.parametrize(
    ("code", "before", "after"),
    [
        (SHUTDOWN, [], []),
        (
            errors.INVALID_TOKEN,
            ['44{"message":"invalid token","data":{"code":3500,"message":"invalid token"}}'],
            ["41"],
        ),
        (BAD_COMMAND, ['44{"message":"bad request","data":{"code":3501,"message":"bad request"}}'], []),
    ],
    ids=lambda value: value.reason if isinstance(value, CloseCode) else "",
)
def test_only_those_who_shall_stay_away_are_told(
    codec: SocketIOCodec, code: CloseCode, before: list[str], after: list[str]
) -> None:
    """Clients come back when their transport closes, but not after these packets: before the connect and after it."""
    request_of(codec, "0")
    assert texts(codec.goodbye(code, is_told=False)) == before
    codec.connected(1, CONNECTED)
    assert texts(codec.goodbye(code, is_told=False)) == after


def test_a_connect_that_is_refused(codec: SocketIOCodec) -> None:
    """The client is told, unless it shall try again."""
    request_of(codec, "0")
    told = msgspec.json.decode(codec.failed(1, ErrorCode(4001, "banned"))[0].data[2:])
    assert told == {"message": "banned", "data": {"code": 4001, "message": "banned"}}
    request_of(codec, "0")
    with pytest.raises(Disconnect) as caught:
        codec.failed(2, errors.INTERNAL)
    assert not caught.value.code.is_final


def test_what_waits_for_answers_is_bounded(codec: SocketIOCodec) -> None:
    for _ in range(MOST_ASKED):
        codec.decode(b'2["a"]', binary=False)
    with pytest.raises(Disconnect) as caught:
        codec.decode(b'2["a"]', binary=False)
    assert caught.value.code == errors.TOO_MANY_COMMANDS


def test_an_end_of_a_subscription_is_an_event() -> None:
    told = texts(PROTOCOL.push_unsubscribe("a", errors.UNSUBSCRIBED_BY_SERVER))
    code, reason = errors.UNSUBSCRIBED_BY_SERVER
    assert told == [f'42["gateway:unsubscribed",{{"channel":"a","code":{code},"reason":"{reason}"}}]']


PARTS = st.sampled_from(
    ["0", "1", "2", "3", "5", "1-", "/admin,", '["join",', '"a"', "]", "{}", '{"_placeholder":true']
)


@settings(derandomize=True, max_examples=500)
@given(st.lists(st.lists(PARTS, max_size=6).map("".join).map(str.encode) | st.binary(max_size=30), max_size=6))
def test_any_messages_are_requests_or_end_the_connection(messages: list[bytes]) -> None:
    codec = PROTOCOL.open()
    for number, message in enumerate(messages):
        try:
            assert len(codec.decode(message, binary=number % 3 == 2)) <= 1
        except Disconnect:
            return
