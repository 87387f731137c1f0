"""Subscribe and unsubscribe, by the client and by the server."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.control import RefreshUser, SubscribeUser, UnsubscribeUser
from gateway.messages import Channel
from tests.session.conftest import World

MakeWorld = Callable[..., World]
NEWS = Channel("default", "news")


def subscribe(channel: str, id: int = 2, **fields: str) -> dict[str, object]:
    return {"id": id, "subscribe": {"channel": channel, **fields}}


def test_the_reply_precedes_the_publications(world: World) -> None:
    """Also when a publication arrives in the moment of the subscribe."""
    client = world.connect()
    world.broker.hold = True
    assert client.send(subscribe("news")) == []
    world.publish("news", "too early")
    world.broker.release()
    world.publish("news", "hello")
    reply, push = client.got()
    assert reply == {"id": 2, "subscribe": {}}
    assert push == {"push": {"channel": "news", "pub": {"data": "hello"}}}


def test_one_broker_subscription_for_all(world: World) -> None:
    first, second = world.subscriber("news"), world.subscriber("news")
    assert world.broker.subscribed == {NEWS}
    first.send({"id": 9, "unsubscribe": {"channel": "news"}})
    assert world.broker.subscribed == {NEWS}
    second.session.closed(1000, "")
    assert world.broker.subscribed == set()
    world.publish("news", 1)
    assert second.got() == []


def test_subscribers_that_wait_for_the_same_channel_are_served_together(world: World) -> None:
    world.broker.hold = True
    clients = [world.connect() for _ in range(3)]
    for client in clients:
        client.send(subscribe("news"))
    clients[1].session.closed(1006, "")
    assert len(world.broker.held) == 1
    world.broker.release()
    assert clients[0].got() == [{"id": 2, "subscribe": {}}]
    assert clients[1].got() == []
    assert clients[2].got() == [{"id": 2, "subscribe": {}}]
    for client in (clients[0], clients[2]):
        client.session.closed(1006, "")
    assert world.broker.subscribed == set()


def test_a_failed_subscribe_may_be_tried_again(world: World) -> None:
    client = world.connect()
    world.broker.up = False
    (reply,) = client.send(subscribe("news"))
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    world.broker.up = True
    assert client.send(subscribe("news", 3)) == [{"id": 3, "subscribe": {}}]


@pytest.mark.parametrize(
    ("channel", "code"),
    [("nowhere:x", 102), ("x" * 256, 107), ("with space", 107), ("closed:x", 103), ("$private", 103), ("a#bob", 103)],
)
def test_refusals(world: World, channel: str, code: int) -> None:
    client = world.connect("ann")
    (reply,) = client.send(subscribe(channel))
    assert reply["error"]["code"] == code
    assert world.broker.subscribed == set()
    assert world.metrics.errors.values == {str(code): 1}


def test_subscribing_twice(world: World) -> None:
    client = world.connect()
    world.broker.hold = True
    client.send(subscribe("news"), subscribe("news", 3))
    world.broker.release()
    first, second = client.got()
    assert first == {"id": 2, "subscribe": {}}
    assert second["error"]["code"] == 105


def test_the_channel_limit(make_world: MakeWorld) -> None:
    client = make_world(limits={"channels": 2}).subscriber("a", "b")
    (reply,) = client.send(subscribe("c", 7))
    assert reply["error"]["code"] == 106


def test_commands_for_a_joining_channel_wait_for_it(world: World) -> None:
    client = world.connect()
    world.broker.hold = True
    client.send(subscribe("news"), {"id": 3, "publish": {"channel": "news", "data": 1}}, subscribe("sport", 4))
    client.send({"id": 5, "unsubscribe": {"channel": "news"}})
    assert client.got() == []
    world.broker.hold = False
    world.broker.release()
    assert [message.get("id", "push") for message in client.got()] == [2, 3, "push", 4, 5]
    assert world.broker.subscribed == {Channel("default", "sport")}


def test_commands_for_other_channels_do_not_wait(world: World) -> None:
    client = world.subscriber("sport")
    world.broker.hold = True
    client.send(subscribe("news", 5))
    assert client.send({"id": 6, "unsubscribe": {"channel": "sport"}}) == [{"id": 6, "unsubscribe": {}}]


def test_unsubscribing_from_nothing_is_fine(world: World) -> None:
    assert world.connect().send({"id": 2, "unsubscribe": {"channel": "x"}}) == [{"id": 2, "unsubscribe": {}}]


# Grants


def test_a_grant_opens_a_private_channel_with_info_and_expiry(world: World) -> None:
    client = world.connect("ann")
    token = world.grant("ann", "$room", expires_in=60, info={"role": "x"})
    assert client.send(subscribe("$room", token=token)) == [{"id": 2, "subscribe": {"expires": True, "ttl": 60}}]
    client.send({"id": 3, "publish": {"channel": "$room", "data": 1}})
    assert [message["push"]["pub"]["info"]["chan_info"] for message in client.got() if "push" in message] == []
    world.publish("$room", 2)
    assert client.got()[-1]["push"]["pub"]["data"] == 2


@pytest.mark.parametrize(
    ("user", "channel", "claims", "code"),
    [
        ("bob", "$room", {}, errors.INVALID_TOKEN),
        ("ann", "$other", {}, errors.INVALID_TOKEN),
        ("ann", "$room", {"client": "another"}, errors.INVALID_TOKEN),
    ],
)
def test_a_grant_for_someone_or_something_else(
    world: World, user: str, channel: str, claims: dict[str, Any], code: errors.CloseCode
) -> None:
    client = world.connect("ann")
    client.send(subscribe("$room", token=world.grant(user, channel, **claims)))
    assert client.closed_with() == code
    assert world.broker.subscribed == set()


def test_a_grant_for_this_very_connection(world: World) -> None:
    client = world.connect("ann")
    token = world.grant("ann", "$room", expires_in=None, client=client.session.client)
    assert client.send(subscribe("$room", token=token)) == [{"id": 2, "subscribe": {}}]


def test_a_forged_or_expired_grant(world: World) -> None:
    client = world.connect("ann")
    (reply,) = client.send(subscribe("$room", token="x.y.z"))
    assert reply["error"]["code"] == 103
    (reply,) = client.send(subscribe("$room", 3, token=world.grant("ann", "$room", expires_in=-5)))
    assert reply["error"]["code"] == 109
    assert client.send(subscribe("$room", 4, token=world.grant("ann", "$room")))[0]["subscribe"]["expires"] is True


def test_sub_refresh(world: World) -> None:
    client = world.connect("ann")
    client.send(subscribe("$room", token=world.grant("ann", "$room", expires_in=30)))
    (reply,) = client.send({"id": 3, "sub_refresh": {"channel": "$room", "token": world.grant("ann", "$room")}})
    assert reply == {"id": 3, "sub_refresh": {"expires": True, "ttl": 3600}}
    (reply,) = client.send({"id": 4, "sub_refresh": {"channel": "other", "token": "t"}})
    assert reply["error"]["code"] == 103
    late = world.grant("ann", "$room", expires_in=-5)
    (reply,) = client.send({"id": 5, "sub_refresh": {"channel": "$room", "token": late}})
    assert reply["error"]["code"] == 110
    client.send({"id": 6, "sub_refresh": {"channel": "$room", "token": "forged"}})
    assert client.closed_with() == errors.INVALID_TOKEN


def test_a_subscription_that_is_not_refreshed_ends_after_its_grace(make_world: MakeWorld) -> None:
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8})
    client = world.connect("ann")
    client.send(subscribe("$room", token=world.grant("ann", "$room", expires_in=30)))
    world.scheduler.advance(54)
    assert client.got() == []
    world.scheduler.advance(2)
    assert client.got() == [
        {"push": {"channel": "$room", "unsubscribe": {"code": 2501, "reason": "expired"}}},
    ]
    assert world.broker.subscribed == set()
    assert client.closed_with() is None


# By the server


def test_subscribed_by_the_server(world: World) -> None:
    client = world.connect("ann")
    message = SubscribeUser("default", "ann", "closed:x", info=b'"i"', data=b"[1]")
    assert world.node.on_control(message) == 1
    assert client.got() == [{"push": {"channel": "closed:x", "subscribe": {"data": [1]}}}]
    world.publish("closed:x", 5)
    assert client.got() == [{"push": {"channel": "closed:x", "pub": {"data": 5}}}]
    world.node.on_control(message)
    assert client.got() == []


def test_a_server_side_subscribe_that_fails_is_not_half_done(world: World) -> None:
    client = world.connect("ann")
    world.broker.up = False
    world.node.on_control(SubscribeUser("default", "ann", "news"))
    assert client.got() == []
    assert client.session.subs == {}


def test_a_server_side_subscription_that_expires_closes_the_connection(make_world: MakeWorld) -> None:
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8})
    client = world.connect("ann")
    soon = int(world.scheduler.time()) + 10
    world.node.on_control(SubscribeUser("default", "ann", "news", expire_at=soon))
    world.scheduler.advance(36)
    assert client.closed_with() == errors.SUBSCRIPTION_EXPIRED


def test_unsubscribed_by_the_server(world: World) -> None:
    client = world.subscriber("news", "sport", user="ann")
    assert world.node.on_control(UnsubscribeUser("default", "ann", "news")) == 1
    assert client.got() == [
        {"push": {"channel": "news", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}
    ]
    assert world.node.on_control(UnsubscribeUser("default", "ann", "news")) == 0
    assert world.node.on_control(UnsubscribeUser("default", "bob", "")) == 0
    assert world.node.on_control(UnsubscribeUser("default", "ann", "")) == 1
    assert [push["push"]["channel"] for push in client.got()] == ["sport"]


def test_gaps_are_told(world: World) -> None:
    """Guarantee 4: without history, subscribers learn that something may be missing."""
    client = world.subscriber("news", "quiet:x")
    served = world.connect("ann")
    world.node.on_control(SubscribeUser("default", "ann", "news"))
    served.got()
    world.node.on_gap([NEWS, Channel("default", "quiet:x"), Channel("default", "nobody")])
    assert client.got() == [
        {"push": {"channel": "news", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
    ]
    assert served.closed_with() == errors.INSUFFICIENT_STATE
    assert world.metrics.gaps.value == 2
    assert client.send(subscribe("news", 9)) == [{"id": 9, "subscribe": {}}]


def test_a_gap_of_many_is_told_in_slices(world: World) -> None:
    clients = [world.subscriber("news") for _ in range(450)]
    world.node.on_gap([NEWS])
    assert world.metrics.gaps.value == 200
    world.scheduler.run()
    assert world.metrics.gaps.value == 450
    assert all(len(client.got()) == 1 for client in clients)


def test_refresh_by_the_server(world: World) -> None:
    client = world.connect("ann")
    later = int(world.scheduler.time()) + 90
    world.node.on_control(RefreshUser("default", "ann", expire_at=later))
    assert client.got() == [{"push": {"refresh": {"expires": True, "ttl": 90}}}]
    world.node.on_control(RefreshUser("default", "ann", expire_at=0))
    assert client.got() == [{"push": {"refresh": {}}}]
    world.node.on_control(RefreshUser("default", "ann", expired=True))
    assert client.closed_with() == errors.CONNECTION_EXPIRED
