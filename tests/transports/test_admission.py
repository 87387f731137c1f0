"""Counting connections, and refusing those that are too many."""

import logging
import resource

import pytest

from gateway.config.settings import LimitSettings
from gateway.metrics import Metrics
from gateway.transports.admission import (
    ADDRESS,
    FULL,
    LOG_INTERVAL,
    OVERFLOW,
    RESERVED_DESCRIPTORS,
    UNAUTHENTICATED,
    Admission,
    descriptor_limit,
    raise_descriptor_limit,
)


def admission(connections: int = 10, unauthenticated: int = 5, per_address: int = 0) -> Admission:
    limits = LimitSettings(
        connections=connections, unauthenticated=unauthenticated, connections_per_address=per_address
    )
    return Admission(limits, Metrics())


def test_connections_are_refused_above_the_total() -> None:
    """And let in again when some left."""
    counted = admission()
    places = [counted.enter() for _ in range(10)]
    for place in places:
        place.authenticated()
    assert counted.check() is None
    extra = counted.enter()
    assert extra.check("192.0.2.1") is FULL
    places[0].leave()
    assert extra.check("192.0.2.1") is None


def test_silent_connections_count_as_unauthenticated() -> None:
    """From the TCP connection on; those that proved who they are do not count any more."""
    counted = admission()
    places = [counted.enter() for _ in range(6)]
    assert counted.check() is UNAUTHENTICATED
    places[0].authenticated()
    places[0].authenticated()
    assert counted.unauthenticated == 5
    assert counted.check() is None


def test_overflow_is_a_little_above_the_limit() -> None:
    """So that health checks are still answered at the limit."""
    counted = admission()
    for _ in range(10 + OVERFLOW):
        counted.enter()
    assert not counted.overflows
    counted.enter()
    assert counted.overflows


def test_clients_are_counted_by_address_only_when_limited() -> None:
    """Off by default; a place is given back when the client leaves; a Unix socket has no address."""
    unlimited = admission()
    for _ in range(4):
        assert unlimited.enter().check("192.0.2.1") is None
    counted = admission(per_address=2)
    first, second, third, other = (counted.enter() for _ in range(4))
    assert [place.check("192.0.2.1") for place in (first, second, third)] == [None, None, ADDRESS]
    assert first.check("192.0.2.1") is None
    assert other.check("192.0.2.2") is None
    first.leave()
    assert third.check("192.0.2.1") is None
    for place in (second, third, other):
        place.leave()
    assert counted.enter().check("192.0.2.2") is None
    assert counted.enter().check("") is None


def test_leaving_twice_counts_once() -> None:
    """Places are given back exactly once, whatever happened before."""
    metrics = Metrics()
    counted = Admission(LimitSettings(connections=10, unauthenticated=5), metrics)
    place = counted.enter()
    place.opened()
    place.opened()
    assert metrics.connections.read() == 1
    assert metrics.unauthenticated.read() == 1
    place.leave()
    place.leave()
    place.opened()
    place.authenticated()
    assert (counted.total, counted.unauthenticated, counted.clients) == (0, 0, 0)


def test_refusals_are_counted_all_and_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """One line per reason and interval, which says how many it stands for."""
    now = 100.0
    metrics = Metrics()
    counted = Admission(LimitSettings(connections=1, unauthenticated=1), metrics, lambda: now)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            counted.refused("connections", "limits.connections")
        counted.refused("origin")
        now += LOG_INTERVAL
        counted.refused("connections", "limits.connections")
    lines = [(vars(each)["reason"], vars(each).get("suppressed", 0)) for each in caplog.records]
    assert lines == [("connections", 0), ("origin", 0), ("connections", 4)]
    assert vars(caplog.records[0])["setting"] == "limits.connections"
    assert metrics.refused.values == {"connections": 6, "origin": 1}


def test_the_descriptor_limit_counts_without_a_limit() -> None:
    """Its hard value, since the server raises it, less what a node needs for itself."""
    assert admission(connections=0).limit == descriptor_limit() - RESERVED_DESCRIPTORS


def test_the_soft_descriptor_limit_is_raised_to_the_hard_one() -> None:
    """More descriptors without root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == descriptor_limit()
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == descriptor_limit()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_limits_can_change() -> None:
    """For those who come; those who are there stay, and are counted."""
    counted = admission(connections=3)
    places = [counted.enter() for _ in range(3)]
    for place in places:
        place.authenticated()
    counted.apply(LimitSettings(connections=1, unauthenticated=1, connections_per_address=1))
    newest = counted.enter()
    assert newest.check("192.0.2.1") is FULL
    assert counted.clients == 0
    newest.leave()
    counted.apply(LimitSettings(connections=9, unauthenticated=1, connections_per_address=1))
    one, other = counted.enter(), counted.enter()
    assert one.check("192.0.2.1") is UNAUTHENTICATED
    one.authenticated()
    assert one.check("192.0.2.1") is None
    assert other.check("192.0.2.1") is ADDRESS
    counted.apply(LimitSettings())
    assert other.check("192.0.2.1") is None
    one.leave()
    other.leave()
    assert counted.total == 3
