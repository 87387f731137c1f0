"""The native protocol, whatever encodes it: what commands ask for, and what clients are told."""

import json
from typing import Any

import pytest

from gateway.errors import (
    BAD_COMMAND,
    FORCE_DISCONNECT,
    INTERNAL,
    PERMISSION_DENIED,
    UNSUBSCRIBED_INSUFFICIENT,
    CloseCode,
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
    HistoryPage,
    MemberCounts,
    Membership,
    Pong,
    Position,
    Presence,
    PresenceStats,
    Publication,
    Publish,
    Refresh,
    RefreshResult,
    SubRefresh,
    Subscribe,
    SubscribeResult,
    Unsubscribe,
    Unsupported,
)
from gateway.protocols.frames import FRAME_LIMIT
from gateway.protocols.wire_protocol import Message
from tests.protocols.encodings import ENCODINGS, Encoding, requests_of, told

CHANNEL = Channel("default", 'a"b')


@pytest.fixture(params=ENCODINGS)
def encoding(request: pytest.FixtureRequest) -> Encoding:
    return ENCODINGS[request.param]


def is_told(encoding: Encoding, messages: Any, *expected: dict[str, Any]) -> bool:
    """Whether this is all that the messages tell."""
    return told(encoding, messages) == [encoding.reply(each) for each in expected]


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        (
            {"id": 1, "connect": {"token": "t", "data": {"x": 1}, "name": "js", "version": "5"}},
            Connect(1, "t", data=b'{"x":1}', name="js", version="5"),
        ),
        ({"id": 1, "connect": {}}, Connect(1)),
        ({"id": 1, "connect": {"headers": {"x": "y"}, "flag": 1}}, Connect(1)),
        ({"id": 2, "subscribe": {"channel": "c", "token": "t"}}, Subscribe(2, "c", "t")),
        (
            {"id": 2, "subscribe": {"channel": "c", "recover": True, "offset": 7, "epoch": "x", "flag": 1}},
            Subscribe(2, "c", since=Position(7, "x")),
        ),
        (
            {"id": 2, "subscribe": {"channel": "c", "flag": 3, "delta": "fossil"}},
            Subscribe(2, "c", all_or_nothing=True, delta=True),
        ),
        (
            {
                "id": 1,
                "subscribe": {"channel": "c", "data": [1], "positioned": True, "recoverable": True, "join_leave": True},
            },
            Subscribe(1, "c", data=b"[1]"),
        ),
        (
            {"id": 1, "connect": {"subs": {"c": {"recover": True, "offset": 7, "epoch": "x"}, "d": {"offset": 7}}}},
            Connect(1, positions={"c": Position(7, "x")}),
        ),
        ({"id": 3, "unsubscribe": {"channel": "c"}}, Unsubscribe(3, "c")),
        ({"id": 4, "publish": {"channel": "c", "data": [1, 2]}}, Publish(4, "c", b"[1,2]")),
        ({"id": 4, "publish": {"channel": "c", "data": None}}, Publish(4, "c", b"null")),
        ({"id": 4, "publish": {"channel": "c"}}, Publish(4, "c", b"")),
        ({"send": {"data": "hi"}}, Call(0, "", b'"hi"')),
        ({"id": 5, "rpc": {"method": "m", "data": 0}}, Call(5, "m", b"0")),
        ({"id": 6, "refresh": {"token": "t"}}, Refresh(6, "t")),
        ({"id": 7, "sub_refresh": {"channel": "c", "token": "t"}}, SubRefresh(7, "c", "t")),
        ({"id": 8, "presence": {"channel": "c"}}, Presence(8, "c")),
        ({"id": 8, "presence_stats": {"channel": "c"}}, PresenceStats(8, "c")),
        ({"id": 8, "history": {"channel": "c", "limit": 10}}, History(8, "c", 10)),
        ({"id": 8, "history": {"channel": "c", "limit": -1}}, History(8, "c", -1)),
        (
            {"id": 8, "history": {"channel": "c", "since": {"offset": 3, "epoch": "x"}, "reverse": True}},
            History(8, "c", 0, Position(3, "x"), reverse=True),
        ),
        ({"id": 8, "ping": {}}, Unsupported(8, "ping")),
        ({}, Pong()),
        ({"id": 4294967295, "unsubscribe": {"channel": "c"}}, Unsubscribe(4294967295, "c")),
        (
            {"id": 1, "subscribe": {"channel": "c", "tf": {"op": "and", "nodes": [{"vals": ["a"]}]}}},
            Unsupported(1, "subscribe with tf", "c"),
        ),
        ({"id": 1, "subscribe": {"channel": "c", "tf": {}}}, Unsupported(1, "subscribe with tf", "c")),
        ({"id": 1, "subscribe": {"channel": "c", "type": -1}}, Unsupported(1, "subscribe with type", "c")),
        ({"id": 1, "subscribe": {"channel": "c", "phase": 1}}, Unsupported(1, "subscribe with phase", "c")),
        ({"id": 1, "subscribe": {"channel": "c", "cursor": "x"}}, Unsupported(1, "subscribe with cursor", "c")),
        ({"id": 1, "subscribe": {"channel": "c", "limit": 1}}, Unsupported(1, "subscribe with limit", "c")),
        ({"id": 1, "subscribe": {"channel": "c", "asc": True}}, Unsupported(1, "subscribe with asc", "c")),
        ({"id": 1, "subscribe": {"channel": "c", "delta": "x"}}, Unsupported(1, "subscribe with this delta", "c")),
        ({"id": 1, "publish": {"channel": "c", "type": 1}}, Unsupported(1, "publish with type", "c")),
        ({"id": 1, "publish": {"channel": "c", "key": "k"}}, Unsupported(1, "publish with key", "c")),
        ({"id": 1, "publish": {"channel": "c", "removed": True}}, Unsupported(1, "publish with removed", "c")),
        ({"id": 1, "sub_refresh": {"channel": "c", "type": 1}}, Unsupported(1, "sub_refresh with type", "c")),
        (
            {
                "id": 1,
                "sub_refresh": {"channel": "c", "track": [{"signature": "s", "items": [{"key": "k", "version": 1}]}]},
            },
            Unsupported(1, "sub_refresh with track", "c"),
        ),
        ({"id": 1, "sub_refresh": {"channel": "c", "untrack": ["k"]}}, Unsupported(1, "sub_refresh with untrack", "c")),
    ],
)
def test_commands(encoding: Encoding, command: dict[str, Any], request_: object) -> None:
    """Each command becomes its request, or one that is not available."""
    assert requests_of(encoding, command) == [request_]


