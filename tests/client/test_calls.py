"""When a call is tried again, on a clock of the test."""

import pytest

from gateway.client import InfoResult, Refused, Unavailable, commands
from gateway.client.calls import Call
from gateway.client.tries import Pause


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def call(clock: Clock, *, timeout: float, retries: int) -> Call[InfoResult]:
    return Call(commands.info(), "http://a", timeout, retries, clock)


def broken(one: Call[InfoResult]) -> Pause:
    return one.failed(OSError("reset"), was_sent=True, was_late=False)


def test_pauses_double_with_some_chance() -> None:
    clock = Clock()
    one = call(clock, timeout=100, retries=5)
    for usual in (0.1, 0.2, 0.4, 0.8, 1.6):
        assert usual / 2 <= broken(one).seconds <= usual * 1.5
    with pytest.raises(Unavailable, match="http://a: the connection broke: reset; the request may"):
        broken(one)


def test_the_timeout_is_for_all_tries() -> None:
    """A try gets what is left of it, and there is none that would begin too late."""
    clock = Clock()
    one = call(clock, timeout=1, retries=5)
    assert one.left == 1
    clock.now += 0.5
    assert one.left == 0.5
    broken(one)
    clock.now += 0.45
    with pytest.raises(Unavailable):
        broken(one)
    clock.now += 1
    assert one.left > 0


def test_what_was_sent_once_stays_unknown() -> None:
    """Even if the last try found no connection."""
    one = call(Clock(), timeout=10, retries=1)
    broken(one)
    with pytest.raises(Unavailable) as caught:
        one.failed(OSError("refused"), was_sent=False, was_late=False)
    assert caught.value.is_unknown


def test_the_body_has_only_what_was_given() -> None:
    """Absent fields are left out."""
    one = Call(commands.history("a", limit=1), "", 1, 0)
    assert (one.path, one.body) == ("/api/history", b'{"channel":"a","limit":1}')
    assert Call(commands.publish("a", None), "", 1, 0).body == b'{"data":null,"channel":"a"}'
    two = Call(commands.batch([commands.info(), commands.disconnect("u", code=4000)], parallel=True), "", 1, 0)
    assert (
        two.body == b'{"commands":[{"info":{}},{"disconnect":{"user":"u","disconnect":{"code":4000}}}],"parallel":true}'
    )


def test_a_request_that_is_too_large_is_refused() -> None:
    """Asking again would not help."""
    with pytest.raises(Refused, match="413 the request is too large for a proxy"):
        call(Clock(), timeout=1, retries=1).answered(413, b"<html>")
