"""Counting connections, and refusing those that are too many."""

import logging
import resource
from ipaddress import ip_network
from itertools import pairwise

import pytest

from gateway.config.settings import LimitSettings
from gateway.metrics import Metrics
from gateway.transports.admission import (
    ADDRESS,
    FULL,
    LOG_INTERVAL,
    OVERFLOW,
    PATIENCE,
    RESERVED_DESCRIPTORS,
    SHARE,
    UNAUTHENTICATED,
    Admission,
    Place,
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
    counted = admission(unauthenticated=1_000)
    for _ in range(9 + OVERFLOW):
        counted.enter()
    assert counted.overflow(counted.enter()) is None
    assert counted.overflow(counted.enter()) is FULL
    waiting = admission(connections=1_000, unauthenticated=10)
    for _ in range(9 + OVERFLOW):
        waiting.enter()
    assert waiting.overflow(waiting.enter()) is None
    assert waiting.overflow(waiting.enter()) is UNAUTHENTICATED


def test_those_that_are_held_are_few() -> None:
    """They occupy descriptors, so those beyond are refused at once."""
    counted = admission(connections=100, unauthenticated=3)
    places = [counted.enter() for _ in range(5)]
    assert [place.hold() > 0 for place in places] == [True, True, True, False, False]
    assert counted.unauthenticated == 2
    places[0].leave()
    assert places[3].hold() > 0
    full = admission(connections=10, unauthenticated=3)
    assert [full.enter() for _ in range(6)][-1].hold() == 0


class Crowd:
    """Connections that come at times of the test's choice, and what became of them."""

    def __init__(self, **limits: int) -> None:
        self.now = 0.0
        self.dropped: list[str] = []
        self.metrics = Metrics()
        trusted = (ip_network("10.0.0.0/8"),)
        self.counted = Admission(LimitSettings.model_validate(limits), self.metrics, lambda: self.now, trusted)

    def come(self, name: str, peer: str) -> Place:
        return self.counted.enter(peer, lambda: self.dropped.append(name))


def test_the_oldest_that_waits_loses_its_place_to_the_newest() -> None:
    """It had its time; who authenticates or leaves is in nobody's way; younger ones stay, and the newest is refused."""
    crowd = Crowd(connections=100, unauthenticated=3, unauthenticated_per_address=0)
    first = crowd.come("first", "192.0.2.1")
    crowd.come("second", "192.0.2.2").authenticated()
    crowd.come("third", "192.0.2.3").leave()
    for name in ("fourth", "fifth"):
        crowd.come(name, "192.0.2.4")
    assert crowd.counted.unauthenticated == 3
    crowd.now = PATIENCE
    assert crowd.come("sixth", "192.0.2.5").check("192.0.2.5") is None
    assert crowd.dropped == ["first"]
    first.authenticated()
    assert crowd.counted.unauthenticated == 3
    for name in ("seventh", "eighth"):
        crowd.now += PATIENCE / 2
        crowd.come(name, "192.0.2.5")
    assert crowd.dropped == ["first", "fourth", "fifth"]
    ninth = crowd.come("ninth", "192.0.2.6")
    assert ninth.check("192.0.2.6") is UNAUTHENTICATED
    assert crowd.dropped == ["first", "fourth", "fifth"]
    assert crowd.metrics.refused.values == {"unauthenticated": 3}


def test_a_crowd_that_came_at_once_is_not_dropped_at_once() -> None:
    """It would come back at once, and those who come meanwhile would wait behind all of it."""
    crowd = Crowd(connections=1_000, unauthenticated=100, unauthenticated_per_address=20)
    for number in range(20):
        crowd.come(str(number), "192.0.2.1")
    dropped = []
    for step in range(40):
        crowd.now = PATIENCE + (step + 0.5) * PATIENCE / 40
        crowd.come("again", "192.0.2.1")
        dropped.append(len(crowd.dropped))
    assert dropped[0] == 1
    assert max(after - before for before, after in pairwise(dropped)) == 1
    assert 15 <= dropped[-1] <= 21


@pytest.mark.parametrize("share", [0, 3])
def test_an_old_crowd_beyond_the_limit_is_dropped_at_once(share: int) -> None:
    """It came while it was young, a little beyond the limit; afterwards nobody else is refused for it."""
    limits = {"unauthenticated": 3} if not share else {"unauthenticated": 100}
    crowd = Crowd(connections=1_000, unauthenticated_per_address=share, **limits)
    for number in range(10):
        crowd.come(str(number), "192.0.2.1")
    assert crowd.dropped == []
    crowd.now = PATIENCE
    assert crowd.come("honest", "192.0.2.1").check("192.0.2.1") is None
    assert crowd.dropped == [str(number) for number in range(8)]


@pytest.mark.parametrize(
    ("attacker", "neighbour"),
    [
        (["192.0.2.1"], "192.0.2.2"),
        (["192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.2"),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"], "2001:db8:0:1::1"),
        (["fe80::1%eth0", "fe80::2%eth0"], "fe80:0:0:1::1"),
    ],
)
def test_an_address_has_its_share_of_those_who_wait(attacker: list[str], neighbour: str) -> None:
    """It drops its own oldest, whatever it is written like; the others notice nothing."""
    crowd = Crowd(connections=100, unauthenticated=50, unauthenticated_per_address=4)
    kept = crowd.come("neighbour", neighbour)
    for number in range(20):
        crowd.come(f"silent {number}", attacker[number % len(attacker)])
        crowd.now += PATIENCE
    assert crowd.dropped == [f"silent {number}" for number in range(16)]
    assert kept.check(neighbour) is None
    assert crowd.come("another", neighbour).check(neighbour) is None


def test_a_young_crowd_of_one_address_is_refused_beyond_its_share() -> None:
    """As a storm of clients behind one address; they come again."""
    crowd = Crowd(connections=1_000, unauthenticated=500, unauthenticated_per_address=4)
    places = [crowd.come("x", "192.0.2.1") for _ in range(5 + OVERFLOW)]
    assert places[-1].check("192.0.2.1") is SHARE
    assert crowd.counted.overflow(places[-1]) is SHARE
    assert crowd.dropped == []
    for place in places[:-4]:
        place.authenticated()
    assert places[-1].check("192.0.2.1") is None


def test_a_trusted_proxy_is_no_client() -> None:
    """Its connections count by what it says of each, from when it has said it; those of a Unix socket too."""
    crowd = Crowd(connections=1_000, unauthenticated=500, unauthenticated_per_address=4)
    for peer in ("10.0.0.1", ""):
        places = [crowd.come("x", peer) for _ in range(20)]
        assert all(crowd.counted.overflow(place) is None for place in places)
        assert [place.check(f"198.51.100.{number}") for number, place in enumerate(places)] == [None] * 20
        of_one = [crowd.come("x", peer).check("203.0.113.7") for _ in range(5)]
        assert of_one == [None] * 4 + [SHARE]
        crowd = Crowd(connections=1_000, unauthenticated=500, unauthenticated_per_address=4)


def test_clients_of_an_ipv6_network_are_counted_together() -> None:
    """A subscriber has a /64, and all addresses in it."""
    counted = admission(per_address=2)
    first, second, third = (counted.enter() for _ in range(3))
    assert first.check("2001:db8::1") is None
    assert second.check("2001:db8::2") is None
    assert third.check("2001:db8::3") is ADDRESS


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


def test_each_origin_and_address_that_is_refused_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """Another mistake, another line; but a full node is one thing, whoever comes."""
    counted = Admission(LimitSettings(), Metrics(), lambda: 100.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            for number in range(2):
                counted.refused("origin", address="192.0.2.9", detail=f"origin {number}")
                for each in (ADDRESS, SHARE, FULL):
                    counted.refused(each.reason, each.setting, f"192.0.2.{number}")
    lines = [(vars(each)["reason"], vars(each).get("detail") or vars(each)["address"]) for each in caplog.records]
    assert sorted(lines) == [
        ("address", "192.0.2.0"),
        ("address", "192.0.2.1"),
        ("connections", "192.0.2.0"),
        ("origin", "origin 0"),
        ("origin", "origin 1"),
        ("unauthenticated of an address", "192.0.2.0"),
        ("unauthenticated of an address", "192.0.2.1"),
    ]


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


def test_a_place_that_was_dropped_counts_nowhere_any_more() -> None:
    """Its handshake may have been read in the same turn of the loop, and comes too late."""
    counted = admission(per_address=1)
    place = counted.enter("192.0.2.1")
    place.leave()
    place.check("192.0.2.1")
    assert counted.enter("192.0.2.1").check("192.0.2.1") is None
