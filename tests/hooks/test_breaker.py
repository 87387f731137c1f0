"""When a failing backend is left alone, and when it is tried again."""

from gateway.hooks.breaker import FAILURES, PAUSE, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for client in range(FAILURES):
        breaker.begin()
        assert breaker.failed(str(client)) == (client == FAILURES - 1)
    assert breaker.is_open
    assert not breaker.admits()
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker()
    for client in range(3 * FAILURES):
        if client % (FAILURES - 1) == 0:
            assert not breaker.succeeded()
        assert not breaker.failed(str(client))
    assert breaker.admits()


def test_one_client_does_not_open_it() -> None:
    """It may cause failures by what it asks; the others' calls go on."""
    breaker = Breaker()
    for _ in range(10 * FAILURES):
        breaker.begin()
        assert not breaker.failed("mallory")
    assert breaker.admits()


def test_after_a_pause_one_call_tries() -> None:
    """The others wait for what becomes of it."""
    clock = Clock()
    breaker = opened(clock)
    for _ in range(3):
        clock.now += PAUSE - 0.01
        assert not breaker.admits()
        clock.now += 0.01
        assert breaker.admits()
        breaker.begin()
        assert not breaker.admits()
        clock.now += PAUSE
        assert not breaker.admits()
        assert not breaker.failed("ann")
        assert not breaker.admits()
    clock.now += PAUSE
    breaker.begin()
    assert breaker.succeeded()
    assert breaker.admits()
    assert not breaker.is_open


def test_an_answer_to_an_earlier_call_closes_it() -> None:
    breaker = opened(Clock())
    assert breaker.succeeded()
    assert breaker.admits()


def test_it_counts_from_the_start_once_it_is_closed() -> None:
    breaker = opened(Clock())
    breaker.succeeded()
    assert not breaker.failed("ann")
    assert breaker.admits()
