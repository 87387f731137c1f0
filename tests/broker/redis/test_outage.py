"""What the log says while Redis is away: one line in an operator's words, whatever fails for that reason."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from gateway.broker.base import Health
from gateway.broker.redis import outage, reaper, redis_broker, redis_registry
from gateway.broker.redis.outage import TELL_INTERVAL, Outage
from tests.broker.members import PATIENCE, redis_member
from tests.broker.redis.nodes import ROOM, settings
from tests.servers import ValkeyServer


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    return [(each.getMessage(), vars(each).get("suppressed")) for each in caplog.records]


def test_it_is_told_again_while_it_lasts_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        clock, health = Clock(), [Health(True)]
        watched = Outage(lambda: health[0], clock)
        await watched.look()
        assert not watched.explains()
        health[0] = Health(False, "refused")
        assert watched.explains()
        # 24 looks a second apart.
        for _ in range(int(TELL_INTERVAL) + 9):
            await watched.look()
            clock.now += 1
        assert watched.explains()
        health[0] = Health(True)
        await watched.look()
        await watched.look()

    asyncio.run(scenario())
    lost = "Redis cannot be reached: the node is not ready, publishes fail, and it keeps trying: refused"
    assert lines(caplog) == [(lost, 1), (lost, None), ("Redis is reached again after 24 s", 1)]


def test_periodic_work_has_no_lines_of_its_own(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flushing and cleaning up, a hundred times a second, on a node whose Redis goes away and comes back."""
    monkeypatch.setattr(redis_broker, "LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(outage, "TELL_INTERVAL", 0.2)
    monkeypatch.setattr(redis_registry, "FLUSH_INTERVAL", 0.01)
    monkeypatch.setattr(reaper, "INTERVAL", 0.01)
    caplog.set_level(logging.WARNING)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as member:
            server.kill()
            await until(lambda: not member.broker.health().ok)
            member.registry.set_occupancy(ROOM, 1)
            await until(lambda: caplog.text.count("Redis cannot be reached") > 1)
            server.start()
            await until(lambda: "Redis is reached again after" in caplog.text)

    asyncio.run(scenario())
    # Work that failed before the links had noticed may have a line; whatever came later is counted.
    assert caplog.text.count("Error 111") + caplog.text.count("onnection refused") <= 2 + caplog.text.count("cannot be")
    assert any(suppressed for text, suppressed in lines(caplog) if "cannot be reached" in text)
