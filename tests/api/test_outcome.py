"""Waiting for an outcome."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.api.outcome import outcome
from gateway.errors import BrokerUnavailable, RequestError


def test_an_outcome_is_returned_or_raised() -> None:
    """Also one that is there at once."""

    def at_once(done: Callable[[int | RequestError], None]) -> None:
        done(7)

    assert asyncio.run(outcome(at_once)) == 7
    with pytest.raises(BrokerUnavailable):
        asyncio.run(outcome(lambda done: done(BrokerUnavailable("down"))))


def test_an_outcome_that_nobody_waits_for_any_more_does_no_harm() -> None:
    """The HTTP client that asked has gone."""

    async def scenario() -> None:
        started: list[Callable[[int | RequestError], None]] = []
        waiting = asyncio.ensure_future(outcome(started.append))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (done,) = started
        done(7)

    asyncio.run(scenario())
