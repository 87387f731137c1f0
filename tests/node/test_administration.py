"""Control messages: what they do to the clients of a node, and how they reach all nodes."""

import asyncio
import logging
from typing import Any

import pytest

from gateway.broker.memory.memory_broker import MemoryBroker
from gateway.broker.memory.memory_events import MemoryEvents
from gateway.broker.memory.memory_registry import MemoryRegistry
from gateway.config.settings import ServerSettings
from gateway.control import (
    Control,
    ControlResult,
    DisconnectUser,
    DrainNode,
    KickUser,
    NodeId,
    RefreshUser,
    Reloaded,
    ReloadSettings,
    Revocation,
    RevokeTokens,
    SubscribeUser,
    UnsubscribeUser,
)
from gateway.errors import INSUFFICIENT_STATE, INVALID_TOKEN, UNSUBSCRIBED_BY_SERVER, CloseCode
from gateway.messages import User
from tests.node.site import FakeClient, Site


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (DisconnectUser("default", "42", code=4001, reason="bye"), CloseCode(4001, "bye")),
        (SubscribeUser("default", "42", "news"), SubscribeUser("default", "42", "news")),
        (UnsubscribeUser("default", "42", "news"), ("news", UNSUBSCRIBED_BY_SERVER)),
        (RefreshUser("default", "42", expired=True, expire_at=7), (True, 7)),
        (KickUser("default", "42", "news"), ("news", False)),
    ],
)
def test_a_control_message_acts_on_the_connections_of_its_user(site: Site, message: Control, asked: Any) -> None:
    """All of them, or one; not those of others, nor of a user of the same name in another app."""
    mine = site.clients(2)
    other = FakeClient(7, user="43")
    elsewhere = FakeClient(8)
    elsewhere.user = User("another", "42")
    for client in (other, elsewhere):
        site.book.add(client)
    assert site.node.on_control(message) == 2
    assert [client.asked for client in (*mine, other, elsewhere)] == [[asked], [asked], [], []]


@pytest.mark.parametrize("kind", [DisconnectUser, UnsubscribeUser, RefreshUser])
def test_one_connection_is_meant_only_together_with_its_user(site: Site, kind: Any) -> None:
    """The client id is public: it must not be enough."""
    mine = site.clients(2)
    assert site.node.on_control(kind("default", "42", client="c1")) == 1
    assert [len(client.asked) for client in mine] == [0, 1]
    assert site.node.on_control(kind("default", "43", client="c1")) == 0
    assert site.node.on_control(kind("default", "42", client="nobody")) == 0


def test_a_whitelist_spares_connections(site: Site) -> None:
    mine = site.clients(3)
    assert site.node.on_control(DisconnectUser("default", "42", whitelist=("c1",))) == 2
    assert [len(client.asked) for client in mine] == [1, 0, 1]


def test_revoking_closes_what_lives_on_it_and_is_remembered(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """And leaves a line in the log."""
    caplog.set_level(logging.INFO)
    mine = site.clients(3)
    assert site.node.on_control(RevokeTokens("default", jti="t1")) == 1
    assert [client.asked for client in mine] == [[], [INVALID_TOKEN], []]
    (line,) = caplog.records
    assert line.getMessage().startswith("tokens revoked")
    assert (vars(line)["jti"], vars(line)["connections"]) == ("t1", 1)
    assert site.revocations.is_revoked("default", "42", "t1", 0)


def test_a_kick_is_remembered_and_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens of the user are good otherwise. It ends when it says."""
    caplog.set_level(logging.INFO)
    site.clients(2)
    now = int(site.scheduler.time())
    assert site.node.on_control(KickUser("default", "42", "news", now, now + 5)) == 2
    (line,) = caplog.records
    told = {name: vars(line)[name] for name in ("user", "channel", "connections")}
    assert told == {"user": "42", "channel": "news", "connections": 2}
    assert site.revocations.is_kicked("default", "42", "news", now - 1)
    assert not site.revocations.is_revoked("default", "42", "", 0)
    assert site.revocations.merge([Revocation("default", "42", "", now, now + 5, "news")]).forgotten == []


def test_a_revocation_is_forgotten_when_it_says(site: Site) -> None:
    """What comes over the bus ends as the record in the registry does: 0 would win over every time there."""
    ends = int(site.scheduler.time()) + 5
    site.node.on_control(RevokeTokens("default", jti="t1", expire_at=ends))
    known = Revocation("default", jti="t1", expire_at=ends)
    assert site.revocations.merge([known]).forgotten == []


def test_anonymous_clients_are_nobodys(site: Site) -> None:
    """No control message for the empty user finds them."""
    (client,) = site.clients(1, user="")
    assert site.book.num_users == 0
    assert site.node.on_control(DisconnectUser("default", "")) == 0
    assert client.asked == []
    site.book.remove(client)
    site.book.remove(client)
    assert len(site.book) == 0


def test_a_reload_is_for_one_node_or_all(site: Site) -> None:
    """What it does is for the process to say, which knows the settings."""
    uid = site.administration.profile.uid
    site.host.reloaded = Reloaded(uid, changed=["limits.channels"])
    assert site.node.on_control(ReloadSettings(NodeId("other"))) == 0
    for message in (ReloadSettings(), ReloadSettings(uid)):
        assert site.node.on_control(message) == Reloaded(uid, changed=["limits.channels"])


def test_a_drain_is_for_one_node_and_happens_once(site: Site) -> None:
    """It is not ready from then on, and the process sends the clients away."""
    site.clients(3)
    uid = site.administration.profile.uid
    assert site.node.on_control(DrainNode(NodeId("other"))) == 0
    drains = [site.node.draining]
    assert [site.node.on_control(DrainNode(uid)) for _ in range(2)] == [3, 0]
    assert [*drains, site.node.draining] == [False, True]
    assert site.host.drains == 1


def test_a_node_that_may_have_missed_what_was_said_lets_everybody_come_back(site: Site) -> None:
    mine = site.clients(300)
    site.node.on_control_lost()
    site.scheduler.run()
    assert all(client.asked == [INSUFFICIENT_STATE] for client in mine)


def test_a_revocation_is_stored_and_carried_out_everywhere(site: Site) -> None:
    async def scenario() -> None:
        broker, registry = MemoryBroker(site.metrics), MemoryRegistry(MemoryEvents(site.metrics))
        site.assemble(ServerSettings(), broker=broker, registry=registry)
        node, administration = site.node, site.administration
        await node.start()
        client = FakeClient(1)
        site.book.add(client)
        by_token = Revocation("default", jti="t1")
        assert await administration.revoke(by_token, 6) == (by_token, ControlResult(1, 1, 1))
        assert client.asked == [INVALID_TOKEN]
        assert await registry.revocations() == [Revocation("default", jti="t1")]
        kick = Revocation("default", "42", channel="news")
        stored, result = await administration.revoke(kick, 6)
        assert (stored.channel, stored.issued_before > 6, result) == ("news", True, ControlResult(1, 1, 1))
        assert client.asked.pop() == ("news", False)
        assert stored in await registry.revocations()
        page = await administration.occupied_channels("default", "", 10, "")
        assert page.channels == []
        assert node.health().ok
        assert await administration.control(RefreshUser("default", "42", expire_at=7)) == ControlResult(1, 1, 1)
        assert client.asked == [INVALID_TOKEN, (False, 7)]
        await node.stop()
        assert not node.health().ok

    asyncio.run(scenario())
