"""Telling the application of events: order, repetition, and channels that are empty for a moment only."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from gateway.broker.base import Ending, Happening
from gateway.broker.memory.memory_events import MemoryEvents
from gateway.errors import INTERNAL, BrokerUnavailable, RequestError
from gateway.hooks.decisions import Application, Asks, Done
from gateway.hooks.events import About, AnyEvent, DisconnectEvent, OccupiedEvent, UnsubscribeEvent
from gateway.messages import Channel
from gateway.metrics import Metrics
from gateway.node import notifier
from gateway.node.notifier import Notifier, watched
from tests.fakes import GUARD, ManualScheduler

GONE = Ending(3000, "connection closed")
FAILED = RequestError(INTERNAL, "the hook failed")


def whose(client: str, channel: str = "") -> bytes:
    return msgspec.msgpack.encode(About(client, "ann", "127.0.0.1", "plain", "websocket", b'{"a":1}', channel))


class Log(MemoryEvents):
    """Happenings of the test's making; whose turn it is, and whether it can be read, is for the test to say."""

    lasting = True

    def __init__(self, clock: ManualScheduler) -> None:
        super().__init__(Metrics(), clock.time)
        self.clock = clock
        self.is_ours = True
        self.is_away = False
        self.finished: list[str] = []

    def ended(self, number: str, client: str, channel: str = "") -> None:
        self._add(Happening(number, self._ms(), whose(client, channel), GONE))

    def became(self, number: str, name: str, *, occupied: bool) -> None:
        self._add(Happening(number, self._ms(), channel=Channel("default", name), is_occupied=occupied))

    def _ms(self) -> int:
        return int(self.clock.time() * 1000)

    async def take(self, ends: int, changes: int) -> Sequence[Happening] | None:  # type: ignore[override]
        if self.is_away:
            raise BrokerUnavailable("away")
        return await super().take(ends, changes) if self.is_ours else None

    async def finish(self, ids: Sequence[str]) -> None:
        if self.is_away:
            raise BrokerUnavailable("away")
        self.finished += ids


class Site:
    """A notifier, and an application that answers when the test says so."""

    def __init__(self, *, answers: bool = True) -> None:
        self.clock = ManualScheduler()
        self.log = Log(self.clock)
        self.metrics = Metrics()
        self.told: list[AnyEvent] = []
        self.waiting: list[Done[None]] = []
        self.answers = answers
        hook = self._hear
        application = Application(
            disconnect=hook,
            unsubscribe=Asks({"room": hook}),
            occupied=Asks({}, hook),
            vacated=Asks({}, hook),
        )
        self.notifier = Notifier(self.log, application, self.clock, self.metrics, GUARD, bool)

    def _hear(self, event: Any, done: Done[None]) -> None:
        self.told.append(event)
        if self.answers:
            done(None)
        else:
            self.waiting.append(done)

    def answer(self, outcome: RequestError | None = None) -> None:
        self.waiting.pop(0)(outcome)

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.told]

    async def look(self) -> None:
        await self.notifier._look()


def run(scenario: Callable[[Site], Awaitable[None]], *, answers: bool = True) -> Site:
    async def whole() -> Site:
        site = Site(answers=answers)
        await scenario(site)
        return site

    return asyncio.run(whole())


def test_events_say_what_happened() -> None:
    """All that was noted, and how it ended."""

    async def scenario(site: Site) -> None:
        site.log.ended("1", "c1", "room:a")
        site.log.ended("2", "c1")
        site.log.became("3", "room:a", occupied=True)
        await site.look()
        await site.look()
        at = int(site.clock.time() * 1000)
        common: dict[str, Any] = {
            "time": at,
            "client": "c1",
            "user": "ann",
            "address": "127.0.0.1",
            "protocol": "plain",
            "transport": "websocket",
            "meta": {"a": 1},
            "code": 3000,
            "reason": "connection closed",
        }
        assert site.told == [
            UnsubscribeEvent(id="1", channel="room:a", **common),
            DisconnectEvent(id="2", **common),
            OccupiedEvent(id="3", time=at, channel="room:a"),
        ]
        assert site.log.finished == ["1", "2", "3"]

    run(scenario)


