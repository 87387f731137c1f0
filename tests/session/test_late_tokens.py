"""Tokens that cannot be judged at once, or not at all: their key has to be fetched first."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.control import RevokeTokens
from gateway.messages import Connect, Subscribe
from gateway.session.session import REFUSED_DELAY
from tests.reconnection import reconnects
from tests.session.conftest import Client, World

MakeWorld = Callable[..., World]

TEMPORARY = {"code": 100, "message": "internal server error", "temporary": True}
SUBSCRIBE = {"id": 2, "subscribe": {"channel": "news"}}


def room(world: World, **claims: Any) -> Client:
    """Ann, subscribed to a private channel by a grant."""
    client = world.connect("ann")
    (reply,) = client.send({"id": 2, "subscribe": {"channel": "$room", "token": world.grant("ann", "$room", **claims)}})
    assert "subscribe" in reply
    return client


# The keys cannot be fetched


def test_a_connect_that_cannot_be_judged_may_be_tried_again(world: World) -> None:
    """What came in the same frame is no offence: the client could not know. 3501 would keep it away for good."""
    client = world.open()
    world.verifier.unreachable = True
    assert client.send({"id": 1, "connect": {"token": world.token("ann")}}, SUBSCRIBE) == [
        {"id": 1, "error": TEMPORARY}
    ]
    assert client.closed_with() is None
    assert world.metrics.connect_errors.values == {"internal server error": 1}
    world.scheduler.advance(REFUSED_DELAY + 1)
    assert client.closed_with() == errors.CONNECTION_CLOSED
    assert reconnects(errors.CONNECTION_CLOSED)


def test_a_subscribe_that_cannot_be_judged_may_be_tried_again(world: World) -> None:
    client = world.connect("ann")
    world.verifier.unreachable = True
    command = {"id": 2, "subscribe": {"channel": "$room", "token": world.grant("ann", "$room")}}
    assert client.send(command) == [{"id": 2, "error": TEMPORARY}]
    world.verifier.unreachable = False
    assert "subscribe" in client.send(command)[0]


def test_a_refresh_that_cannot_be_judged_may_be_tried_again(make_world: MakeWorld) -> None:
    """The connection lives on the token before, until that expires."""
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8})
    client = world.connect("ann", expires_in=60)
    world.verifier.unreachable = True
    refresh = {"id": 5, "refresh": {"token": world.token("ann")}}
    assert client.send(refresh) == [{"id": 5, "error": TEMPORARY}]
    assert client.closed_with() is None
    world.verifier.unreachable = False
    assert client.send(refresh)[0]["refresh"]["ttl"] == 3600
    world.scheduler.advance(100)
    assert client.closed_with() is None


def test_a_connection_whose_refresh_is_never_judged_expires(make_world: MakeWorld) -> None:
    world = make_world(heartbeat={"ping_interval": 3600, "pong_timeout": 8})
    client = world.connect("ann", expires_in=60)
    world.verifier.unreachable = True
    client.send({"id": 5, "refresh": {"token": world.token("ann")}})
    world.scheduler.advance(86)
    assert client.closed_with() == errors.CONNECTION_EXPIRED


def test_a_sub_refresh_that_cannot_be_judged_may_be_tried_again(world: World) -> None:
    client = room(world, expires_in=30)
    world.verifier.unreachable = True
    refresh = {"id": 5, "sub_refresh": {"channel": "$room", "token": world.grant("ann", "$room")}}
    assert client.send(refresh) == [{"id": 5, "error": TEMPORARY}]
    assert client.closed_with() is None
    world.verifier.unreachable = False
    assert client.send(refresh) == [{"id": 5, "sub_refresh": {"expires": True, "ttl": 3600}}]


def test_a_plain_client_that_cannot_be_judged_reconnects(world: World) -> None:
    """Its protocol has no replies."""
    world.verifier.unreachable = True
    grant = world.grant("ann", "$room")
    client = world.open_plain(Connect(1, grant, by_grant=True), Subscribe(2, "$room", grant), channel="$room")
    assert client.closed_with() == errors.SERVER_ERROR
    assert reconnects(errors.SERVER_ERROR)


# The keys take their time


def test_commands_wait_for_a_connect_that_is_being_judged(world: World) -> None:
    client = world.open()
    world.verifier.hold = True
    assert client.send({"id": 1, "connect": {"token": world.token("ann")}}, SUBSCRIBE) == []
    assert not client.transport.reading
    world.verifier.release()
    assert [reply["id"] for reply in client.got()] == [1, 2]
    assert client.transport.reading


def test_what_waits_for_a_connect_that_is_refused_is_dropped(world: World) -> None:
    """In one frame with it or in frames of their own, they were sent before the client could know."""
    client = world.open()
    token = world.token("ann", expires_in=5)
    world.scheduler.advance(6)
    world.verifier.hold = True
    client.send({"id": 1, "connect": {"token": token}}, SUBSCRIBE)
    client.send({"id": 3, "subscribe": {"channel": "sport"}})
    world.verifier.release()
    (reply,) = client.got()
    assert reply["error"]["code"] == 109
    assert client.closed_with() is None
    assert client.transport.reading
    assert world.broker.subscribed == set()


@pytest.mark.parametrize("command", ["connect", "subscribe", "refresh", "sub_refresh"])
def test_a_client_that_leaves_while_its_token_is_judged_leaves_nothing_behind(world: World, command: str) -> None:
    client = world.open() if command == "connect" else room(world)
    channel = "$other" if command == "subscribe" else "$room"
    token = world.grant("ann", channel) if command.startswith("sub") else world.token("ann", channels=["news"])
    body = {"token": token, "channel": channel} if command.startswith("sub") else {"token": token}
    world.verifier.hold = True
    assert client.send({"id": 3, command: body}) == []
    client.session.closed(1006, "")
    world.verifier.release()
    assert client.got() == []
    assert client.session.subs == {}
    assert len(world.clients) == 0
    assert world.broker.subscribed == set()


def test_a_silent_endpoint_does_not_keep_a_connection_that_never_authenticates(world: World) -> None:
    client = world.open()
    world.verifier.hold = True
    client.send({"id": 1, "connect": {"token": world.token("ann")}})
    world.scheduler.advance(26)
    assert client.closed_with() == errors.STALE
    world.verifier.release()
    assert len(world.clients) == 0


def test_a_grant_that_is_revoked_while_it_is_judged(world: World) -> None:
    client = world.connect("ann")
    world.verifier.hold = True
    client.send({"id": 2, "subscribe": {"channel": "$room", "token": world.grant("ann", "$room", jti="g1")}})
    assert world.node.on_control(RevokeTokens("default", jti="g1")) == 0
    world.verifier.release()
    assert client.got()[0]["error"]["code"] == 103
    assert client.session.subs == {}


def test_a_sub_refresh_for_a_subscription_that_ended_meanwhile(world: World) -> None:
    """And was made anew: the answer is for neither."""
    client = room(world)
    world.verifier.hold = True
    client.send({"id": 5, "sub_refresh": {"channel": "$room", "token": world.grant("ann", "$room", expires_in=9)}})
    assert client.send({"id": 6, "unsubscribe": {"channel": "$room"}}) == [{"id": 6, "unsubscribe": {}}]
    world.verifier.release()
    assert client.got() == [{"id": 5, "error": {"code": 103, "message": "permission denied"}}]


def test_commands_for_a_channel_whose_grant_is_judged_wait(world: World) -> None:
    client = world.connect("ann")
    world.verifier.hold = True
    client.send(
        {"id": 2, "subscribe": {"channel": "$room", "token": world.grant("ann", "$room")}},
        {"id": 3, "subscribe": {"channel": "$room"}},
        {"id": 4, "unsubscribe": {"channel": "$room"}},
    )
    assert client.got() == []
    world.verifier.release()
    replies = client.got()
    assert [reply["id"] for reply in replies] == [2, 3, 4]
    assert replies[1]["error"]["code"] == 105
    assert world.broker.subscribed == set()
