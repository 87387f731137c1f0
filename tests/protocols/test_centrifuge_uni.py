"""The unidirectional variant: pushes without what is around them."""

import json
from typing import Any

import pytest

from gateway import errors
from gateway.errors import Disconnect, ErrorCode
from gateway.messages import (
    Channel,
    ClientId,
    ClientInfo,
    Connect,
    ConnectResult,
    Event,
    Kind,
    Membership,
    Position,
    Publication,
    SubscribeResult,
)
from gateway.protocols.centrifuge_uni import UniCentrifugeProtocol

PROTOCOL = UniCentrifugeProtocol()
ROOM = Channel("default", "room")


def lines(messages: Any) -> list[Any]:
    return [json.loads(line) for message in messages for line in message.data.split(b"\n")]


def publication(data: bytes, offset: int = 0) -> Publication:
    return Publication(ROOM, data, Kind.JSON, offset=offset, epoch="e" if offset else "")


def test_the_first_message_is_the_connect_push() -> None:
    """No id, and no pong: nobody answers."""
    subs = {"room": SubscribeResult(position=Position(3, "e"))}
    result = ConnectResult(ClientId("c"), "1", ping=25, pong=True, node="n", data=b'{"a":1}', subs=subs)
    assert lines(PROTOCOL.connected(1, result)) == [
        {
            "connect": {
                "client": "c",
                "version": "1",
                "ping": 25,
                "node": "n",
                "data": {"a": 1},
                "subs": {"room": {"recoverable": True, "positioned": True, "epoch": "e", "offset": 3}},
            }
        }
    ]


def test_events_are_one_line_each() -> None:
    """Also those that share a message."""
    joined = Membership(ROOM, ClientInfo("u", "c"), joined=True)
    events: list[Event] = [publication(b'{"push":{"push":1}}'), publication(b'"}}"', 2), joined]
    assert lines(PROTOCOL.events(events)) == [
        {"channel": "room", "pub": {"data": {"push": {"push": 1}}}},
        {"channel": "room", "pub": {"data": "}}", "offset": 2}},
        {"channel": "room", "join": {"info": {"user": "u", "client": "c"}}},
    ]
    assert lines(PROTOCOL.events(events[:1])) == lines(PROTOCOL.events(events))[:1]


def test_deltas() -> None:
    """As in the protocol with replies."""
    before, after = publication(b'{"text":"%b"}' % (b"x" * 200), 1), publication(b'{"text":"%by"}' % (b"x" * 200), 2)
    (push,) = lines(PROTOCOL.events_after(before, [after]))
    assert (push["channel"], push["pub"]["delta"]) == ("room", True)


def test_pushes_of_the_server() -> None:
    """What was missed follows a subscribe."""
    result = SubscribeResult(publications=(publication(b"1", 1), publication(b"2", 2)), position=Position(2, "e"))
    subscribe, first, second = lines(PROTOCOL.push_subscribe("room", result))
    assert (subscribe["channel"], subscribe["subscribe"]["offset"]) == ("room", 2)
    assert [first["pub"]["data"], second["pub"]["data"]] == [1, 2]
    (unsubscribe,) = lines(PROTOCOL.push_unsubscribe("room", errors.UNSUBSCRIBED_BY_SERVER))
    assert unsubscribe["unsubscribe"]["code"] == 2000
    assert lines(PROTOCOL.push_refresh(60)) == [{"refresh": {"expires": True, "ttl": 60}}]
    (goodbye,) = lines(PROTOCOL.goodbye(errors.SHUTDOWN, is_told=False))
    assert goodbye["disconnect"]["code"] == errors.SHUTDOWN.code
    assert not PROTOCOL.goodbye(errors.SHUTDOWN, is_told=True)
    assert lines(PROTOCOL.ping()) == [{}]


def test_a_connect_request() -> None:
    """The body of a connect command, without its envelope."""
    request = b'{"token":"t","data":{"a":1},"subs":{"room":{"recover":true,"epoch":"e","offset":7}}}'
    assert PROTOCOL.decode(request, binary=False) == (
        Connect(1, "t", positions={"room": Position(7, "e")}, data=b'{"a":1}'),
    )


@pytest.mark.parametrize("request_", [b"", b"[]", b'{"token":1}', b"\xff", b'{"a":' * 5_000, b"[" * 5_000])
def test_what_is_no_connect_request(request_: bytes) -> None:
    """Closes the connection."""
    with pytest.raises(Disconnect) as caught:
        PROTOCOL.decode(request_, binary=False)
    assert caught.value.code == errors.BAD_COMMAND


def test_binary_messages() -> None:
    """Protobuf would be one."""
    with pytest.raises(Disconnect):
        PROTOCOL.decode(b"{}", binary=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TOKEN_EXPIRED, 3005),
        (errors.EXPIRED, 3005),
        (errors.PERMISSION_DENIED, 3507),
        (errors.INTERNAL, 3004),
        (errors.TOO_MANY_REQUESTS, 3013),
    ],
)
def test_errors_close_the_connection(error: ErrorCode, code: int) -> None:
    """There are no replies."""
    with pytest.raises(Disconnect) as caught:
        PROTOCOL.failed(1, error)
    assert (caught.value.code.code, caught.value.code.reason) == (code, error.message)
