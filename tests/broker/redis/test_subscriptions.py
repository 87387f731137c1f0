"""What a node is subscribed to, command by command: batches, lingering, and what a cut leaves."""

import asyncio

import hiredis
import pytest

from gateway.broker.redis import subscriptions as module
from gateway.broker.redis.link import Link
from gateway.broker.redis.subscriptions import BATCH, Subscriptions
from gateway.errors import BrokerUnavailable, RequestError
from gateway.messages import Channel
from tests.broker.redis.pipe import Pipe, run
from tests.fakes import GUARD


class Site:
    """Subscriptions over links whose other end is the test."""

    def __init__(self, linger: float = 0.02) -> None:
        self.subscriptions = Subscriptions(linger, GUARD)
        self.outcomes: dict[bytes, list[RequestError | None]] = {}
        self.complete = 0
        self.connect()

    def connect(self, *own: bytes) -> None:
        self.link, self._pipe, self._reader = Link(30, GUARD), Pipe(), hiredis.Reader()
        self.link.connection_made(self._pipe)
        self.subscriptions.restore(self.link, own or (b"own",), self._completed)

    def _completed(self) -> None:
        self.complete += 1

    def cut(self) -> None:
        self.link.abort("cut")
        self.subscriptions.cut("cut")

    def add(self, name: bytes) -> None:
        outcomes = self.outcomes.setdefault(name, [])
        self.subscriptions.add(name, Channel("default", name.decode()), outcomes.append)

    async def commands(self) -> list[list[bytes]]:
        """What was sent since the last call."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._reader.feed(self._pipe.written)
        self._pipe.written = b""
        found = []
        while command := self._reader.gets():
            found.append(command)
        return found

    async def confirm(self) -> None:
        """As Redis does."""
        for verb, *names in await self.commands():
            for name in names if verb == b"SUBSCRIBE" else ():
                self.subscriptions.confirmed(name)

    async def sent(self, verb: bytes) -> list[bytes]:
        """Wait for a command."""
        while True:
            for first, *names in await self.commands():
                if first == verb:
                    return names
            await asyncio.sleep(0.001)

    def end(self) -> None:
        self.subscriptions.stop()
        self.link.abort("end")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_INTERVAL", 0.01)


def test_what_is_asked_for_in_one_turn_is_one_write_in_batches() -> None:
    async def scenario() -> None:
        site = Site()
        assert await site.commands() == [[b"SUBSCRIBE", b"own"]]
        site.subscriptions.confirmed(b"own")
        names = [b"%d" % number for number in range(BATCH + 10)]
        for name in names:
            site.add(name)
            site.add(name)
        commands = await site.commands()
        assert [len(command) - 1 for command in commands] == [BATCH, 10]
        assert [name for _, *rest in commands for name in rest] == names
        site.subscriptions.confirmed(names[0])
        assert site.outcomes[names[0]] == [None, None]
        assert site.outcomes[names[1]] == []
        site.end()

    run(scenario)


def test_who_waits_at_a_cut_is_told_and_is_not_subscribed_again() -> None:
    """Asked for or only about to be. What was confirmed is, and until it is nothing new is taken."""

    async def scenario() -> None:
        site = Site()
        await site.confirm()
        site.add(b"kept")
        await site.confirm()
        site.add(b"asked")
        await asyncio.sleep(0)
        site.add(b"queued")
        site.cut()
        for name in (b"asked", b"queued"):
            assert [type(outcome) for outcome in site.outcomes[name]] == [BrokerUnavailable]
        site.add(b"between")
        assert [type(outcome) for outcome in site.outcomes[b"between"]] == [BrokerUnavailable]
        site.connect()
        ((verb, *names),) = await site.commands()
        assert (verb, set(names)) == (b"SUBSCRIBE", {b"own", b"kept"})
        for name in (b"kept", b"new"):
            site.add(name)
            assert [type(outcome) for outcome in site.outcomes[name]][-1:] == [BrokerUnavailable]
        assert site.complete == 1
        site.subscriptions.confirmed(b"kept")
        assert site.complete == 1
        site.subscriptions.confirmed(b"own")
        assert site.complete == 2
        site.add(b"kept")
        assert site.outcomes[b"kept"][-1] is None
        site.end()

    run(scenario)


def test_a_link_that_breaks_before_it_is_complete_never_completes() -> None:
    """A confirmation that comes late belongs to nothing."""

    async def scenario() -> None:
        site = Site()
        site.cut()
        site.subscriptions.confirmed(b"own")
        assert site.complete == 0
        site.connect()
        await site.confirm()
        assert site.complete == 1
        site.end()

    run(scenario)


def test_a_lingering_channel_is_taken_up_without_a_round_trip_and_else_given_up() -> None:
    async def scenario() -> None:
        site = Site()
        await site.confirm()
        for name in (b"a", b"b", b"c"):
            site.add(name)
        await site.confirm()
        for name in (b"a", b"b", b"c", b"never subscribed"):
            site.subscriptions.remove(name)
        site.add(b"b")
        assert site.outcomes[b"b"] == [None, None]
        assert [channel.name for channel in site.subscriptions.channels()] == ["b"]
        assert await site.sent(b"UNSUBSCRIBE") == [b"a", b"c"]
        assert site.subscriptions.channel(b"a") is None
        assert site.subscriptions.channel(b"b") == ("default", "b")
        # Asked for again, behind the command that gave it up.
        site.add(b"a")
        assert await site.sent(b"SUBSCRIBE") == [b"a"]
        assert site.outcomes[b"a"] == [None]
        site.end()

    run(scenario)


def test_what_lingers_through_a_cut_is_forgotten_when_its_time_is_over() -> None:
    """And is never told of as a gap, since nobody wanted it."""

    async def scenario() -> None:
        site = Site()
        await site.confirm()
        for name in (b"kept", b"left"):
            site.add(name)
        await site.confirm()
        site.subscriptions.remove(b"left")
        site.cut()
        assert [channel.name for channel in site.subscriptions.channels()] == ["kept"]
        while site.subscriptions.channel(b"left") is not None:
            await asyncio.sleep(0.001)
        site.connect()
        ((_, *names),) = await site.commands()
        assert set(names) == {b"own", b"kept"}
        site.end()

    run(scenario)


def test_what_is_left_before_its_confirmation_lingers_until_then() -> None:
    """Else Redis would confirm, and deliver, what this node no longer knows."""

    async def scenario() -> None:
        site = Site(linger=0)
        await site.confirm()
        site.add(b"kept")
        await site.confirm()
        site.subscriptions.remove(b"kept")
        site.cut()
        site.connect()
        # Its time is over, and it is among what the new link has to confirm.
        await asyncio.sleep(0.03)
        assert [verb for verb, *_ in await site.commands()] == [b"SUBSCRIBE"]
        for name in (b"own", b"kept"):
            site.subscriptions.confirmed(name)
        assert await site.sent(b"UNSUBSCRIBE") == [b"kept"]
        site.end()

    run(scenario)
