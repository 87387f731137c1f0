"""Requests that are passed to another node, when something is wrong."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis
import pytest

from gateway.broker.base import Receiver
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.relay import ANSWER, REQUEST, Relay
from gateway.control import NodeId
from gateway.errors import BrokerUnavailable, OutcomeUnknown

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


def relay_over(link: Link) -> Relay:
    return Relay(HERE, Keys("gw", 16), cast(KeptLink, link), LIMIT)


@pytest.mark.parametrize(
    ("link", "error"),
    [
        (Link(pending=LIMIT + 1), BrokerUnavailable),
        (Link(reply=hiredis.ReplyError("OOM")), BrokerUnavailable),
        (Link(reply=OutcomeUnknown("cut")), OutcomeUnknown),
        (Link(), OutcomeUnknown),
    ],
    ids=["too much waits", "refused", "cut", "no answer"],
)
def test_a_request_that_gets_no_answer(link: Link, error: type[Exception]) -> None:
    """The caller learns whether it may have been carried out, and nothing is kept of it."""
    passing = relay_over(link)
    with pytest.raises(error):
        asyncio.run(passing.ask(THERE, b"request", 0.01))
    assert passing.waiting == 0


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
    """Its client has gone; the answer finds nobody."""

    async def scenario() -> None:
        link = Link()
        passing = relay_over(link)
        asking = asyncio.create_task(passing.ask(THERE, b"request", 0.01))
        while not link.published:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert passing.waiting == 0

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