@pytest.mark.parametrize("field", ["type", "phase", "cursor", "limit", "asc"])
def test_empty_values_ask_for_nothing(encoding: Encoding, field: str) -> None:
    """As defaults that a serialiser writes."""
    empty = {"cursor": "", "asc": False}.get(field, 0)
    assert requests_of(encoding, {"id": 1, "subscribe": {"channel": "c", field: empty}}) == [Subscribe(1, "c")]


def test_server_side_subscriptions_have_no_filters_either(encoding: Encoding) -> None:
    command = {"id": 1, "connect": {"subs": {"a": {}, "b": {"tf": {"key": "k"}}}}}
    assert requests_of(encoding, command) == [Connect(1, unavailable="tf")]
    command = {"id": 1, "connect": {"subs": {"a": {}, "c": {"type": 1}}}}
    assert requests_of(encoding, command) == [Connect(1, unavailable="type")]


def test_the_largest_offset_is_one_that_no_stream_has_reached(encoding: Encoding) -> None:
    """Offsets are uint64 on the wire, and smaller here."""
    command = {"id": 2, "subscribe": {"channel": "c", "recover": True, "offset": 2**64 - 1}}
    assert requests_of(encoding, command) == [Subscribe(2, "c", since=Position(2**63 - 1, ""))]


@pytest.mark.parametrize(
    "command",
    [
        {"id": 1},
        {"id": 1, "connect": {}, "publish": {"channel": "c", "data": 1}},
        {"id": 0, "connect": {}},
        {"publish": {"channel": "c", "data": 1}},
    ],
)
def test_other_commands_are_a_bad_request(encoding: Encoding, command: dict[str, Any]) -> None:
    """No command, two, or one without an id: close code 3501."""
    with pytest.raises(Disconnect) as caught:
        requests_of(encoding, command)
    assert caught.value.code == BAD_COMMAND


def test_frames_of_the_other_encoding_are_a_bad_request(encoding: Encoding) -> None:
    with pytest.raises(Disconnect) as caught:
        encoding.protocol.decode(encoding.written({}), binary=not encoding.binary)
    assert caught.value.code == BAD_COMMAND


def test_several_commands_in_one_frame_keep_their_order(encoding: Encoding) -> None:
    commands: list[dict[str, Any]] = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "c" * 200}}, {}]
    assert requests_of(encoding, *commands) == [Connect(1), Subscribe(2, "c" * 200), Pong()]
    assert encoding.protocol.count(encoding.frame(*commands)) == 3
    assert all(encoding.protocol.count(encoding.frame(command)) == 1 for command in commands)


def test_without_pings_the_client_is_told_of_none(encoding: Encoding) -> None:
    """The transport has its own."""
    codec = encoding.silent.open()
    messages = codec.connected(1, ConnectResult(ClientId("c"), "1", ping=25))
    assert is_told(encoding, messages, {"id": 1, "connect": {"client": "c", "version": "1"}})
    assert encoding.silent.ping() == ()


