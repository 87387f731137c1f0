"""The memory of a node for what waits has one limit, and the greediest pay for it."""

import pytest

from gateway.hub.budget import INTERVAL, LOW_WATER, Budget
from gateway.metrics import Metrics
from tests.fakes import ManualScheduler


class Kept:
    """Keeps bytes until it is told to let go."""

    def __init__(self, size: int, *, payer: str | None = None, concerned: int = 1, fails: bool = False) -> None:
        self.held = size
        self.payer = payer
        self.concerned = concerned
        self.shed_at: int | None = None
        self._fails = fails

    def shed(self) -> None:
        if self._fails:
            raise ZeroDivisionError
        self.shed_at, self.held = self.held, 0


class Watched:
    def __init__(self, limit: int) -> None:
        self.scheduler, self.metrics = ManualScheduler(), Metrics()
        self.budget = Budget(limit, self.scheduler, self.metrics)
        self.slow: list[Kept] = []
        self.reads: list[Kept] = []
        self.budget.watch("slow client", lambda: self.slow)
        self.budget.watch("read", lambda: self.reads)
        self.budget.start()


def test_nobody_lets_go_within_the_limit() -> None:
    node = Watched(100)
    node.slow += [Kept(60), Kept(40)]
    node.scheduler.advance(1)
    assert node.metrics.shed.values == {}
    assert (node.metrics.waiting_bytes.read(), node.metrics.waiting_limit.read()) == (100, 100)


def test_those_that_keep_most_let_go_until_there_is_room() -> None:
    """Of whatever kind; those that keep little keep it."""
    node = Watched(1000)
    node.slow += [Kept(10), Kept(500), Kept(20)]
    node.reads += [Kept(480), Kept(30)]
    node.scheduler.advance(2 * INTERVAL)
    assert [each.shed_at for each in (*node.slow, *node.reads)] == [None, 500, None, None, None]
    assert node.metrics.shed.values == {"slow client": 1}
    node.reads += [Kept(490)]
    node.scheduler.advance(2 * INTERVAL)
    assert [each.shed_at for each in node.reads] == [None, None, 490]
    assert node.metrics.waiting_bytes.read() <= 1000 * LOW_WATER


def test_the_payer_who_keeps_most_lets_go_until_another_one_does() -> None:
    """Many small ones of one user go before a larger one of another, and nobody is left with nothing for it."""
    node = Watched(1000)
    node.slow += [*(Kept(90, payer="greedy") for _ in range(9)), Kept(100, payer="honest"), Kept(120), Kept(30)]
    node.scheduler.advance(2 * INTERVAL)
    assert [each.payer for each in node.slow if each.shed_at] == ["greedy"] * 4


def test_what_is_kept_for_many_is_less_greedy_than_for_one() -> None:
    """Letting go of it would hit them all."""
    node = Watched(1000)
    node.slow += [Kept(200), Kept(200)]
    node.reads += [Kept(640, concerned=100), Kept(60, concerned=0)]
    node.scheduler.advance(2 * INTERVAL)
    assert [each.shed_at for each in (*node.slow, *node.reads)] == [200, 200, None, None]
    node.reads.append(Kept(750, concerned=1000))
    node.scheduler.advance(2 * INTERVAL)
    assert [each.shed_at for each in node.reads] == [640, 60, None]


def test_a_sum_that_is_known_is_asked_for() -> None:
    """Holders that share what they keep know better than their sum."""
    scheduler, metrics = ManualScheduler(), Metrics()
    budget, holders, held = Budget(100, scheduler, metrics), [Kept(60), Kept(60)], [100]
    budget.watch("slow client", lambda: holders, lambda: held[0])
    budget.look()
    assert metrics.shed.values == {}
    held[0] = 101
    budget.look()
    assert metrics.shed.values == {"slow client": 1}


def test_one_that_fails_stops_neither_the_others_nor_the_next_look() -> None:
    node = Watched(100)
    node.slow += [Kept(300, fails=True), Kept(200)]
    node.scheduler.advance(3 * INTERVAL)
    assert node.slow[1].shed_at is None or node.metrics.faults.values["budget"] >= 1
    node.slow[0].held = 0
    node.slow.append(Kept(200))
    node.scheduler.advance(2 * INTERVAL)
    assert node.slow[2].shed_at == 200


def test_it_ends_with_the_node() -> None:
    node = Watched(1)
    node.budget.stop()
    node.scheduler.advance(1)
    node.slow.append(Kept(5))
    node.scheduler.advance(10)
    assert node.slow[0].shed_at is None


@pytest.mark.parametrize("limit", [50, 5])
def test_a_lower_limit_holds_from_the_next_look(limit: int) -> None:
    """As after a reload."""
    node = Watched(100)
    node.slow.append(Kept(60))
    node.budget.limit = limit
    node.scheduler.advance(2 * INTERVAL)
    assert node.slow[0].shed_at == 60
