"""Token buckets: never more than the rate over any time, and at most one second's worth at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.rate_limits import UNLIMITED, TokenBucket


@pytest.mark.parametrize("rate", [1, 3, 7, 200, 1000])
@pytest.mark.parametrize("now", [0.0, 1e9 + 1 / 3])
def test_a_second_of_actions_at_once_and_no_more(rate: int, now: float) -> None:
    """A full bucket holds `rate`; a whole second later it is full again."""
    bucket = TokenBucket.of(rate)
    for start in (now, now + 1.0, now + 100.0):
        assert all(bucket.take(start) for _ in range(rate))
        assert not bucket.take(start)


def test_one_comes_back_after_its_share_of_a_second() -> None:
    """Ten a second: one every tenth."""
    bucket = TokenBucket.of(10)
    assert bucket.take(5.0, 10)
    assert not bucket.take(5.09)
    assert bucket.take(5.1)
    assert not bucket.take(5.1)


def test_what_is_refused_costs_nothing() -> None:
    """A client that keeps trying is not shut out for longer."""
    bucket = TokenBucket.of(2)
    assert bucket.take(0.0, 2)
    assert not any(bucket.take(0.1) for _ in range(1000))
    assert bucket.take(0.5)


def test_more_than_the_bucket_holds_is_never_taken() -> None:
    """Not even from a full one."""
    assert not TokenBucket.of(5).take(0.0, 6)
    assert TokenBucket.of(5).take(0.0, 5)


def test_a_charge_is_always_taken_and_tells_the_debt() -> None:
    """The debt is in seconds of the rate, and nothing else is allowed until it is paid."""
    bucket = TokenBucket.of(10)
    assert bucket.charge(0.0, 10) == 0.0
    assert bucket.charge(0.0, 20) == pytest.approx(2.0)
    assert not bucket.take(2.0)
    assert bucket.charge(2.0, 0) == 0.0
    assert bucket.take(2.1)


def test_no_limit_costs_nothing() -> None:
    """Rate 0 is one shared bucket that allows everything."""
    bucket = TokenBucket.of(0)
    assert bucket is UNLIMITED
    assert all(bucket.take(0.0, 10**9) for _ in range(10))
    assert bucket.charge(0.0, 10**9) == 0.0


@given(
    rate=st.integers(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 0.7), st.integers(1, 10)), max_size=60),
)
@settings(derandomize=True)
def test_the_rate_holds_over_any_time(rate: int, steps: list[tuple[float, int]]) -> None:
    """Between any two moments at most their distance times the rate was taken, and one second's worth more."""
    bucket = TokenBucket(rate)
    now, taken = 100.0, [(100.0, 0)]
    for delay, amount in steps:
        now += delay
        if bucket.take(now, amount):
            taken.append((now, taken[-1][1] + amount))
    for index, (start, before) in enumerate(taken):
        for end, after in taken[index + 1 :]:
            assert after - before <= (end - start + 1.0) * rate + 1 + 1e-3
