"""Connections that come at once are accepted many in a turn, and nothing is made of those that are too many."""

import asyncio
import socket
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from gateway.config.settings import LimitSettings
from gateway.metrics import Metrics
from gateway.transports import admission
from gateway.transports.acceptor import BATCH, Acceptor
from gateway.transports.admission import OVERFLOW, Admission, Place
from gateway.transports.drain import Drain
from gateway.transports.http_options import HttpOptions
from tests.fakes import GUARD
from tests.transports.conftest import fast_site, settings_of
from tests.transports.raw import RawClient


class Made(asyncio.Protocol):
    """What is made of a connection."""

    place: Place


class Crowd:
    """Connections that wait to be accepted, all at once, and an acceptor for them."""

    def __init__(self, count: int, **limits: int) -> None:
        self.made = 0
        settings, metrics = LimitSettings.model_validate(limits), Metrics()
        self.admission = Admission(settings, metrics)
        options = HttpOptions(settings, drain=Drain(0, GUARD), metrics=metrics, admission=self.admission)
        self.acceptor = Acceptor(self._make, options)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=count)
        self.listener.setblocking(False)
        self.clients = [socket.create_connection(self.listener.getsockname()) for _ in range(count)]

    def _make(self) -> Any:
        self.made += 1
        return Made()

    async def accepted(self, expected: int) -> list[int]:
        """How many were made of at the end of each turn, until they are as many as expected."""
        counts = [0]
        self.acceptor.listen(self.listener, len(self.clients))
        async with asyncio.timeout(20):
            while counts[-1] < expected:
                await asyncio.sleep(0)
                counts.append(self.made)
        return counts

    def close(self) -> None:
        self.acceptor.close()
        for each in (*self.clients, self.listener):
            each.close()


def test_many_are_accepted_in_a_turn() -> None:
    """The last does not wait as many turns as there are before it; nor does anybody else wait for all of them."""

    async def run() -> None:
        with ExitStack() as ended:
            crowd = Crowd(3 * BATCH)
            ended.callback(crowd.close)
            counts = await crowd.accepted(3 * BATCH)
            assert max(after - before for before, after in pairwise(counts)) == BATCH

    asyncio.run(run())


@pytest.mark.parametrize("ends", ["later", "with the acceptor"])
def test_nothing_is_made_of_those_that_are_too_many(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are held for a while, among nobody who waits, then closed without an answer; nothing of them stays."""
    monkeypatch.setattr(admission, "HOLD", 0.01 if ends == "later" else 60.0)

    async def run() -> None:
        with ExitStack() as ended:
            crowd = Crowd(OVERFLOW + 60, unauthenticated_per_address=10)
            ended.callback(crowd.close)
            await crowd.accepted(OVERFLOW + 10)
            if ends != "later":
                while crowd.admission.held < 50:
                    await asyncio.sleep(0)
                assert crowd.admission.unauthenticated == OVERFLOW + 10
                assert crowd.admission.total == OVERFLOW + 60
                crowd.acceptor.close()
            for client in crowd.clients[OVERFLOW + 10 :]:
                assert await asyncio.to_thread(client.recv, 1) == b""
            assert crowd.made == OVERFLOW + 10
            assert crowd.admission.held == 0
            assert crowd.admission.total <= OVERFLOW + 10

    asyncio.run(run())


def test_a_crowd_is_found_behind_the_first_that_is_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS the server accepts one a turn, and answers it; of those behind it nothing is made any more."""
    monkeypatch.setattr(admission, "HOLD", 0.01)
    with fast_site(settings_of(unauthenticated_per_address=1)) as site, ExitStack() as ended:

        def come() -> list[RawClient]:
            """All at once: the loop is busy with it."""
            return [ended.enter_context(RawClient(site.address)) for _ in range(OVERFLOW + 301)]

        answers = [client.rest() for client in site.call(come)[OVERFLOW + 1 :]]
    assert 0 < sum(b" 429 " in each for each in answers) < 100
