"""The node: broker and hub together, control messages, gaps, and its place in the cluster."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from gateway.broker.memory.memory_broker import MemoryBroker
from gateway.broker.memory.memory_registry import MemoryRegistry
from gateway.config.settings import ServerSettings
from gateway.control import (
    Control,
    ControlResult,
    DisconnectUser,
    LearnRevocations,
    NodeId,
    RefreshUser,
    Reloaded,
    ReloadSettings,
    Revocation,
    RevokeTokens,
    SubscribeUser,
    UnsubscribeUser,
)
from gateway.errors import INSUFFICIENT_STATE, INVALID_TOKEN, UNSUBSCRIBED_BY_SERVER, BrokerUnavailable, CloseCode
from gateway.messages import NO_OPTIONS, PUBLISHED, Publication, User
from gateway.node import announcements
from tests.node.site import ROOM, FakeClient, Site, joined, make_node

# Publish and subscribe


def test_a_publication_of_the_broker_reaches_who_joined(site: Site) -> None:
    """And no longer who left; the registry knows how many there are."""
    asyncio.run(site.broker.start(site.node))
    (client,) = site.clients(1)
    encoder = joined(site, ROOM, client)
    assert site.registry.occupancy == {ROOM: 1}
    outcomes: list[Any] = []
    site.node.publish(Publication(ROOM, b"1"), NO_OPTIONS, outcomes.append)
    assert outcomes == [PUBLISHED]
    assert client.asked == [b"1"]
    site.node.leave(ROOM, ROOM, client, encoder)
    assert site.registry.occupancy == {ROOM: 0}
    assert site.broker.subscribed == set()


def test_waiting_for_a_publish_gets_its_outcome(site: Site) -> None:
    async def scenario() -> None:
        assert await site.node.publish_and_wait(Publication(ROOM, b"1"), NO_OPTIONS) == PUBLISHED
        site.broker.up = False
        with pytest.raises(BrokerUnavailable):
            await site.node.publish_and_wait(Publication(ROOM, b"1"), NO_OPTIONS)

    asyncio.run(scenario())


def test_an_outcome_that_nobody_waits_for_any_more_does_no_harm(site: Site) -> None:
    """The HTTP client that asked has gone."""

    async def scenario() -> None:
        site.broker.hold = True
        waiting = asyncio.ensure_future(site.node.publish_and_wait(Publication(ROOM, b"1"), NO_OPTIONS))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        site.broker.release()

    asyncio.run(scenario())


# Control messages


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (DisconnectUser("default", "42", code=4001, reason="bye"), CloseCode(4001, "bye")),
        (SubscribeUser("default", "42", "news"), SubscribeUser("default", "42", "news")),
        (UnsubscribeUser("default", "42", "news"), ("news", UNSUBSCRIBED_BY_SERVER)),
        (RefreshUser("default", "42", expired=True, expire_at=7), (True, 7)),
    ],
)
def test_a_control_message_acts_on_the_connections_of_its_user(site: Site, message: Control, asked: Any) -> None:
    """All of them, or one; not those of others, nor of a user of the same name in another app."""
    mine = site.clients(2)
    other = FakeClient(7, user="43")
    elsewhere = FakeClient(8)
    elsewhere.user = User("another", "42")
    for client in (other, elsewhere):
        site.node.clients.add(client)
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


def test_revoking_closes_what_lives_on_it_and_is_remembered(site: Site) -> None:
    mine = site.clients(3)
    assert site.node.on_control(RevokeTokens("default", jti="t1")) == 1
    assert [client.asked for client in mine] == [[], [INVALID_TOKEN], []]
    assert site.revocations.is_revoked("default", "42", "t1", 0)


def test_a_revocation_is_forgotten_when_it_says(site: Site) -> None:
    """What comes over the bus ends as the record in the registry does: 0 would win over every time there."""
    ends = int(site.scheduler.time()) + 5
    site.node.on_control(RevokeTokens("default", jti="t1", expire_at=ends))
    known = Revocation("default", jti="t1", expire_at=ends)
    assert site.revocations.merge([known]).forgotten == []


def test_anonymous_clients_are_nobodys(site: Site) -> None:
    """No control message for the empty user finds them."""
    (client,) = site.clients(1, user="")
    assert site.node.clients.num_users == 0
    assert site.node.on_control(DisconnectUser("default", "")) == 0
    assert client.asked == []
    site.node.clients.remove(client)
    site.node.clients.remove(client)
    assert len(site.node.clients) == 0


def test_a_reload_is_for_one_node_or_all(site: Site) -> None:
    """What it does is set by who knows the settings; without it the answer says so."""
    assert site.node.on_control(ReloadSettings(NodeId("other"))) == 0
    answer = site.node.on_control(ReloadSettings())
    assert isinstance(answer, Reloaded)
    assert "cannot read its settings again" in answer.error
    site.node.on_reload = lambda: Reloaded(site.node.uid, changed=["limits.channels"])
    for message in (ReloadSettings(), ReloadSettings(site.node.uid)):
        assert site.node.on_control(message) == Reloaded(site.node.uid, changed=["limits.channels"])


# The cluster


def test_a_reload_is_announced_at_once(site: Site) -> None:
    """Others compare the settings of all nodes."""

    async def scenario() -> None:
        await site.node.start()
        assert [(info.bus, info.settings) for info in await site.node.nodes()] == [(1, {})]
        site.node.settings = {"auth": "1"}
        site.node.reload()
        async with asyncio.timeout(20):
            while [info.settings for info in await site.node.nodes()] != [{"auth": "1"}]:
                await asyncio.sleep(0)
        await site.node.stop()

    asyncio.run(scenario())


def test_a_node_joins_and_leaves(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """It learns what is revoked, tells what it is, renews that, and is gone after its stop."""
    monkeypatch.setattr(announcements, "INTERVAL", 0.01)
    monkeypatch.setattr(announcements, "REVOCATIONS_EVERY", 2)

    async def scenario() -> None:
        site.registry.revoked = [Revocation("default", jti="old")]
        await site.node.start()
        assert site.revocations.is_revoked("default", "", "old", 0)
        assert [info.name for info in await site.node.nodes()] == ["first"]
        site.clients(2)
        site.registry.leases.clear()
        site.registry.revoked = [Revocation("default", jti="new")]
        async with asyncio.timeout(20):
            while not (site.registry.leases and site.revocations.is_revoked("default", "", "new", 0)):
                await asyncio.sleep(0.01)
        # What the registry forgot, it is told again.
        assert Revocation("default", jti="old") in site.registry.revoked
        (info,) = await site.node.nodes()
        assert (info.num_clients, info.num_users) == (2, 1)
        assert info.rss > 0
        await site.node.stop()
        assert await site.node.nodes() == []

    asyncio.run(scenario())


@pytest.mark.parametrize("fails", ["revocations", "announce"])
def test_a_node_that_cannot_join_does_so_later(monkeypatch: pytest.MonkeyPatch, site: Site, fails: str) -> None:
    """Meanwhile it is not ready, and says why; stopped before, it leaves nothing behind."""
    monkeypatch.setattr("gateway.node.node.JOIN_DELAY", 0.01)

    async def scenario() -> None:
        async def failing(*arguments: object) -> None:
            raise BrokerUnavailable("down")

        await site.node.stop()
        for is_there_in_time in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(site.registry, fails, failing)
                await site.node.start()
                assert site.broker.receiver is None
                assert site.node.health() == (False, "down")
            async with asyncio.timeout(20):
                while is_there_in_time and not site.node.health().ok:
                    await asyncio.sleep(0.01)
            await site.node.stop()
            assert len(asyncio.all_tasks()) == 1
            assert (await site.registry.nodes() == []) is True

    asyncio.run(scenario())


def test_what_the_registry_has_lost_is_stored_again_at_once(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """When the lease is gone, when the link is back, and when the node leaves; others are told to read it again."""
    monkeypatch.setattr(announcements, "INTERVAL", 0.01)
    monkeypatch.setattr(announcements, "REVOCATIONS_EVERY", 10**9)
    old = Revocation("default", jti="old")

    async def scenario() -> None:
        told: list[Control] = []
        control = site.broker.control

        async def telling(message: Control) -> ControlResult:
            told.append(message)
            return await control(message)

        monkeypatch.setattr(site.broker, "control", telling)
        site.registry.revoked = [old]
        await site.node.start()
        site.registry.revoked = []
        site.registry.leases.clear()
        async with asyncio.timeout(20):
            while LearnRevocations() not in told:
                await asyncio.sleep(0.001)
        assert site.registry.revoked == [old]
        site.registry.revoked = []
        await site.node.catch_up()
        assert site.registry.revoked == [old]
        site.registry.revoked = [Revocation("default", jti="new")]
        site.node.on_control(LearnRevocations())
        async with asyncio.timeout(20):
            while not site.revocations.is_revoked("default", "", "new", 0):
                await asyncio.sleep(0.001)
        site.registry.revoked = []
        await site.node.stop()
        assert {each.jti for each in site.registry.revoked} == {"old", "new"}

    asyncio.run(scenario())


def test_a_node_that_may_have_missed_what_was_said_lets_everybody_come_back(site: Site) -> None:
    mine = site.clients(300)
    site.node.on_control_lost()
    site.scheduler.run()
    assert all(client.asked == [INSUFFICIENT_STATE] for client in mine)


def test_a_registry_that_fails_does_not_end_the_node(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """Neither while it runs nor when it leaves."""
    monkeypatch.setattr(announcements, "INTERVAL", 0.01)

    async def scenario() -> None:
        await site.node.start()
        tries = 0

        async def failing(*arguments: object) -> None:
            nonlocal tries
            tries += 1
            raise BrokerUnavailable("down")

        monkeypatch.setattr(site.registry, "announce", failing)
        monkeypatch.setattr(site.registry, "withdraw", failing)
        async with asyncio.timeout(20):
            while tries < 3:
                await asyncio.sleep(0.01)
        await site.node.stop()
        assert site.broker.receiver is None

    asyncio.run(scenario())


def test_a_lost_cancellation_does_not_keep_a_node_from_stopping(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """What the registry uses may lose it (`asyncio.wait_for` before Python 3.12 does)."""
    monkeypatch.setattr(announcements, "INTERVAL", 0.01)

    async def scenario() -> None:
        await site.node.start()
        announcing = asyncio.Event()

        async def losing(*arguments: object) -> None:
            if not announcing.is_set():
                announcing.set()
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

        monkeypatch.setattr(site.registry, "announce", losing)
        await announcing.wait()
        async with asyncio.timeout(5):
            await site.node.stop()

    asyncio.run(scenario())


def test_a_revocation_is_stored_and_carried_out_everywhere(site: Site) -> None:
    async def scenario() -> None:
        broker, registry = MemoryBroker(site.metrics), MemoryRegistry()
        node = make_node(site, ServerSettings(), broker=broker, registry=registry)
        await node.start()
        client = FakeClient(1)
        node.clients.add(client)
        result = await node.revoke(Revocation("default", jti="t1"))
        assert result == ControlResult(1, 1, 1)
        assert client.asked == [INVALID_TOKEN]
        assert await registry.revocations() == [Revocation("default", jti="t1")]
        page = await node.occupied_channels("default", "", 10, "")
        assert page.channels == []
        assert node.health().ok
        assert await node.control(RefreshUser("default", "42", expire_at=7)) == ControlResult(1, 1, 1)
        assert client.asked == [INVALID_TOKEN, (False, 7)]
        await node.stop()
        assert not node.health().ok

    asyncio.run(scenario())


def test_the_lag_of_the_loop_is_measured(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """While a node runs."""
    monkeypatch.setattr("gateway.node.vitals.LAG_INTERVAL", 0.001)

    async def scenario() -> None:
        await site.node.start()
        async with asyncio.timeout(20):
            while sum(site.metrics.loop_lag.counts) < 3:
                await asyncio.sleep(0.001)
        await site.node.stop()

    asyncio.run(scenario())