def test_connect_reply(encoding: Encoding) -> None:
    """Zero fields are left out."""
    plain = encoding.protocol.connected(1, ConnectResult(ClientId("u"), "0.1", ping=25))
    assert is_told(encoding, plain, {"id": 1, "connect": {"client": "u", "version": "0.1", "ping": 25, "pong": True}})
    full = ConnectResult(
        ClientId("u"),
        "0.1",
        ping=25,
        pong=False,
        expires=True,
        ttl=60,
        node='n"1',
        data=b'{"a":1}',
        subs={"a": SubscribeResult(), 'b"': SubscribeResult(expires=True, ttl=5, data=b"[1]")},
    )
    expected = {
        "client": "u",
        "version": "0.1",
        "ping": 25,
        "expires": True,
        "ttl": 60,
        "node": 'n"1',
        "data": {"a": 1},
        "subs": {"a": {}, 'b"': {"expires": True, "ttl": 5, "data": [1]}},
    }
    assert is_told(encoding, encoding.protocol.connected(1, full), {"id": 1, "connect": expected})


def test_replies(encoding: Encoding) -> None:
    protocol = encoding.protocol
    expiring = SubscribeResult(expires=True, ttl=900)
    expiry = {"expires": True, "ttl": 900}
    assert is_told(encoding, protocol.subscribed(2, "c", SubscribeResult()), {"id": 2, "subscribe": {}})
    assert is_told(encoding, protocol.subscribed(2, "c", expiring), {"id": 2, "subscribe": expiry})
    assert is_told(encoding, protocol.sub_refreshed(2, expiring), {"id": 2, "sub_refresh": expiry})
    assert is_told(encoding, protocol.unsubscribed(3), {"id": 3, "unsubscribe": {}})
    assert is_told(encoding, protocol.published(2**32 - 1), {"id": 2**32 - 1, "publish": {}})
    assert is_told(encoding, protocol.answered(9, b'{"a":1}'), {"id": 9, "rpc": {"data": {"a": 1}}})
    assert is_told(
        encoding,
        protocol.refreshed(5, RefreshResult(ClientId("u"), "0.1", expires=True, ttl=3)),
        {"id": 5, "refresh": {"client": "u", "version": "0.1", "expires": True, "ttl": 3}},
    )
    assert is_told(
        encoding,
        protocol.refreshed(5, RefreshResult(ClientId("u"), "0.1")),
        {"id": 5, "refresh": {"client": "u", "version": "0.1"}},
    )


def test_a_full_subscription(encoding: Encoding) -> None:
    missed = [Publication(CHANNEL, str(number).encode(), offset=number) for number in (8, 9)]
    result = SubscribeResult(
        expires=True, ttl=5, data=b"{}", position=Position(7, "e"), recovered=True, publications=missed
    )
    expected = {
        "expires": True,
        "ttl": 5,
        "data": {},
        "recoverable": True,
        "positioned": True,
        "epoch": "e",
        "offset": 7,
        "was_recovering": True,
        "recovered": True,
        "publications": [{"data": 8, "offset": 8}, {"data": 9, "offset": 9}],
    }
    assert is_told(encoding, encoding.protocol.subscribed(2, "c", result), {"id": 2, "subscribe": expected})
    lost = SubscribeResult(position=Position(0, "e"), recovered=False)
    expected = {"recoverable": True, "positioned": True, "epoch": "e", "was_recovering": True}
    assert is_told(encoding, encoding.protocol.subscribed(2, "c", lost), {"id": 2, "subscribe": expected})


def test_what_was_read(encoding: Encoding) -> None:
    protocol = encoding.protocol
    page = HistoryPage([Publication(CHANNEL, b"2", offset=2)], Position(9, "e"))
    history = {"publications": [{"data": 2, "offset": 2}], "epoch": "e", "offset": 9}
    assert is_told(encoding, protocol.history(4, page), {"id": 4, "history": history})
    empty = {"publications": [], "epoch": "", "offset": 0}
    assert is_told(encoding, protocol.history(4, HistoryPage([], Position(0, ""))), {"id": 4, "history": empty})
    members = [ClientInfo("ann", "x", b"1"), ClientInfo("", "y", b"", b"[2]")]
    presence = {
        "x": {"user": "ann", "client": "x", "conn_info": 1},
        "y": {"user": "", "client": "y", "chan_info": [2]},
    }
    assert is_told(encoding, protocol.presence(5, members), {"id": 5, "presence": {"presence": presence}})
    assert is_told(encoding, protocol.presence(5, []), {"id": 5, "presence": {"presence": {}}})
    counts = {"num_clients": 300, "num_users": 2}
    assert is_told(encoding, protocol.presence_stats(6, MemberCounts(300, 2)), {"id": 6, "presence_stats": counts})


