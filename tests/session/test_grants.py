"""A grant is what it says: for one channel, one user, one connection and one time, over every way in."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway import errors
from gateway.control import Revocation, RevokeTokens
from gateway.messages import Connect, Subscribe
from tests.auth.signing import sign
from tests.session.conftest import SECRET, Client, World

# Every kind of channel: open, private, without permission, both, limited to users, personal, another one's personal.
CHANNELS = ["room", "$room", "closed:room", "$closed:room", "room#41", "own:#42", "own:#41"]
SETTINGS: dict[str, Any] = {"personal": {"enabled": True, "namespace": "own"}, "namespaces": {"own": {}}}

Token = Callable[[World, str, Client | None], str]


def signed(world: World, **claims: Any) -> str:
    """A token of user 42 with claims of the test's choice."""
    now = world.scheduler.time()
    return sign({"sub": "42", "iat": now, "exp": now + 3600, **claims}, SECRET)


WRONG: dict[str, Token] = {
    "of another channel": lambda world, channel, client: world.grant("42", channel + "x"),
    "of a channel that only looks alike": lambda world, channel, client: world.grant("42", channel.upper()),
    "of another user": lambda world, channel, client: world.grant("41", channel),
    "of nobody": lambda world, channel, client: world.grant("", channel),
    "of another connection": lambda world, channel, client: world.grant("42", channel, client="somebody"),
    "expired": lambda world, channel, client: world.grant("42", channel, expires_in=-1),
    "not valid yet": lambda world, channel, client: signed(world, channel=channel, nbf=world.scheduler.time() + 60),
    "revoked": lambda world, channel, client: world.grant("42", channel, jti="gone"),
    "for another audience": lambda world, channel, client: signed(world, channel=channel, aud="others"),
    "of another key": lambda world, channel, client: world.grant("42", channel)[:-4] + "AAAA",
}
RIGHT: dict[str, Token] = {
    "plain": lambda world, channel, client: world.grant("42", channel),
    "with the connection": lambda world, channel, client: world.grant(
        "42", channel, client=client.session.client if client is not None else ""
    ),
}


def native(world: World, channel: str, token: Token) -> Client:
    client = world.connect("42")
    client.send({"id": 2, "subscribe": {"channel": channel, "token": token(world, channel, client)}})
    return client


def plain(world: World, channel: str, token: Token) -> Client:
    """As app.py opens a plain connection by a subscription token."""
    grant = token(world, channel, None)
    initial = (Connect(1, grant, by_grant=True), Subscribe(2, channel, grant))
    return world.open_plain(*initial, channel=channel)


def gets(world: World, client: Client, channel: str) -> bool:
    """Whether what is published there reaches it."""
    client.got()
    world.publish(channel, "secret")
    return any("secret" in str(message) for message in client.got())


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world(**SETTINGS)
    world.node.on_control(RevokeTokens("default", jti="gone"))
    return world


# The server has subscribed the user's connection to the personal channel, by its connection token.
@pytest.mark.parametrize(
    ("way", "channel"),
    [(way, channel) for way in (native, plain) for channel in CHANNELS if way is plain or channel != "own:#42"],
)
@pytest.mark.parametrize("token", WRONG)
def test_a_wrong_grant_opens_nothing(
    world: World, way: Callable[[World, str, Token], Client], token: str, channel: str
) -> None:
    """Neither what it names nor what its user is subscribed to otherwise."""
    client = way(world, channel, WRONG[token])
    # A plain connection has the user of the grant that opens it.
    is_right = way is plain and token in ("of another user", "of nobody")
    assert gets(world, client, channel) is is_right


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize(("way", "token"), [(native, "plain"), (native, "with the connection"), (plain, "plain")])
def test_a_right_grant_opens_its_channel(
    world: World, way: Callable[[World, str, Token], Client], token: str, channel: str
) -> None:
    client = way(world, channel, RIGHT[token])
    assert gets(world, client, channel)
    for other in CHANNELS:
        if other != channel and (way is plain or other != "own:#42"):
            assert not gets(world, client, other)


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_connection_by_grant_lives_as_long_as_the_grant(world: World, channel: str) -> None:
    """And a little longer, as any other (expired_grace); then it ends with the code for that."""
    client = plain(world, channel, lambda world, channel, client: world.grant("42", channel, expires_in=3))
    assert gets(world, client, channel)
    for _ in range(int(3 + world.settings.heartbeat.expired_grace + 1)):
        world.scheduler.advance(1)
        client.session.ponged()
    client.transport.take()
    assert client.closed_with() == errors.SUBSCRIPTION_EXPIRED
    assert not gets(world, client, channel)


