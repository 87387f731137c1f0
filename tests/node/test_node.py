"""The life of a node: how it joins the cluster, what it says and learns there, and how it leaves."""

import asyncio
from contextlib import suppress

import pytest

from gateway.control import (
    Control,
    ControlResult,
    LearnRevocations,
    Revocation,
)
from gateway.errors import BrokerUnavailable
from gateway.node import announcements
from tests.node.site import Site


@pytest.fixture
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is renewed all the time. The node is to be made behind it, since it takes its interval then."""
    monkeypatch.setattr(announcements, "INTERVAL", 0.01)


def test_a_reload_is_announced_at_once(site: Site) -> None:
    """Others compare the settings of all nodes."""

    async def scenario() -> None:
        await site.node.start()
        assert [(info.bus, info.settings) for info in await site.administration.nodes()] == [(1, {})]
        site.host.digests = {"auth": "1"}
        site.administration.reload()
        async with asyncio.timeout(20):
            while [info.settings for info in await site.administration.nodes()] != [{"auth": "1"}]:
                await asyncio.sleep(0)
        await site.node.stop()

    asyncio.run(scenario())


@pytest.mark.usefixtures("_brisk")
def test_a_node_joins_and_leaves(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """It learns what is revoked, tells what it is, renews that, and is gone after its stop."""
    monkeypatch.setattr(announcements, "REVOCATIONS_EVERY", 2)

    async def scenario() -> None:
        site.registry.revoked = [Revocation("default", jti="old")]
        await site.node.start()
        assert site.revocations.is_revoked("default", "", "old", 0)
        assert [info.name for info in await site.administration.nodes()] == ["first"]
        site.clients(2)
        site.registry.leases.clear()
        site.registry.revoked = [Revocation("default", jti="new")]
        async with asyncio.timeout(20):
            while not (site.registry.leases and site.revocations.is_revoked("default", "", "new", 0)):
                await asyncio.sleep(0.01)
        # What the registry forgot, it is told again.
        assert Revocation("default", jti="old") in site.registry.revoked
        (info,) = await site.administration.nodes()
        assert (info.num_clients, info.num_users) == (2, 1)
        assert info.rss > 0
        await site.node.stop()
        assert await site.administration.nodes() == []

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


@pytest.mark.usefixtures("_brisk")
def test_what_the_registry_has_lost_is_stored_again_at_once(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """When the lease is gone, when the link is back, and when the node leaves; others are told to read it again."""
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


@pytest.mark.usefixtures("_brisk")
def test_a_registry_that_fails_does_not_end_the_node(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """Neither while it runs nor when it leaves."""

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


@pytest.mark.usefixtures("_brisk")
def test_a_lost_cancellation_does_not_keep_a_node_from_stopping(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """What the registry uses may lose it (`asyncio.wait_for` before Python 3.12 does)."""

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