def test_errors_say_whether_they_are_temporary(encoding: Encoding) -> None:
    final = {"id": 1, "error": {"code": 103, "message": "permission denied"}}
    assert is_told(encoding, encoding.protocol.failed(1, PERMISSION_DENIED), final)
    temporary = {"id": 1, "error": {"code": 100, "message": "internal server error", "temporary": True}}
    assert is_told(encoding, encoding.protocol.failed(1, INTERNAL), temporary)


def test_pushes(encoding: Encoding) -> None:
    protocol = encoding.protocol
    push: dict[str, Any] = {"channel": "c", "subscribe": {"data": 1}}
    assert is_told(encoding, protocol.push_subscribe("c", SubscribeResult(data=b"1")), {"push": push})
    push = {"channel": "c", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
    assert is_told(encoding, protocol.push_unsubscribe("c", UNSUBSCRIBED_INSUFFICIENT), {"push": push})
    assert is_told(encoding, protocol.push_refresh(30), {"push": {"refresh": {"expires": True, "ttl": 30}}})
    assert is_told(encoding, protocol.push_refresh(0), {"push": {"refresh": {}}})
    assert is_told(encoding, protocol.ping(), {})


def test_a_subscription_by_the_server_is_followed_by_what_was_missed(encoding: Encoding) -> None:
    missed = Publication(Channel("default", "c"), b"8", offset=8)
    result = SubscribeResult(position=Position(7, "e"), recovered=True, publications=[missed])
    subscribe = {"recoverable": True, "positioned": True, "epoch": "e", "offset": 7}
    assert is_told(
        encoding,
        encoding.protocol.push_subscribe("c", result),
        {"push": {"channel": "c", "subscribe": subscribe}},
        {"push": {"channel": "c", "pub": {"data": 8, "offset": 8}}},
    )


def test_the_last_message_tells_the_code_where_the_transport_does_not(encoding: Encoding) -> None:
    codec = encoding.protocol.open()
    assert codec.goodbye(FORCE_DISCONNECT, is_told=True) == ()
    push = {"disconnect": {"code": 4001, "reason": "enough"}}
    assert is_told(encoding, codec.goodbye(CloseCode(4001, "enough"), is_told=False), {"push": push})


def test_joins_and_leaves(encoding: Encoding) -> None:
    info = ClientInfo("ann", "x", b"1", b'{"a":2}')
    events = [Membership(CHANNEL, info, joined=True), Membership(CHANNEL, info, joined=False)]
    shown = {"info": {"user": "ann", "client": "x", "conn_info": 1, "chan_info": {"a": 2}}}
    pushes = [{"push": {"channel": 'a"b', name: shown}} for name in ("join", "leave")]
    assert is_told(encoding, encoding.protocol.events(events), *pushes)


def test_a_full_publication(encoding: Encoding) -> None:
    publication = Publication(
        CHANNEL,
        b'{"n":1}',
        offset=1200,
        epoch="e",
        tags={"k": "v", "": "x"},
        info=ClientInfo("ann", "id-1", b'{"name":"Ann"}', b"[1]"),
        time=5,
        exclude_client="x",
    )
    pub: dict[str, Any] = {
        "data": {"n": 1},
        "info": {"user": "ann", "client": "id-1", "conn_info": {"name": "Ann"}, "chan_info": [1]},
        "offset": 1200,
        "tags": {"k": "v", "": "x"},
    }
    assert is_told(encoding, encoding.protocol.events([publication]), {"push": {"channel": 'a"b', "pub": pub}})
    first = Publication(CHANNEL, b"1", info=ClientInfo("", "id-2"), offset=1, epoch="e")
    pub = {"data": 1, "info": {"user": "", "client": "id-2"}, "offset": 1, "epoch": "e"}
    assert is_told(encoding, encoding.protocol.events([first]), {"push": {"channel": 'a"b', "pub": pub}})


def test_many_publications_share_frames_up_to_a_limit(encoding: Encoding) -> None:
    """Clients bound the size of a message, so a frame ends in time; no publication is split or lost."""
    texts = ["x" * 5000 + str(number) for number in range(40)]
    messages = encoding.protocol.events([Publication(CHANNEL, json.dumps(text).encode()) for text in texts])
    assert 1 < len(messages) < 10
    assert all(len(message.data) <= FRAME_LIMIT + 40 for message in messages)
    assert is_told(encoding, messages, *({"push": {"channel": 'a"b', "pub": {"data": text}}} for text in texts))


def test_replies_and_pushes_share_a_frame(encoding: Encoding) -> None:
    protocol = encoding.protocol
    messages: list[Message] = [*protocol.published(3), *protocol.events([Publication(CHANNEL, b"1")])]
    push = {"push": {"channel": 'a"b', "pub": {"data": 1}}}
    batch = protocol.batch(messages)
    assert len(batch) == 1
    assert is_told(encoding, batch, {"id": 3, "publish": {}}, push)
