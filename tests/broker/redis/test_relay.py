"""Requests that are passed to another node, when something is wrong."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis
import msgspec
import pytest

from gateway.broker.base import Receiver
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.relay import ANSWER, REQUEST, Relay
from gateway.control import NodeId
from gateway.errors import BrokerUnavailable, OutcomeUnknown
from gateway.metrics import Metrics

HERE, THERE = NodeId("0" * 16), NodeId("1" * 16)
LIMIT = 1_000


class Link:
    """The publish link: one node listens to what is published, or none, or Redis refuses."""

    current = None

    def __init__(self, reply: Any = 1, pending: int = 0) -> None:
        self._reply = reply
        self.pending_bytes = pending
        self.published: list[bytes] = []

    async def ask(self, *command: Any) -> Any:
        if isinstance(self._reply, Exception):
            raise self._reply
        self.published.append(command[2])
        return self._reply


def relay_over(link: Link, metrics: Metrics | None = None, limit: int = LIMIT) -> Relay:
    return Relay(HERE, Keys("gw", 16), cast(KeptLink, link), limit, metrics or Metrics())


@pytest.mark.parametrize(
    ("link", "error", "outcome"),
    [
        (Link(pending=LIMIT + 1), BrokerUnavailable, "refused"),
        (Link(reply=hiredis.ReplyError("OOM")), BrokerUnavailable, "refused"),
        (Link(reply=BrokerUnavailable("no connection")), BrokerUnavailable, "refused"),
        (Link(reply=OutcomeUnknown("cut")), OutcomeUnknown, "no answer"),
        (Link(), OutcomeUnknown, "no answer"),
    ],
    ids=["too much waits", "refused", "no link", "cut", "no answer"],
)
def test_a_request_that_gets_no_answer(link: Link, error: type[Exception], outcome: str) -> None:
    """The caller learns whether it may have been carried out, metrics count it, and nothing is kept of it."""
    metrics = Metrics()
    with pytest.raises(error):
        asyncio.run(relay_over(link, metrics).ask(THERE, b"request", 0.01))
    assert (metrics.relayed.values, metrics.relayed_waiting.read()) == ({outcome: 1}, 0)


def test_metrics_show_the_requests_that_wait() -> None:
    """Until their answers come. A second answer, or one to nothing, changes nothing."""

    async def scenario() -> None:
        link, metrics = Link(), Metrics()
        passing = relay_over(link, metrics, 10 * LIMIT)
        asking = [asyncio.create_task(passing.ask(THERE, b"request", 10)) for _ in range(3)]
        while len(link.published) < 3:
            await asyncio.sleep(0)
        assert (metrics.relayed.values, metrics.relayed_waiting.read()) == ({}, 3)
        for id in (2, 2, 1, 3, 4, 2**63):
            passing.on_answer(ANSWER + msgspec.msgpack.encode((id, b"204")))
        assert await asyncio.gather(*asking) == [b"204"] * 3
        assert (metrics.relayed.values, metrics.relayed_waiting.read()) == ({"answered": 3}, 0)
        assert await relay_over(Link(reply=0), metrics).ask(THERE, b"request", 10) is None
        assert metrics.relayed.values == {"answered": 3, "no such node": 1}

    asyncio.run(scenario())


def test_requests_that_wait_for_a_node_are_bounded() -> None:
    """One that hangs answers nothing, and Redis has taken them long ago."""

    async def scenario() -> None:
        link = Link()
        passing = relay_over(link)
        outcomes = await asyncio.gather(
            *(passing.ask(THERE, b"x" * 600, 0.01) for _ in range(3)), return_exceptions=True
        )
        assert [type(each) for each in outcomes] == [OutcomeUnknown, BrokerUnavailable, BrokerUnavailable]
        assert len(link.published) == 1
        with pytest.raises(OutcomeUnknown):
            await passing.ask(THERE, b"x", 0.01)

    asyncio.run(scenario())


def test_a_caller_that_leaves_is_forgotten() -> None:
    """Its client has gone; the answer finds nobody, and the request has no outcome."""

    async def scenario() -> None:
        link, metrics = Link(), Metrics()
        passing = relay_over(link, metrics)
        asking = asyncio.create_task(passing.ask(THERE, b"request", 10))
        while not link.published:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (metrics.relayed.values, metrics.relayed_waiting.read()) == ({}, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x01", b"\x93\x01\x02\x03", b"\x91" * 2_000])
@pytest.mark.parametrize(
    ("head", "take"),
    [
        (REQUEST, lambda passing, data: passing.on_request(data, cast(Receiver, None))),
        (ANSWER, lambda passing, data: passing.on_answer(data)),
    ],
    ids=["request", "answer"],
)
def test_what_another_version_sends(head: bytes, take: Callable[[Relay, bytes], None], payload: bytes) -> None:
    """It is noted as unreadable."""
    with pytest.raises(EnvelopeError):
        take(relay_over(Link()), head + payload)