def test_events_of_one_client_are_told_in_order() -> None:
    """Those of another do not wait for them."""

    async def scenario(site: Site) -> None:
        site.log.ended("1", "c1", "room:a")
        site.log.ended("2", "c1")
        site.log.ended("3", "c2")
        await site.look()
        assert site.ids == ["1", "3"]
        site.answer()
        assert site.ids == ["1", "3", "2"]

    run(scenario, answers=False)


def test_what_failed_is_told_again_later_each_time() -> None:
    """And what comes after it waits."""

    async def scenario(site: Site) -> None:
        site.log.ended("1", "c1", "room:a")
        site.log.ended("2", "c1")
        await site.look()
        for delay in (1, 2, 4, 8, 16, 32, 60, 60):
            site.answer(FAILED)
            site.clock.advance(delay - 0.5)
            assert not site.waiting
            site.clock.advance(0.5)
            assert len(site.waiting) == 1
        assert set(site.ids) == {"1"}
        assert site.metrics.hook_events_lag.read() == pytest.approx(183)
        assert site.metrics.hook_events_waiting.read() == 2
        site.answer()
        site.answer()
        await site.look()
        assert site.ids[-1] == "2"
        assert site.log.finished == ["1", "2"]
        assert (site.metrics.hook_events_lag.read(), site.metrics.hook_events_waiting.read()) == (0, 0)

    run(scenario, answers=False)


def test_what_fails_for_a_day_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged whole, and counted."""

    async def scenario(site: Site) -> None:
        site.log.ended("1", "c1")
        site.log.ended("2", "c1")
        await site.look()
        site.clock.advance(notifier.KEPT + 1)
        site.answer(FAILED)
        assert site.ids == ["1", "2"]
        assert site.metrics.hook_events_dropped.values == {"expired": 1}
        assert "gave up an event after 86400 s: DisconnectEvent(id='1'" in caplog.text

    run(scenario, answers=False)


def test_a_channel_that_is_empty_for_a_moment_is_not_vacated() -> None:
    """Somebody loads a page again. Neither event is told."""

    async def scenario(site: Site) -> None:
        site.log.became("1", "a", occupied=False)
        await site.look()
        site.clock.advance(1.5)
        site.log.became("2", "a", occupied=True)
        site.log.became("3", "a", occupied=False)
        await site.look()
        site.clock.advance(notifier.VACATED_GRACE - 1.5)
        assert site.ids == []
        site.clock.advance(1.5)
        await site.look()
        assert (site.ids, site.log.finished) == (["3"], ["1", "2", "3"])

    run(scenario)


def test_who_comes_back_after_a_vacated_channel_may_have_been_told_is_told() -> None:
    """By a node that died then, or by this one, in a call that took too long."""

    async def scenario(site: Site) -> None:
        site.log.became("1", "a", occupied=False)
        site.clock.advance(notifier.EMPTY / 1000)
        site.log.became("2", "a", occupied=True)
        site.log.became("3", "b", occupied=False)
        await site.look()
        site.clock.advance(notifier.VACATED_GRACE)
        site.answer()
        site.answer(FAILED)
        site.answer()
        site.log._add(Happening("4", site.told[1].time + 1, channel=Channel("default", "b"), is_occupied=True))
        await site.look()
        site.clock.advance(notifier.FIRST_DELAY)
        site.answer()
        site.answer()
        assert site.ids == ["1", "3", "2", "3", "4"]

    run(scenario, answers=False)


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_clocks_that_differ_do_not_matter_to_a_vacated_channel(jump: float) -> None:
    """It is told as late as with the same clock: who comes back is known then."""

    async def scenario(site: Site) -> None:
        site.log.became("1", "a", occupied=False)
        site.clock.jump(jump)
        await site.look()
        site.clock.advance(notifier.VACATED_GRACE - 0.5)
        assert site.ids == []
        site.clock.advance(notifier.VACATED_GRACE)
        assert site.ids == ["1"]

    run(scenario)


def test_what_nobody_wants_to_hear_is_finished() -> None:
    """As when a hook has gone since it was noted."""

    async def scenario(site: Site) -> None:
        site.log.ended("1", "c1", "other:a")
        site.log._add(Happening("2", 1, b"\xff", GONE))
        await site.look()
        await site.look()
        assert (site.ids, site.log.finished) == ([], ["1", "2"])

    run(scenario)


def test_another_nodes_turn_ends_the_own() -> None:
    """What is still running counts; what waits is the other's. When it is our turn again, all comes again."""

    async def scenario(site: Site) -> None:
        site.log.ended("1", "c1", "room:a")
        site.log.ended("2", "c1")
        await site.look()
        site.log.is_ours = False
        await site.look()
        site.answer()
        assert site.ids == ["1"]
        site.log.is_ours = True
        site.log.ended("1", "c1", "room:a")
        site.log.ended("2", "c1")
        await site.look()
        site.answer()
        site.answer()
        assert site.ids == ["1", "1", "2"]

    run(scenario, answers=False)


