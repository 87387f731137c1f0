"""A user is kicked from a channel: what ends, what is refused from then on, and what is not touched."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.control import KickUser, Revocation, SubscribeUser
from gateway.errors import CloseCode
from gateway.hooks.decisions import NO_APPLICATION, Opened
from gateway.messages import Connect, Subscribe
from tests.session.conftest import Client, World
from tests.session.test_hooks import ALLOWED, Hook, admitted, install

MakeWorld = Callable[..., World]

EXPIRED = {"code": 109, "message": "token expired"}
DENIED = {"code": 103, "message": "permission denied"}


def kick(world: World, channel: str, user: str = "ann") -> int:
    """Kick a user; the number of connections that it reached. Tokens are good again from the next second on."""
    return world.node.on_control(KickUser("default", user, channel, int(world.scheduler.time()) + 1))  # type: ignore[return-value]


def learn(world: World, channel: str, issued_before: int) -> None:
    """The node reads of a kick that it has missed."""
    world.registry.revoked.append(Revocation("default", "ann", issued_before=issued_before, channel=channel))
    asyncio.run(world.node.catch_up())


def ended(channel: str, code: int = 2000, reason: str = "server unsubscribe") -> dict[str, Any]:
    return {"push": {"channel": channel, "unsubscribe": {"code": code, "reason": reason}}}


def subscribe(channel: str, token: str = "", id: int = 2, **fields: Any) -> dict[str, Any]:
    return {"id": id, "subscribe": {"channel": channel, "token": token, **fields}}


def reply(client: Client, command: dict[str, Any]) -> Any:
    (got,) = client.send(command)
    return got


def by_token(world: World, channel: str) -> Client:
    client = world.connect("ann")
    assert "subscribe" in reply(client, subscribe(channel, world.grant("ann", channel)))
    return client


def by_rule(world: World, channel: str) -> Client:
    return world.subscriber(channel, user="ann")


def by_connection_token(world: World, channel: str) -> Client:
    return world.connect("ann", channels=[channel])


def by_server(world: World, channel: str) -> Client:
    client = world.connect("ann")
    world.node.on_control(SubscribeUser("default", "ann", channel))
    client.got()
    return client


def by_subscribe_hook(world: World, channel: str) -> Client:
    hook = Hook()
    install(world, subscribe=hook)
    client = world.connect("ann")
    client.send(subscribe(channel))
    hook.answer(ALLOWED)
    assert "subscribe" in client.got()[0]
    return client


def by_connect_hook(world: World, channel: str) -> Client:
    hook = Hook()
    install(world, connect=hook)
    client = world.open()
    client.send({"id": 1, "connect": {}})
    hook.answer(admitted("ann", channels={channel: Opened(b"", b"")}))
    assert channel in client.got()[0]["connect"]["subs"]
    return client


WAYS = [
    *((by_token, channel) for channel in ("news", "closed:a", "$closed:a", "closed:a#ann", "#ann", "n" * 255)),
    *((way, channel) for way in (by_connection_token, by_server, by_connect_hook) for channel in ("news", "$closed:a")),
    (by_rule, "news"),
    (by_subscribe_hook, "closed:a"),
]


@pytest.mark.parametrize(("way", "channel"), WAYS)
def test_the_subscription_ends_and_the_connection_lives_on(
    world: World, way: Callable[[World, str], Client], channel: str
) -> None:
    """However it was opened. Other channels and other users are not touched; only the first kick finds something."""
    client = way(world, channel)
    world.services.application = NO_APPLICATION
    other = world.subscriber("other", user="bob")
    client.send(subscribe("other", world.grant("ann", "other"), id=9))
    world.node.on_control(SubscribeUser("default", "bob", channel))
    other.got()
    assert kick(world, channel) == 1
    assert client.got() == [ended(channel)]
    assert kick(world, channel) == 0
    for name in (channel, "other"):
        world.publish(name, 1)
    assert client.got() == [{"push": {"channel": "other", "pub": {"data": 1}}}]
    assert len(other.got()) == 2
    assert client.closed_with() is None


def test_older_tokens_do_not_open_it_again(world: World) -> None:
    """The error makes an SDK fetch a fresh one: its backend decides. What the rules allow, they allow again."""
    client = by_token(world, "$closed:a")
    old = world.grant("ann", "$closed:a")
    bobs = world.grant("bob", "$closed:a")
    kick(world, "$closed:a")
    client.got()
    assert reply(client, subscribe("$closed:a", old))["error"] == EXPIRED
    assert reply(client, subscribe("$closed:b", world.grant("ann", "$closed:b")))["id"] == 2
    assert "subscribe" in reply(world.connect("bob"), subscribe("$closed:a", bobs))
    world.scheduler.advance(1)
    assert reply(client, subscribe("$closed:a", old))["error"] == EXPIRED
    assert "subscribe" in reply(client, subscribe("$closed:a", world.grant("ann", "$closed:a")))
    kick(world, "news")
    assert "subscribe" in reply(client, subscribe("news"))


def test_an_older_token_does_not_refresh_it(world: World) -> None:
    """It ends the subscription, as one that has expired does."""
    old = world.grant("ann", "$closed:a")
    kick(world, "$closed:a")
    world.scheduler.advance(1)
    client = by_token(world, "$closed:a")
    assert reply(client, {"id": 5, "sub_refresh": {"channel": "$closed:a", "token": old}})["error"]["code"] == 110
    fresh = world.grant("ann", "$closed:a")
    assert "sub_refresh" in reply(client, {"id": 6, "sub_refresh": {"channel": "$closed:a", "token": fresh}})


def test_a_connection_token_that_names_it_connects_without_it(world: World) -> None:
    """At a reconnect, and on a plain connection, which has nothing else. A fresh token brings it again."""
    token = world.token("ann", channels=["closed:a", "closed:b"])
    kick(world, "closed:a")
    client = world.open()
    assert reply(client, {"id": 1, "connect": {"token": token}})["connect"]["subs"] == {"closed:b": {}}
    assert reply(client, subscribe("closed:a"))["error"] == DENIED
    plain = world.open_plain(Connect(1, token), Subscribe(2, "closed:a"), channel="closed:a")
    assert plain.closed_with() == errors.NOT_PERMITTED
    kick(world, "closed:b")
    assert client.got() == [ended("closed:b")]
    only = world.open()
    assert "subs" not in reply(only, {"id": 1, "connect": {"token": token}})["connect"]
    world.scheduler.advance(1)
    fresh = world.connect("ann", channels=["closed:a"])
    assert list(fresh.session.subs) == ["closed:a"]


def test_a_plain_connection_ends(world: World) -> None:
    """It is told as after an unsubscribe, and its token is refused as one that has expired."""
    grant = world.grant("ann", "closed:a")

    def open() -> Client:
        initial = Connect(1, grant, by_grant=True), Subscribe(2, "closed:a", grant)
        return world.open_plain(*initial, channel="closed:a")

    client = open()
    assert client.closed_with() is None
    assert kick(world, "closed:a") == 1
    assert client.closed_with() == errors.FORCE_DISCONNECT
    world.scheduler.advance(1)
    again = open().closed_with()
    assert again is not None
    assert again.code == expired_plain(world).code


def expired_plain(world: World) -> CloseCode:
    grant = world.grant("ann", "closed:a", expires_in=-100)
    initial = Connect(1, grant, by_grant=True), Subscribe(2, "closed:a", grant)
    code = world.open_plain(*initial, channel="closed:a").closed_with()
    assert code is not None
    return code


def test_the_personal_channel_belongs_to_the_user_again_at_the_next_connect(make_world: MakeWorld) -> None:
    """The settings open it, not a token."""
    world = make_world(personal={"enabled": True})
    client = world.connect("ann")
    assert kick(world, "#ann") == 1
    assert client.got() == [ended("#ann")]
    assert list(world.connect("ann", channels=["#ann"]).session.subs) == ["#ann"]


# While something is under way


def test_a_subscription_that_waits_for_the_broker(world: World) -> None:
    """It does not begin, not even for a moment: its reply would have what is published there."""
    client = world.connect("ann")
    world.broker.hold = True
    grant = world.grant("ann", "$closed:a")
    client.send(subscribe("$closed:a", grant), subscribe("news", id=3))
    assert kick(world, "$closed:a") == 1
    assert kick(world, "news") == 1
    world.broker.hold = False
    while world.broker.held:
        world.broker.release()
    assert sorted(client.got(), key=lambda each: each["id"]) == [{"id": 2, "error": DENIED}, {"id": 3, "error": DENIED}]
    assert client.session.subs == {}
    assert world.broker.subscribed == set()


def test_a_token_that_is_judged_after_the_kick(world: World) -> None:
    """An older one is refused, and a fresh one is good."""
    old = world.grant("ann", "$closed:a")
    world.scheduler.advance(1)
    for token, key in ((old, "error"), (world.grant("ann", "$closed:a"), "subscribe")):
        client = world.connect("ann")
        world.verifier.hold = True
        client.send(subscribe("$closed:a", token))
        world.node.on_control(KickUser("default", "ann", "$closed:a", int(world.scheduler.time())))
        world.verifier.hold = False
        world.verifier.release()
        (got,) = client.got()
        assert got.keys() == {"id", key}


def test_a_subscription_that_a_hook_is_asked_for(world: World) -> None:
    """It decided before it could know. Asked again, it decides anew."""
    hook = Hook()
    install(world, subscribe=hook)
    client = world.connect("ann")
    client.send(subscribe("closed:a"))
    assert kick(world, "closed:a") == 1
    hook.answer(ALLOWED)
    assert client.got() == [{"id": 2, "error": DENIED}]
    client.send(subscribe("closed:a"))
    hook.answer(ALLOWED)
    assert "subscribe" in client.got()[0]


def test_a_connect_that_waits_for_its_channels(world: World) -> None:
    """It is answered without the channel."""
    client = world.open()
    world.broker.hold = True
    client.send({"id": 1, "connect": {"token": world.token("ann", channels=["closed:a", "closed:b"])}})
    assert kick(world, "closed:a") == 1
    world.broker.hold = False
    while world.broker.held:
        world.broker.release()
    (got,) = client.got()
    assert got["connect"]["subs"] == {"closed:b": {}}
    assert {each.name for each in world.broker.subscribed} == {"closed:b"}


@pytest.mark.parametrize("token", [False, True])
def test_a_connect_that_a_hook_is_asked_for(world: World, token: bool) -> None:
    """Nobody knows who it will be. What the hook says is without the channel; the next time, it decides anew."""
    hook = Hook()
    install(world, connect=hook)
    opened = {name: Opened(b"", b"") for name in ("closed:a", "closed:b")}
    connect = {"id": 1, "connect": {"token": world.token("zoe", channels=["closed:a", "closed:c"]) if token else ""}}
    client = world.open()
    client.send(connect)
    kick(world, "closed:a")
    hook.answer(admitted("ann", channels=opened))
    named = ["closed:b", *(["closed:c"] if token else [])]
    assert sorted(client.session.subs) == named
    again = world.open()
    again.send(connect)
    hook.answer(admitted("ann", channels=opened))
    assert sorted(again.session.subs) == ["closed:a", *named]


def test_a_plain_connection_that_a_hook_is_asked_for(world: World) -> None:
    """Its token was good when it was verified."""
    hook = Hook()
    install(world, connect=hook)
    grant = world.grant("ann", "closed:a")
    plain = world.open_plain(Connect(1, grant, by_grant=True), Subscribe(2, "closed:a", grant), channel="closed:a")
    kick(world, "closed:a")
    hook.answer(admitted())
    assert plain.closed_with() is not None
    assert plain.session.subs == {}


def test_a_subscribe_by_the_server_that_waits(world: World) -> None:
    """Behind another request, or for the broker."""
    client = world.connect("ann")
    world.broker.hold = True
    for channel in ("first", "second"):
        world.node.on_control(SubscribeUser("default", "ann", channel))
    assert kick(world, "first") == 1
    assert kick(world, "second") == 1
    world.broker.hold = False
    while world.broker.held:
        world.broker.release()
    assert client.got() == []
    assert client.session.subs == {}
    assert world.broker.subscribed == set()
    assert client.transport.reading


# Nodes that hear of it late


@pytest.mark.parametrize("by_message", [False, True])
def test_who_has_a_fresh_token_may_come_back(world: World, by_message: bool) -> None:
    """Or is not touched, if the node reads of the kick in the registry. An older token is refused for good."""
    issued_before = int(world.scheduler.time()) + 1
    clients = [by_token(world, "closed:a"), by_connection_token(world, "closed:a")]
    world.scheduler.advance(1)
    clients += [by_token(world, "closed:a"), by_connection_token(world, "closed:a")]
    if by_message:
        world.node.on_control(KickUser("default", "ann", "closed:a", issued_before))
    else:
        learn(world, "closed:a", issued_before)
    fresh = [ended("closed:a", 2501, "expired")] if by_message else []
    assert [each.got() for each in clients[:3]] == [[ended("closed:a")], [ended("closed:a")], fresh]
    assert clients[3].closed_with() == (errors.SUBSCRIPTION_EXPIRED if by_message else None)


def test_what_no_token_opened_is_decided_anew(world: World) -> None:
    """Nobody knows whether it was opened before the kick: the client asks again."""
    client = by_rule(world, "news")
    on_server = by_server(world, "other")
    client.got()
    learn(world, "news", int(world.scheduler.time()))
    learn(world, "other", int(world.scheduler.time()))
    assert client.got() == [ended("news", 2501, "expired")]
    assert on_server.closed_with() == errors.SUBSCRIPTION_EXPIRED
    assert "subscribe" in reply(world.connect("ann"), subscribe("news"))
