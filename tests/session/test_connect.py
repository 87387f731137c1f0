"""Connect, refresh, and what comes before and after (client protocol 2.3)."""

import json
from collections.abc import Callable

import pytest

from gateway import __version__, errors
from gateway.control import RevokeTokens
from gateway.messages import Channel, Connect, Subscribe, User
from gateway.session.session import REFUSED_DELAY
from tests.auth.signing import sign
from tests.reconnection import reconnects
from tests.session.conftest import SECRET, World

MakeWorld = Callable[..., World]


def test_an_anonymous_client_is_welcomed(world: World) -> None:
    client = world.open()
    (reply,) = client.send({"id": 1, "connect": {"name": "js"}})
    assert reply == {
        "id": 1,
        "connect": {
            "client": client.session.client,
            "version": __version__,
            "ping": 25,
            "pong": True,
            "node": "node-name",
        },
    }
    assert client.transport.is_authenticated
    assert len(world.clients) == 1


def test_without_a_token_nobody_connects_by_default(make_world: MakeWorld) -> None:
    """Secure by default: no anonymous clients unless the settings say so."""
    client = make_world(auth={"anonymous": False}).open()
    assert client.send({"id": 1, "connect": {}}) == []
    assert client.closed_with() == errors.BAD_COMMAND
    assert not client.transport.is_authenticated


def test_a_token_says_who_the_client_is_and_when_it_expires(world: World) -> None:
    client = world.open()
    (reply,) = client.send({"id": 1, "connect": {"token": world.token("ann", expires_in=60)}})
    assert reply["connect"]["expires"] is True
    assert reply["connect"]["ttl"] == 60
    assert client.session.user == User("default", "ann")
    assert world.clients.connections(User("default", "ann")) == 1


def test_an_expired_token_is_answered_so_that_the_client_fetches_another(world: World) -> None:
    client = world.open()
    token = world.token("ann", expires_in=5)
    world.scheduler.advance(6)
    (reply,) = client.send({"id": 1, "connect": {"token": token}})
    assert reply["error"]["code"] == 109
    assert client.closed_with() is None
    world.scheduler.advance(REFUSED_DELAY + 1)
    assert client.closed_with() == errors.CONNECTION_CLOSED
    assert len(world.clients) == 0


def test_after_a_refused_connect_nothing_else_is_served(world: World) -> None:
    client = world.open()
    token = world.token("ann", expires_in=5)
    world.scheduler.advance(6)
    client.send({"id": 1, "connect": {"token": token}})
    client.send({"id": 2, "subscribe": {"channel": "news"}})
    assert client.closed_with() == errors.BAD_COMMAND


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "a" * 20_000])
def test_a_forged_token_ends_the_connection(world: World, token: str) -> None:
    client = world.open()
    assert client.send({"id": 1, "connect": {"token": token}}) == []
    assert client.closed_with() == errors.INVALID_TOKEN
    assert world.metrics.connect_errors.values == {"invalid token": 1}


def test_the_first_command_must_be_connect(world: World) -> None:
    client = world.open()
    client.send({"id": 1, "subscribe": {"channel": "news"}})
    assert client.closed_with() == errors.BAD_COMMAND


def test_a_second_connect_is_a_bad_request(world: World) -> None:
    client = world.connect()
    client.send({"id": 2, "connect": {}})
    assert client.closed_with() == errors.BAD_COMMAND