def test_a_log_that_is_away_loses_nothing() -> None:
    async def scenario(site: Site) -> None:
        site.log.ended("1", "c1")
        await site.look()
        site.log.is_away = True
        for _ in range(2):
            with pytest.raises(BrokerUnavailable):
                await site.look()
        site.log.is_away = False
        await site.look()
        assert site.log.finished == ["1"]

    run(scenario)


def test_at_most_so_many_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "MOST_OPEN", 3)

    async def scenario(site: Site) -> None:
        for number in range(5):
            site.log.ended(str(number), f"c{number}")
        await site.look()
        await site.look()
        assert len(site.waiting) == 3
        site.answer()
        await site.look()
        assert len(site.told) == 4
        # Channels do not wait for that.
        site.log.became("9", "a", occupied=True)
        await site.look()
        assert site.ids[-1] == "9"

    run(scenario, answers=False)


@pytest.mark.parametrize("lasting", [True, False])
def test_the_end_of_the_node(*, lasting: bool) -> None:
    """What is handled is noted. If no other node tells the rest, it is told first."""

    async def scenario(site: Site) -> None:
        site.log.lasting = lasting
        site.log.ended("1", "c1")
        await site.look()
        site.answer()
        site.log.ended("2", "c2")
        ending = asyncio.create_task(site.notifier.stop())
        for _ in range(10):
            await asyncio.sleep(0)
        if not lasting:
            assert not ending.done()
            site.answer()
        await ending
        assert site.log.finished == (["1"] if lasting else ["1", "2"])

    run(scenario, answers=False)


def test_a_node_that_is_alone_tells_at_its_end_which_channels_are_vacated() -> None:
    """Each once, without waiting for somebody to come back; and all that there is, in however many parts."""

    async def scenario(site: Site) -> None:
        site.log.lasting = False
        site.log.became("1", "a", occupied=False)
        await site.look()
        for number in range(2, notifier.PART + 10):
            site.log.became(str(number), f"c{number}", occupied=False)
        await site.notifier.stop()
        site.clock.advance(notifier.VACATED_GRACE)
        assert sorted(site.ids, key=int) == [str(number) for number in range(1, notifier.PART + 10)]

    run(scenario)


def test_which_channels_are_watched() -> None:
    def hook(event: Any, done: Done[None]) -> None:
        raise NotImplementedError

    application = Application(occupied=Asks({"room": hook}), vacated=Asks({"": hook}))
    names = ("room:a", "$room:a", "room:a#1", "a", "a#b:c", "other:a", ":a")
    assert [name for name in names if watched(application, name)] == [
        "room:a",
        "$room:a",
        "room:a#1",
        "a",
        "a#b:c",
        ":a",
    ]
    assert not watched(Application(), "a")


@pytest.mark.parametrize("kind", ["disconnect", "vacated"])
def test_what_nobody_wants_to_hear_is_not_read(kind: str) -> None:
    """It costs Redis hundreds of commands to look for changes of channels."""
    asked: list[tuple[int, int]] = []

    async def scenario() -> None:
        clock = ManualScheduler()
        log = Log(clock)

        async def take(ends: int, changes: int) -> Sequence[Happening]:
            asked.append((ends, changes))
            return []

        log.take = take  # type: ignore[method-assign]
        if kind == "disconnect":
            application = Application(disconnect=lambda event, done: None)
        else:
            application = Application(vacated=Asks({}, lambda event, done: None))
        await Notifier(log, application, clock, Metrics(), GUARD, bool)._look()

    asyncio.run(scenario())
    assert asked == [(notifier.PART, 0) if kind == "disconnect" else (0, notifier.PART)]
