"""What is the memory engine's own."""

import asyncio

import pytest

from gateway.broker.memory import memory_broker as module
from gateway.broker.memory.memory_broker import MemoryBroker
from gateway.control import DisconnectUser
from gateway.errors import BrokerUnavailable
from gateway.messages import PUBLISHED, Channel, Publication, PublishOptions
from gateway.metrics import Metrics
from tests.broker.members import Inbox

ROOM = Channel("default", "room")


def test_what_a_stop_keeps_from_delivery_is_not_acknowledged() -> None:
    """Neither with a key nor without; and control messages find nobody."""

    async def scenario() -> None:
        broker, inbox = MemoryBroker(Metrics()), Inbox()
        await broker.start(inbox)
        broker.subscribe(ROOM, lambda error: None)
        outcomes: list[object] = []
        for key in ("", "key"):
            broker.publish(Publication(ROOM, b"1"), PublishOptions(key), outcomes.append)
        await broker.stop()
        assert [type(outcome) for outcome in outcomes] == [BrokerUnavailable] * 2
        with pytest.raises(BrokerUnavailable):
            await broker.control(DisconnectUser("default", "42"))
        await asyncio.sleep(0)
        assert inbox.data == []
        # Started again, it delivers nothing of before, and the key is free.
        await broker.start(inbox)
        broker.publish(Publication(ROOM, b"2"), PublishOptions("key"), outcomes.append)
        await asyncio.sleep(0)
        assert outcomes[2:] == [PUBLISHED]
        assert inbox.data == [b"2"]

    asyncio.run(scenario())


def test_keys_are_remembered_for_their_time_and_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first: memory does not grow with every key."""
    monkeypatch.setattr(module, "REMEMBERED", 3)

    async def scenario() -> None:
        now = 100.0
        broker, inbox = MemoryBroker(Metrics(), lambda: now), Inbox()
        await broker.start(inbox)
        broker.subscribe(ROOM, lambda error: None)

        async def published(key: str) -> bool:
            """Whether it was delivered."""
            before = len(inbox.data)
            broker.publish(Publication(ROOM, b"1"), PublishOptions(key, 10), lambda outcome: None)
            await asyncio.sleep(0)
            return len(inbox.data) > before

        assert [await published(key) for key in "aabbcc"] == [True, False] * 3
        now = 109.9
        assert not await published("a")
        now = 110.0
        assert await published("a")
        assert await published("d")
        assert [await published(key) for key in "adc"] == [False, False, True]

    asyncio.run(scenario())


def test_a_completion_that_fails_does_not_harm_the_others() -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context["exception"]))
        failures: list[BaseException] = []
        broker, inbox = MemoryBroker(Metrics()), Inbox()
        await broker.start(inbox)
        broker.subscribe(ROOM, lambda error: None)
        outcomes: list[object] = []

        def failing(outcome: object) -> None:
            raise RuntimeError("a fault of a caller")

        for done in (outcomes.append, failing, outcomes.append):
            broker.publish(Publication(ROOM, b"1"), PublishOptions(), done)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert outcomes == [PUBLISHED] * 2
        assert inbox.data == [b"1"] * 3
        assert len(failures) == 1

    asyncio.run(scenario())
