"""A fault is counted by its part, logged with what it met, and goes no further."""

import pytest

from gateway.guard import LOG_INTERVAL, Guard
from gateway.metrics import LabelledCounter

PART = "fan-out"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(text: str) -> None:
    raise ValueError(text)


def test_what_fails_is_counted_and_logged_and_what_works_is_not(caplog: pytest.LogCaptureFixture) -> None:
    faults = LabelledCounter("faults", "part", "")
    guard = Guard(faults)
    done: list[str] = []
    assert guard.call(PART, "news", done.append, "a")
    assert not guard.call(PART, "news", fail, "b")
    assert done == ["a"]
    assert faults.values == {PART: 1}
    (record,) = caplog.records
    assert (vars(record)["part"], vars(record)["met"]) == (PART, "news")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "b"


def test_faults_of_one_part_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """All are counted; the next line says how many came before it. Other parts have lines of their own."""
    faults, clock = LabelledCounter("faults", "part", ""), Clock()
    guard = Guard(faults, clock)
    for _ in range(10):
        guard.failed(PART, error=ValueError())
    guard.failed("timer", error=ValueError())
    clock.now += LOG_INTERVAL
    guard.failed(PART, error=ValueError())
    assert faults.values == {PART: 11, "timer": 1}
    assert [(vars(each)["part"], vars(each).get("suppressed")) for each in caplog.records] == [
        (PART, None),
        ("timer", None),
        (PART, 9),
    ]


def test_what_ends_the_process_is_no_fault() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guard(LabelledCounter("faults", "part", "")).call(PART, "", interrupt)
