"""Things that happen to a connection while something else is under way."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.control import DisconnectUser, RefreshUser, RevokeTokens, SubscribeUser, UnsubscribeUser
from gateway.messages import Channel, Connect, Subscribe, User
from tests.session.conftest import Client, World

MakeWorld = Callable[..., World]

BY_SERVER = SubscribeUser("default", "ann", "news", data=b"[1]")
PUSHED = {"push": {"channel": "news", "subscribe": {"data": [1]}}}
TAKEN_AWAY = {"push": {"channel": "news", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}


def subscribe(channel: str = "news", id: int = 2, **fields: str) -> dict[str, Any]:
    return {"id": id, "subscribe": {"channel": channel, **fields}}


def connecting(world: World, **claims: Any) -> Client:
    """Ann, whose connect waits for a channel that her token names."""
    client = world.open()
    world.broker.hold = True
    assert client.send({"id": 1, "connect": {"token": world.token("ann", channels=["own:x"], **claims)}}) == []
    return client


def let_go(world: World) -> None:
    """Complete what waits for the broker, and what comes of it."""
    world.broker.hold = False
    world.broker.release()


# Subscribed by the server


def test_commands_wait_for_a_subscription_by_the_server(world: World) -> None:
    client = world.connect("ann")
    world.broker.hold = True
    world.node.on_control(BY_SERVER)
    assert client.send(subscribe(), {"id": 3, "unsubscribe": {"channel": "news"}}) == []
    let_go(world)
    pushed, again, left = client.got()
    assert pushed == PUSHED
    assert again["error"]["code"] == 105
    assert left == {"id": 3, "unsubscribe": {}}
    assert client.transport.reading
    assert world.broker.subscribed == set()


def test_commands_wait_for_a_subscription_by_the_server_that_fails(world: World) -> None:
    client = world.connect("ann")
    world.broker.hold = True
    world.node.on_control(BY_SERVER)
    client.send(subscribe("news"))
    world.broker.up = False
    let_go(world)
    assert [reply["error"]["code"] for reply in client.got()] == [100]
    assert client.transport.reading


def test_subscribed_by_the_server_while_connecting(world: World) -> None:
    """The client is known already, so the backend was told that it is one of those reached."""
    client = connecting(world)
    assert world.node.on_control(BY_SERVER) == 1
    let_go(world)
    reply, pushed = client.got()
    assert reply["connect"]["subs"] == {"own:x": {}}
    assert pushed == PUSHED
    world.publish("news", 5)
    assert client.got() == [{"push": {"channel": "news", "pub": {"data": 5}}}]


def test_subscribed_by_the_server_while_a_connect_is_refused(world: World) -> None:
    client = connecting(world)
    world.node.on_control(BY_SERVER)
    world.broker.up = False
    let_go(world)
    assert client.closed_with() == errors.SERVER_ERROR
    assert client.session.subs == {}
    assert world.broker.subscribed == set()


def test_subscribed_by_the_server_and_by_the_client_at_once(world: World) -> None:
    """One subscription, the client's own."""
    client = world.connect("ann")
    world.broker.hold = True
    client.send(subscribe())
    world.node.on_control(BY_SERVER)
    let_go(world)
    assert client.got() == [{"id": 2, "subscribe": {}}]
    world.publish("news", 5)
    assert len(client.got()) == 1


def test_the_server_subscribes_where_the_client_fails_to(world: World) -> None:
    client = world.connect("ann")
    world.verifier.hold = True
    client.send(subscribe("$room", token="forged"))
    world.node.on_control(SubscribeUser("default", "ann", "$room"))
    world.verifier.release()
    refused, pushed = client.got()
    assert refused["error"]["code"] == 103
    assert pushed == {"push": {"channel": "$room", "subscribe": {}}}


def test_a_client_that_leaves_while_the_server_subscribes_it(world: World) -> None:
    client = world.connect("ann")
    world.broker.hold = True
    world.node.on_control(BY_SERVER)
    client.session.closed(1006, "")
    let_go(world)
    assert client.got() == []
    assert world.broker.subscribed == set()