def test_connect_and_subscribes_in_one_frame_are_done_in_order(world: World) -> None:
    """SDKs send them together."""
    client = world.open()
    replies = client.send(
        {"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "subscribe": {"channel": "b"}}
    )
    assert [reply["id"] for reply in replies] == [1, 2, 3]


def test_a_silent_connection_is_closed_with_a_code_to_reconnect_from(world: World) -> None:
    client = world.open()
    world.scheduler.advance(24)
    assert client.closed_with() is None
    world.scheduler.advance(2)
    assert client.closed_with() == errors.STALE
    assert reconnects(errors.STALE)


def test_the_limit_of_connections_per_user(make_world: MakeWorld) -> None:
    world = make_world(limits={"connections_per_user": 1})
    world.connect("ann")
    second = world.open()
    second.send({"id": 1, "connect": {"token": world.token("ann")}})
    assert second.closed_with() == errors.CONNECTION_LIMIT
    assert world.clients.connections(User("default", "ann")) == 1
    world.connect("bob")
    world.connect()
    world.connect()


def test_a_refresh_extends_the_connection(make_world: MakeWorld) -> None:
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8})
    client = world.connect("ann", expires_in=60)
    world.scheduler.advance(55)
    (reply,) = client.send({"id": 5, "refresh": {"token": world.token("ann", expires_in=120)}})
    assert reply["refresh"]["ttl"] == 120
    assert reply["refresh"]["client"] == client.session.client
    late = client.session.identity
    assert late is not None
    assert late.expire_at == int(world.scheduler.time()) + 120


def test_without_a_refresh_the_connection_expires_after_its_grace(make_world: MakeWorld) -> None:
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8})
    client = world.connect("ann", expires_in=60)
    world.scheduler.advance(84)
    assert client.closed_with() is None
    world.scheduler.advance(2)
    assert client.closed_with() == errors.CONNECTION_EXPIRED


def test_refresh_with_an_expired_token_of_another_user_or_forged(world: World) -> None:
    for token, code in (
        (world.token("ann", expires_in=-1), errors.CONNECTION_EXPIRED),
        (world.token("bob"), errors.INVALID_TOKEN),
        ("x.y.z", errors.INVALID_TOKEN),
    ):
        client = world.connect("ann")
        client.send({"id": 5, "refresh": {"token": token}})
        assert client.closed_with() == code


def early(world: World, **claims: str) -> str:
    """A token of Ann that is valid in 10 seconds."""
    now = world.scheduler.time()
    return sign({"sub": "ann", "iat": now, "nbf": now + 10, "exp": now + 3600, **claims}, SECRET)


def test_a_fresh_token_that_is_not_valid_yet_ends_nothing(make_world: MakeWorld) -> None:
    """SDKs send another one a moment later, since the error is temporary; the connection lives on the token before."""
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8})
    client = world.connect("ann", expires_in=60)
    client.send({"id": 2, "subscribe": {"channel": "$room", "token": world.grant("ann", "$room", expires_in=60)}})
    too_early = {"code": 109, "message": "token not valid yet", "temporary": True}
    token, grant = early(world), early(world, channel="$room")
    assert client.send({"id": 3, "refresh": {"token": token}}) == [{"id": 3, "error": too_early}]
    refresh = {"id": 4, "sub_refresh": {"channel": "$room", "token": grant}}
    assert client.send(refresh) == [{"id": 4, "error": too_early}]
    subscribe = {"id": 5, "subscribe": {"channel": "$other", "token": early(world, channel="$other")}}
    assert client.send(subscribe) == [{"id": 5, "error": too_early}]
    other = world.open()
    assert other.send({"id": 1, "connect": {"token": token}}) == [{"id": 1, "error": too_early}]
    assert client.closed_with() is None
    world.scheduler.advance(10)
    assert client.send(refresh)[0]["sub_refresh"]["ttl"] == 3590
    assert client.send({"id": 6, "refresh": {"token": token}})[0]["refresh"]["ttl"] == 3590


def test_a_plain_client_whose_token_is_not_valid_yet_comes_back(world: World) -> None:
    """Its protocol has no errors."""
    client = world.open_plain(Connect(1, early(world)), Subscribe(2, "news"), channel="news")
    assert client.closed_with() == (errors.CONNECTION_EXPIRED.code, "token not valid yet")
    assert reconnects(errors.CONNECTION_EXPIRED)


def test_a_connect_that_asks_for_filters_is_refused(world: World) -> None:
    """The client would believe that it is filtered."""
    client = world.open()
    subs = {"news": {"tf": {"key": "a", "cmp": "ex"}}}
    (reply,) = client.send({"id": 1, "connect": {"token": world.token("ann", channels=["news"]), "subs": subs}})
    assert reply["error"]["code"] == 108
    assert world.metrics.connect_errors.values == {"not available": 1}
    assert world.broker.subscribed == set()


