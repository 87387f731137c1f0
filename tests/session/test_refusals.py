"""Why did my client not get it: every refusal is answered with its code and logged once, with what would allow it."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.control import DisconnectUser, SubscribeUser
from gateway.errors import CloseCode, Disconnect
from gateway.hub.encoder import Encoder
from gateway.messages import Connect, Subscribe
from gateway.protocols.centrifuge import CentrifugeProtocol
from tests.fakes import PlainFraming
from tests.reconnection import reconnects
from tests.session.conftest import Client, World, lines

MakeWorld = Callable[..., World]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """The fields of the lines about refusals."""
    caplog.set_level("INFO", "gateway.refusals")
    return lambda: [
        {"message": record.getMessage(), **vars(record)}
        for record in caplog.records
        if record.name == "gateway.refusals"
    ]


Logged = Callable[[], list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("command", "code", "rule", "setting"),
    [
        ({"subscribe": {"channel": "nowhere:x"}}, 102, "not configured", "namespaces.nowhere"),
        ({"subscribe": {"channel": "with space"}}, 107, "printable ASCII", None),
        ({"subscribe": {"channel": "closed:x"}}, 103, "subscription token", "namespaces.closed.allow_subscribe"),
        ({"subscribe": {"channel": "$x"}}, 103, "start with $", "a subscription token for the channel"),
        ({"subscribe": {"channel": "$x", "token": "forged"}}, 103, "token", None),
        ({"subscribe": {"channel": "first"}}, 105, "already subscribed", None),
        ({"subscribe": {"channel": "third"}}, 106, "too many channels", "limits.channels"),
        ({"publish": {"channel": "closed:x", "data": 1}}, 103, "clients", "namespaces.closed.allow_publish"),
        (
            {"publish": {"channel": "room#bob", "data": 1}},
            103,
            "after #",
            "the user's id after # in the channel's name",
        ),
        ({"publish": {"channel": "first"}}, 107, "without data", None),
        ({"rpc": {"method": "m"}}, 108, "no rpc hook", None),
        ({"history": {"channel": "first"}}, 108, "no history", "channels.history_size"),
        ({"history": {"channel": "price:a"}}, 108, "delivery = 'latest'", None),
        ({"presence": {"channel": "first"}}, 108, "no presence", "channels.presence"),
        ({"presence_stats": {"channel": "first"}}, 108, "no presence", "channels.presence"),
        ({"ping": {}}, 108, "ping", None),
        ({"sub_refresh": {"channel": "other", "token": "t"}}, 103, "not subscribed", None),
        ({"subscribe": {}}, 107, "without a channel", None),
        ({"subscribe": {"channel": None}}, 107, "without a channel", None),
        ({"unsubscribe": {"channel": ""}}, 107, "without a channel", None),
        ({"publish": {"data": 1}}, 107, "without a channel", None),
        ({"history": {}}, 107, "without a channel", None),
        ({"presence": {}}, 107, "without a channel", None),
        ({"presence_stats": {}}, 107, "without a channel", None),
        ({"sub_refresh": {"token": "t"}}, 107, "without a channel", None),
        ({"sub_refresh": {"channel": "first"}}, 107, "without a token", None),
        ({"sub_refresh": {"channel": "first", "token": None}}, 107, "without a token", None),
        ({"refresh": {}}, 107, "without a token", None),
        ({"refresh": {"token": ""}}, 107, "without a token", None),
        ({"subscribe": {"channel": "x", "tf": {"key": "a", "cmp": "eq", "val": "1"}}}, 108, "subscribe with tf", None),
        ({"subscribe": {"channel": "x", "type": 1}}, 108, "subscribe with type", None),
        ({"subscribe": {"channel": "x", "type": 99}}, 108, "subscribe with type", None),
        ({"subscribe": {"channel": "x", "phase": 2}}, 108, "subscribe with phase", None),
        ({"subscribe": {"channel": "x", "cursor": "c"}}, 108, "subscribe with cursor", None),
        ({"subscribe": {"channel": "x", "limit": 10}}, 108, "subscribe with limit", None),
        ({"subscribe": {"channel": "x", "asc": True}}, 108, "subscribe with asc", None),
        ({"subscribe": {"channel": "x", "delta": "other"}}, 108, "this delta", None),
        ({"publish": {"channel": "x", "data": 1, "type": 1}}, 108, "publish with type", None),
        ({"publish": {"channel": "x", "data": 1, "key": "k"}}, 108, "publish with key", None),
        ({"publish": {"channel": "x", "removed": True}}, 108, "publish with removed", None),
        ({"sub_refresh": {"channel": "first", "type": 1, "track": [{}]}}, 108, "sub_refresh with type", None),
        ({"sub_refresh": {"channel": "first", "token": "t", "track": [{}]}}, 108, "sub_refresh with track", None),
        ({"sub_refresh": {"channel": "first", "untrack": ["k"]}}, 108, "sub_refresh with untrack", None),
    ],
)
def test_an_error_is_logged_once_with_what_would_allow_it(
    make_world: MakeWorld, logged: Logged, command: dict[str, Any], code: int, rule: str, setting: str | None
) -> None:
    full = command.get("subscribe", {}).get("channel") in ("third", "first")
    world = make_world(limits={"channels": 2 if full else 128})
    client = world.subscriber("first", "second", user="ann")
    (reply,) = client.send({"id": 9, **command})
    assert reply["id"] == 9
    assert reply["error"]["code"] == code
    assert "temporary" not in reply["error"]
    (line,) = logged()
    (body,) = command.values()
    assert line["client"] == client.session.client
    assert line["user"] == "ann"
    assert line.get("channel", "") == (body.get("channel") or "")
    assert rule in line["rule"]
    assert line.get("setting") == setting
    assert client.closed_with() is None


def test_a_publish_too_many_is_temporary(make_world: MakeWorld, logged: Logged) -> None:
    client = make_world(limits={"publishes_per_second": 1}).connect()
    publish = {"id": 2, "publish": {"channel": "news", "data": 1}}
    _, refused = client.send(publish, publish)
    assert refused["error"] == {"code": 111, "message": "too many requests", "temporary": True}
    (line,) = logged()
    assert line["message"] == "publish refused"
    assert line["setting"] == "limits.publishes_per_second"


def test_an_expired_token_is_logged(world: World, logged: Logged) -> None:
    client = world.open()
    token = world.token("ann", expires_in=5)
    world.scheduler.advance(6)
    assert client.send({"id": 1, "connect": {"token": token}})[0]["error"] == {"code": 109, "message": "token expired"}
    (line,) = logged()
    assert (line["message"], line["rule"]) == ("connect refused", "token expired")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"id": 1, "connect": {}}, errors.BAD_COMMAND),
        ({"subscribe": {"channel": "news"}}, errors.BAD_COMMAND),
        ({"id": 2}, errors.BAD_COMMAND),
        ({}, errors.BAD_COMMAND),
        ({"send": {"data": 1}}, errors.NO_HANDLER),
        ({"id": 2, "refresh": {"token": "forged"}}, errors.INVALID_TOKEN),
    ],
)
def test_an_offence_closes_for_good_and_is_logged_once(
    world: World, logged: Logged, command: dict[str, Any], code: CloseCode
) -> None:
    client = world.connect("ann")
    assert client.send(command) == []
    assert client.closed_with() == code
    assert not reconnects(code)
    (line,) = logged()
    assert (line["message"], line["code"]) == ("connection closed", code.code)
    assert line["detail"]
    assert world.metrics.closed.values == {str(code.code): 1}
    assert world.broker.subscribed == set()


@pytest.mark.parametrize(
    ("code", "reason", "label", "reconnect"),
    [(3503, "force disconnect", "3503", False), (4001, "ours", "custom", True), (4501, "ours", "custom", False)],
)
def test_disconnected_by_a_backend(world: World, code: int, reason: str, label: str, reconnect: bool) -> None:
    """All connections of the user but those listed, or one; with the code that the backend chose."""
    clients = [world.connect("ann") for _ in range(4)]
    other = world.connect("bob")
    first, second, third, listed = clients
    one = DisconnectUser("default", "ann", first.session.client, code=code, reason=reason)
    assert world.node.on_control(one) == 1
    assert first.closed_with() == CloseCode(code, reason)
    assert reconnects(CloseCode(code, reason)) is reconnect
    rest = DisconnectUser("default", "ann", whitelist=(listed.session.client,), code=code, reason=reason)
    assert world.node.on_control(rest) == 2
    assert [client.closed_with() for client in (second, third)] == [CloseCode(code, reason)] * 2
    assert listed.closed_with() is None
    assert other.closed_with() is None
    assert world.metrics.closed.values == {label: 3}


def test_a_client_of_another_user_is_not_reached_by_its_id(world: World) -> None:
    client = world.connect("ann")
    assert world.node.on_control(DisconnectUser("default", "bob", client.session.client)) == 0
    assert world.node.on_control(DisconnectUser("other", "ann")) == 0
    assert client.closed_with() is None


def test_a_plain_client_is_told_by_the_close(world: World, logged: Logged) -> None:
    token = world.token("ann", channels=["closed:y"])
    client = world.open_plain(Connect(1, token), Subscribe(2, "closed:x"), channel="closed:x")
    assert client.closed_with() == errors.NOT_PERMITTED
    refused, closed = logged()
    assert refused["message"] == "subscribe refused"
    assert refused["channel"] == "closed:x"
    assert closed["code"] == errors.NOT_PERMITTED.code
    assert closed["detail"] == refused["rule"]


@pytest.mark.parametrize(
    ("channel", "reason", "detail"),
    [
        ("nowhere:x", "unknown channel", "nowhere"),
        ("a b", "bad request", "channel"),
        ("news", "permission denied", "may not subscribe"),
    ],
)
def test_the_close_of_a_plain_client_says_what_is_wrong(
    make_world: MakeWorld, logged: Logged, channel: str, reason: str, detail: str
) -> None:
    """To the client with the words of the error, and to the log with the rule."""
    client = make_world(channels={"allow_subscribe": []}).open_plain(
        Connect(1, ""), Subscribe(2, channel), channel=channel
    )
    code = client.closed_with()
    assert code is not None
    assert code.reason == reason
    assert detail in str(logged()[-1]["detail"])


def test_a_plain_client_has_one_channel(make_world: MakeWorld) -> None:
    """Nobody could tell what came from another: neither the token, nor its person, nor a backend adds any."""
    world = make_world(personal={"enabled": True})
    client = world.open_plain(Connect(1, world.token("ann", channels=["a", "b"])), Subscribe(2, "news"), channel="news")
    world.node.on_control(SubscribeUser("default", "ann", "c"))
    assert set(client.session.subs) == {"news"}
    assert client.closed_with() is None


@pytest.mark.parametrize("channel", ["closed:x", "#ann"])
def test_what_a_token_subscribes_to_is_open_to_a_plain_client(make_world: MakeWorld, channel: str) -> None:
    """Without another permission, once."""
    world = make_world(personal={"enabled": True})
    client = world.open_plain(
        Connect(1, world.token("ann", channels=["closed:x"])), Subscribe(2, channel), channel=channel
    )
    assert client.closed_with() is None
    assert set(client.session.subs) == {channel}


# Personal channels


def test_a_personal_channel_is_the_users_own(make_world: MakeWorld) -> None:
    world = make_world(personal={"enabled": True, "namespace": "own"})
    client = world.connect("ann")
    (reply,) = client.send({"id": 2, "subscribe": {"channel": "own:#ann"}})
    assert reply["error"]["code"] == 105
    (reply,) = client.send({"id": 3, "subscribe": {"channel": "own:#bob"}})
    assert reply["error"]["code"] == 103
    assert client.send({"id": 4, "unsubscribe": {"channel": "own:#ann"}}) == [{"id": 4, "unsubscribe": {}}]
    (reply,) = client.send({"id": 5, "subscribe": {"channel": "own:#ann"}})
    assert reply["error"]["code"] == 103


@pytest.mark.parametrize("user", ["", "a,b", "a#b", "ä", "x" * 255])
def test_whose_name_fits_into_no_channel_has_none(make_world: MakeWorld, user: str) -> None:
    """And connects all the same."""
    client = make_world(personal={"enabled": True}).connect(user)
    assert client.session.subs == {}


def test_the_personal_channel_counts_among_the_tokens(make_world: MakeWorld) -> None:
    world = make_world(personal={"enabled": True}, limits={"channels": 2})
    world.connect("ann", channels=["a"])
    client = world.open()
    client.send({"id": 1, "connect": {"token": world.token("ann", channels=["a", "b"])}})
    assert client.closed_with() == errors.CHANNEL_LIMIT


def test_all_devices_of_a_user_hear_its_channel(make_world: MakeWorld) -> None:
    world = make_world(personal={"enabled": True})
    devices, other = [world.connect("ann"), world.connect("ann")], world.connect("bob")
    world.publish("#ann", "hello", exclude_client=devices[0].session.client)
    world.publish("#ann", "all")
    assert [len(client.got()) for client in (*devices, other)] == [1, 2, 0]


def test_a_closed_session_keeps_nothing_and_is_kept_by_nothing(world: World) -> None:
    """Else whoever connects with 64 KiB of data and leaves, again and again, fills the memory of the node."""
    client = world.open()
    world.verifier.hold = True
    request = Connect(1, "x" * 1000)
    client.session.inbox.put((request,))
    world.scheduler.turn()
    client.session.closed(1006, "")
    world.verifier.held.clear()
    client.transport.connection = None
    references = sys.getrefcount(request), sys.getrefcount(client.session)
    # Of this test, or of its client, and of the call.
    assert references == (2, 2)


@pytest.mark.parametrize("part", ["count", "cut"])
@pytest.mark.parametrize("error", [Disconnect(errors.BAD_COMMAND), ZeroDivisionError()], ids=["refusal", "fault"])
def test_a_message_that_cannot_be_taken_apart_closes_the_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    """The transport, which does not expect exceptions, hears of none."""

    class Broken(CentrifugeProtocol):
        pass

    def fail(self: object, *arguments: object) -> int:
        raise error

    monkeypatch.setattr(Broken, part, fail)
    client = Client(world, Encoder(Broken(), PlainFraming(lines)))
    client.raw(b'{"id":1,"connect":{}}\n{"id":2,"ping":{}}')
    expected = errors.BAD_COMMAND if isinstance(error, Disconnect) else errors.SERVER_ERROR
    assert client.closed_with() == expected


def test_a_goodbye_that_cannot_be_said_keeps_nothing_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.connect()

    def fail(self: object, code: CloseCode, codec: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Encoder, "goodbye", fail)
    client.session.disconnect(errors.FORCE_DISCONNECT)
    assert client.closed_with() == errors.FORCE_DISCONNECT