def test_the_server_too_is_bound_by_the_channel_limit(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(limits={"channels": 2})
    client = world.subscriber("a", "b", user="ann")
    with caplog.at_level("INFO", "gateway.refusals"):
        world.node.on_control(BY_SERVER)
    assert client.got() == []
    assert set(client.session.subs) == {"a", "b"}
    (record,) = caplog.records
    assert vars(record)["setting"] == "limits.channels"


# Unsubscribed by the server


def test_unsubscribed_by_the_server_while_subscribing(world: World) -> None:
    """The reply comes first, and then it is taken away: the backend's word holds."""
    client = world.connect("ann")
    world.broker.hold = True
    client.send(subscribe())
    assert world.node.on_control(UnsubscribeUser("default", "ann", "news")) == 1
    let_go(world)
    assert client.got() == [{"id": 2, "subscribe": {}}, TAKEN_AWAY]
    assert world.broker.subscribed == set()
    assert client.session.subs == {}


def test_unsubscribed_by_the_server_while_a_subscribe_fails(world: World) -> None:
    client = world.connect("ann")
    world.broker.hold = True
    client.send(subscribe())
    world.node.on_control(UnsubscribeUser("default", "ann", "news"))
    world.broker.up = False
    world.broker.release()
    (reply,) = client.got()
    assert reply["error"]["code"] == 100


def test_unsubscribed_by_the_server_while_the_server_subscribes(world: World) -> None:
    client = world.connect("ann")
    world.broker.hold = True
    world.node.on_control(BY_SERVER)
    world.node.on_control(UnsubscribeUser("default", "ann", "news"))
    let_go(world)
    assert client.got() == [PUSHED, TAKEN_AWAY]


@pytest.mark.parametrize("channel", ["news", ""])
def test_unsubscribed_by_the_server_before_it_subscribes(world: World, channel: str) -> None:
    """The last word of the backend holds, though the first one still waits; other channels wait on."""
    client = connecting(world)
    world.node.on_control(BY_SERVER)
    assert world.node.on_control(UnsubscribeUser("default", "ann", channel)) == 1
    world.node.on_control(SubscribeUser("default", "ann", "sport"))
    let_go(world)
    assert BY_SERVER.channel not in client.session.subs
    assert PUSHED not in client.got()
    assert "sport" in client.session.subs
    assert client.transport.reading


def test_unsubscribed_by_the_server_while_connecting(world: World) -> None:
    client = connecting(world)
    assert world.node.on_control(UnsubscribeUser("default", "ann", "own:x")) == 1
    let_go(world)
    reply, push = client.got()
    assert reply["connect"]["subs"] == {"own:x": {}}
    assert push["push"]["unsubscribe"]["code"] == 2000
    assert client.closed_with() is None
    assert world.broker.subscribed == set()


def test_a_plain_client_unsubscribed_from_all_while_connecting(make_world: MakeWorld) -> None:
    world = make_world(personal={"enabled": True})
    world.broker.hold = True
    client = world.open_plain(Connect(1, world.token("ann")), Subscribe(2, "news"), channel="news")
    world.node.on_control(UnsubscribeUser("default", "ann"))
    let_go(world)
    assert client.closed_with() == errors.FORCE_DISCONNECT
    assert world.broker.subscribed == set()
    assert len(world.clients) == 0


def test_a_subscription_that_expires_before_it_is_ready(make_world: MakeWorld) -> None:
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8, "expired_grace": 0})
    client = world.connect("ann")
    world.broker.hold = True
    client.send(subscribe("$room", token=world.grant("ann", "$room", expires_in=3)))
    world.scheduler.advance(4)
    let_go(world)
    assert client.got() == [{"id": 2, "subscribe": {"expires": True, "ttl": 1}}]
    world.scheduler.advance(1)
    assert client.got() == [{"push": {"channel": "$room", "unsubscribe": {"code": 2501, "reason": "expired"}}}]


# Refreshed, disconnected, revoked


def test_refreshed_by_the_server_while_connecting(make_world: MakeWorld) -> None:
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8})
    client = connecting(world)
    world.node.on_control(RefreshUser("default", "ann", expire_at=int(world.scheduler.time()) + 90))
    let_go(world)
    (reply,) = client.got()
    assert reply["connect"]["ttl"] == 90
    world.scheduler.advance(116)
    assert client.closed_with() == errors.CONNECTION_EXPIRED