def test_unknown_fields_are_counted(world: World) -> None:
    """Before the connect, too, and whatever becomes of the command."""
    client = world.open()
    client.send({"id": 1, "connect": {"tokne": "x"}})
    client.send({"id": 2, "subscribe": {"channel": "news", "recovre": True}, "x": 1}, {"id": 3, "rpc": {"x": 1}})
    client.send({"id": 4, "subscribe": {"channel": "sport"}})
    assert world.metrics.commands.values == {"connect": 1, "subscribe": 2, "call": 1}
    assert world.metrics.unknown_fields.value == 3


def test_unknown_fields_cost_no_more_than_their_command(make_world: MakeWorld) -> None:
    """A client that knows newer fields may send as many commands as others before it has to wait."""
    answered = []
    for more in ({}, {"new": 1}):
        client = make_world(limits={"commands_per_second": 5}).connect()
        commands = [{"id": 2 + number, "rpc": {"method": "m", **more}} for number in range(100)]
        answered.append(sum(len(client.send(command)) for command in commands))
    assert 0 < answered[0] == answered[1] < 100


def test_server_side_subscriptions_come_with_the_connect_reply(make_world: MakeWorld) -> None:
    """From the token's `channels` and `subs`, and the personal channel; publications follow the reply."""
    world = make_world(personal={"enabled": True, "namespace": "own"})
    client = world.open()
    world.broker.hold = True
    token = world.token("ann", channels=["news"], subs={"closed:x": {"info": {"role": "boss"}, "data": [1]}})
    assert client.send({"id": 1, "connect": {"token": token}}) == []
    world.broker.release()
    (reply,) = client.got()
    assert reply["connect"]["subs"] == {"news": {}, "closed:x": {"data": [1]}, "own:#ann": {}}
    for channel in ("news", "closed:x", "own:#ann"):
        world.publish(channel, channel)
    assert [push["push"]["channel"] for push in client.got()] == ["news", "closed:x", "own:#ann"]
    assert client.session.subs["closed:x"].info == b'{"role":"boss"}'


def test_requests_wait_while_connect_is_under_way(make_world: MakeWorld) -> None:
    """And the socket is not read meanwhile, so that what waits stays bounded."""
    world = make_world(personal={"enabled": True})
    client = world.open()
    world.broker.hold = True
    client.send({"id": 1, "connect": {"token": world.token("ann")}}, {"id": 2, "subscribe": {"channel": "news"}})
    client.raw(b'{"id":3,"unsubscribe":{"channel":"other"}}')
    assert not client.transport.reading
    assert client.got() == []
    world.broker.release()
    assert [reply["id"] for reply in client.got()] == [1, 3]
    world.broker.release()
    assert [reply["id"] for reply in client.got()] == [2]
    assert client.transport.reading


def test_a_client_that_leaves_while_it_connects_leaves_nothing_behind(make_world: MakeWorld) -> None:
    world = make_world(personal={"enabled": True})
    client = world.open()
    world.broker.hold = True
    client.send({"id": 1, "connect": {"token": world.token("ann", channels=["news", "sport"])}})
    held, world.broker.held = world.broker.held, []
    held[0]()
    client.session.closed(1001, "")
    for complete in held[1:]:
        complete()
    assert world.broker.subscribed == set()
    assert len(world.clients) == 0
    assert client.got() == []


def test_a_server_side_subscription_that_fails_closes_to_reconnect(make_world: MakeWorld) -> None:
    world = make_world(personal={"enabled": True})
    client = world.open()
    world.broker.up = False
    client.send({"id": 1, "connect": {"token": world.token("ann")}})
    assert client.closed_with() == errors.SERVER_ERROR
    assert len(world.clients) == 0


def test_a_token_for_an_unknown_namespace_is_told(world: World) -> None:
    client = world.open()
    (reply,) = client.send({"id": 1, "connect": {"token": world.token("ann", channels=["nowhere:x"])}})
    assert reply["error"]["code"] == 102