def test_a_connection_by_grant_ends_with_what_it_lives_on(world: World) -> None:
    """When that is revoked, by its id or by its user."""
    for number, revoked in enumerate((RevokeTokens("default", jti="own"), RevokeTokens("default", user="42"))):
        client = plain(world, "room", lambda world, channel, client: world.grant("42", channel, jti="own"))
        if number:
            assert client.closed_with() is not None
            client = plain(world, "room", lambda world, channel, client: world.grant("42", channel, jti="other"))
        assert gets(world, client, "room")
        world.node.on_control(revoked)
        # By the user, a token of this moment may be newer than the revocation.
        assert client.closed_with() == (errors.INVALID_TOKEN if revoked.jti else errors.CONNECTION_EXPIRED)


@pytest.mark.parametrize("ahead", [0, 30, 3600])
def test_a_revocation_of_a_user_closes_all_its_connections(world: World, ahead: int) -> None:
    """Also those whose token looks newer. It may be, if the message comes late: the client may come back."""
    token = signed(world, iat=world.scheduler.time() + ahead)
    client = world.open()
    client.send({"id": 1, "connect": {"token": token}})
    other = world.connect("41")
    assert world.node.on_control(RevokeTokens("default", user="42", issued_before=int(world.scheduler.time()))) == 1
    assert client.closed_with() == errors.CONNECTION_EXPIRED
    assert other.closed_with() is None


@pytest.mark.parametrize("by_message", [False, True])
def test_a_node_that_hears_late_of_a_revocation_ends_nobody_for_good_who_may_be_new(
    world: World, by_message: bool
) -> None:
    """From the control log or from the registry. A new token is good; an old one is refused when it comes back."""
    issued_before = int(world.scheduler.time()) + 1
    world.scheduler.advance(1)
    tokens = [signed(world, iat=issued_before + late) for late in (-2, -1, 0, 1)]
    clients = [world.open() for _ in tokens]
    for client, token in zip(clients, tokens, strict=True):
        assert "connect" in client.send({"id": 1, "connect": {"token": token}})[0]
    world.scheduler.advance(14)
    if by_message:
        world.node.on_control(RevokeTokens("default", user="42", issued_before=issued_before))
    else:
        world.registry.revoked.append(Revocation("default", user="42", issued_before=issued_before))
        asyncio.run(world.node.catch_up())
    comes_back = errors.CONNECTION_EXPIRED
    newer = comes_back if by_message else None
    assert [each.closed_with() for each in clients] == [errors.INVALID_TOKEN, comes_back, newer, newer]
    again = [world.open() for _ in tokens]
    answers = [client.send({"id": 1, "connect": {"token": token}}) for client, token in zip(again, tokens, strict=True)]
    assert ["connect" in reply for (reply,) in answers[1:]] == [False, True, True]
    assert again[0].closed_with() == errors.INVALID_TOKEN


def test_a_new_connection_outlives_an_old_grant(world: World) -> None:
    """It comes back without the channel."""
    issued_before = int(world.scheduler.time()) + 2
    client = world.open()
    client.send({"id": 1, "connect": {"token": signed(world, iat=issued_before)}})
    grant = signed(world, iat=issued_before - 60, channel="$room")
    assert "subscribe" in client.send({"id": 2, "subscribe": {"channel": "$room", "token": grant}})[0]
    world.registry.revoked.append(Revocation("default", user="42", issued_before=issued_before))
    asyncio.run(world.node.catch_up())
    assert client.closed_with() == errors.CONNECTION_EXPIRED