def test_refreshing_does_not_prolong_a_connect(world: World) -> None:
    client = connecting(world)
    world.node.on_control(RefreshUser("default", "ann", expire_at=int(world.scheduler.time()) + 900))
    world.scheduler.advance(26)
    assert client.closed_with() == errors.STALE


def test_expired_by_the_server_while_connecting(world: World) -> None:
    client = connecting(world)
    world.node.on_control(RefreshUser("default", "ann", expired=True))
    assert client.closed_with() == errors.CONNECTION_EXPIRED
    let_go(world)
    assert client.got() == []
    assert world.broker.subscribed == set()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (DisconnectUser("default", "ann"), errors.FORCE_DISCONNECT),
        (RevokeTokens("default", user="ann", issued_before=1_700_000_000), errors.CONNECTION_EXPIRED),
        (RevokeTokens("default", jti="t1"), errors.INVALID_TOKEN),
    ],
)
def test_thrown_out_while_connecting(world: World, message: DisconnectUser | RevokeTokens, code: object) -> None:
    client = connecting(world, jti="t1")
    assert world.node.on_control(message) == 1
    assert client.closed_with() == code
    let_go(world)
    assert client.got() == []
    assert world.broker.subscribed == set()
    assert world.clients.connections(User("default", "ann")) == 0


def test_a_grant_that_is_revoked_before_its_subscription_is_ready(world: World) -> None:
    client = world.connect("ann")
    world.broker.hold = True
    client.send(subscribe("$room", token=world.grant("ann", "$room", jti="g1")))
    assert world.node.on_control(RevokeTokens("default", jti="g1")) == 1
    assert client.closed_with() == errors.INVALID_TOKEN
    let_go(world)
    assert world.broker.subscribed == set()


def test_a_subscription_lives_on_the_grant_that_refreshed_it(world: World) -> None:
    client = world.connect("ann")
    client.send(subscribe("$room", token=world.grant("ann", "$room", jti="g1", info={"role": "reader"})))
    fresh = world.grant("ann", "$room", jti="g2", info={"role": "boss"})
    client.send({"id": 3, "sub_refresh": {"channel": "$room", "token": fresh}})
    assert client.session.subs["$room"].info == b'{"role":"boss"}'
    assert world.node.on_control(RevokeTokens("default", jti="g1")) == 0
    assert client.closed_with() is None
    assert world.node.on_control(RevokeTokens("default", jti="g2")) == 1
    assert client.closed_with() == errors.INVALID_TOKEN


def test_a_users_revocation_closes_what_was_refreshed_since(world: World) -> None:
    """Whether by its grants or by itself: who signed the newer token may have had a clock that is ahead.

    It may come back, for the message may also be late.
    """
    client = world.connect("ann")
    client.send(subscribe("$room", token=world.grant("ann", "$room")))
    by_itself = world.connect("ann")
    issued_before = int(world.scheduler.time())
    world.scheduler.advance(2)
    for each in (client, by_itself):
        assert "refresh" in each.send({"id": 3, "refresh": {"token": world.token("ann")}})[0]
    assert world.node.on_control(RevokeTokens("default", user="ann", issued_before=issued_before)) == 2
    assert client.closed_with() == errors.CONNECTION_EXPIRED
    assert by_itself.closed_with() == errors.CONNECTION_EXPIRED


# Leaving


def test_one_of_two_that_wait_for_a_channel_leaves(world: World) -> None:
    """The broker's subscription is given back only by the last."""
    world.broker.hold = True
    leaving, staying = world.connect(), world.connect()
    leaving.send(subscribe())
    staying.send(subscribe())
    leaving.session.closed(1006, "")
    let_go(world)
    assert world.broker.subscribed == {Channel("default", "news")}
    world.publish("news", 1)
    assert len(staying.got()) == 2
    staying.session.closed(1006, "")
    assert world.broker.subscribed == set()


def test_a_server_that_ends_while_things_are_under_way(world: World) -> None:
    clients = [connecting(world), world.open()]
    clients[1].send({"id": 1, "connect": {}}, subscribe(), {"id": 3, "publish": {"channel": "sport", "data": 1}})
    for client in clients:
        client.session.shutdown()
    let_go(world)
    assert [client.closed_with() for client in clients] == [errors.SHUTDOWN, errors.SHUTDOWN]
    assert world.broker.subscribed == set()
    assert world.messaging.hub.num_subscriptions == 0