def test_a_token_with_too_many_channels_is_refused(make_world: MakeWorld) -> None:
    world = make_world(limits={"channels": 2})
    client = world.open()
    client.send({"id": 1, "connect": {"token": world.token("ann", channels=["a", "b", "c"])}})
    assert client.closed_with() == errors.CHANNEL_LIMIT


def test_revoked_tokens_are_refused_and_end_live_connections(world: World) -> None:
    old = world.token("ann")
    world.scheduler.advance(2)
    by_user = world.open()
    by_user.send({"id": 1, "connect": {"token": old}})
    soon = world.connect("ann")
    by_id = world.connect("bob", jti="t1")
    other = world.connect("carl", jti="t2")
    anonymous = world.connect()
    now = int(world.scheduler.time())
    assert world.node.on_control(RevokeTokens("default", user="ann", issued_before=now + 1)) == 2
    assert world.node.on_control(RevokeTokens("default", jti="t1")) == 1
    assert by_user.closed_with() == errors.INVALID_TOKEN
    assert soon.closed_with() == errors.CONNECTION_EXPIRED
    assert by_id.closed_with() == errors.INVALID_TOKEN
    assert other.closed_with() is None
    assert anonymous.closed_with() is None
    again = world.open()
    again.send({"id": 1, "connect": {"token": old}})
    assert again.closed_with() == errors.INVALID_TOKEN
    world.scheduler.advance(2)
    world.connect("ann")


def test_a_grant_that_is_revoked_ends_the_connection_that_lives_on_it(world: World) -> None:
    client = world.connect("ann")
    client.send({"id": 2, "subscribe": {"channel": "$room", "token": world.grant("ann", "$room", jti="g1")}})
    assert world.node.on_control(RevokeTokens("other-app", jti="g1")) == 0
    assert world.node.on_control(RevokeTokens("default", jti="g1")) == 1
    assert client.closed_with() == errors.INVALID_TOKEN


def test_a_channel_that_a_former_token_opened_ends_with_that_token(world: World) -> None:
    """The connection lives on the newer one, which names only some of them; the personal channel is the user's."""
    client = world.connect("ann", jti="one", channels=["a", "b"], subs={"c": {}})
    fresh = world.token("ann", jti="two", channels=["b"])
    client.send({"id": 2, "refresh": {"token": fresh}})
    assert world.node.on_control(RevokeTokens("default", jti="one")) == 1
    ended = [push["push"] for push in client.got()]
    assert sorted(each["channel"] for each in ended) == ["a", "c"]
    assert all(each["unsubscribe"]["code"] == errors.UNSUBSCRIBED_BY_SERVER.code for each in ended)
    assert client.closed_with() is None
    assert list(client.session.subs) == ["b"]
    assert world.node.on_control(RevokeTokens("default", jti="one")) == 0
    assert world.node.on_control(RevokeTokens("default", jti="two")) == 1
    assert client.closed_with() == errors.INVALID_TOKEN


def test_the_json_in_info_reaches_subscribers(world: World) -> None:
    reader = world.subscriber("news")
    writer = world.connect("ann", info={"name": "Ann"})
    writer.send({"id": 2, "publish": {"channel": "news", "data": 1}})
    (push,) = reader.got()
    assert push["push"]["pub"]["info"] == {
        "user": "ann",
        "client": writer.session.client,
        "conn_info": {"name": "Ann"},
    }
    assert Channel("default", "news") in world.broker.subscribed


def test_a_closed_session_ignores_what_still_arrives(world: World) -> None:
    """The socket may deliver frames that were read before the close."""
    client = world.connect()
    client.send({"id": 2, "connect": {}})
    client.raw(json.dumps({"id": 3, "subscribe": {"channel": "news"}}).encode())
    client.session.closed(1006, "")
    client.session.disconnect(errors.SHUTDOWN)
    assert client.closed_with() == errors.BAD_COMMAND
    assert client.got() == []
    assert world.broker.subscribed == set()
