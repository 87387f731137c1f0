"""The checker accepts every history that keeps the promises."""

import random

import pytest

from tests.faults.miniature import KEPT, ROOM, Site
from tests.faults.subscription import Subscription
from tests.faults.verdicts import Top


def test_live_delivery_is_right() -> None:
    """Everybody gets everything in one order, whoever acknowledges how."""
    site = Site()
    ann, bob = site.subscriber("ann"), site.subscriber("bob")
    for told in (True, False, True):
        id = site.publish(told=told)
        for each in (ann, bob):
            each.delivered(id, len(site.stream))
    assert site.verdict() == {}
    assert (site.checker.attempts, site.checker.acknowledged, site.checker.deliveries) == (3, 3, 6)


def test_a_delivery_may_overtake_the_acknowledgement() -> None:
    """The client may hear of its publication before the answer comes."""
    site = Site()
    ann = site.subscriber()
    id = site.send()
    site.stream.append(id)
    ann.delivered(id, 1, "a")
    site.checker.acknowledge(id, site.tick(), site.top)
    assert site.verdict() == {}


@pytest.mark.parametrize("delivered", [True, False])
def test_unknown_outcomes_may_be_delivered_or_not(delivered: bool) -> None:
    """Whatever became of a publish that was not answered, it is right."""
    site = Site()
    ann = site.subscriber()
    site.publish_to(ann)
    id = site.send()
    if delivered:
        site.stream.append(id)
        ann.delivered(id, len(site.stream))
    site.publish_to(ann)
    assert site.verdict() == {}


def test_an_interruption_with_recovery_is_right() -> None:
    """What was missed comes in the answer, or nothing was missed."""
    site = Site()
    ann = site.subscriber()
    site.publish_to(ann, count=3)
    ann.interrupted(site.tick(), "cut")
    site.publish_to(count=4)
    site.recover(ann)
    site.publish_to(ann)
    ann.interrupted(site.tick(), "2500")
    site.recover(ann)
    site.publish_to(ann)
    assert site.verdict() == {}
    assert (site.checker.recovered, site.checker.gaps, site.checker.refused) == (2, 0, 0)


def test_an_announced_gap_is_right() -> None:
    """More was missed than the history holds: the client was told, and goes on from the top."""
    site = Site()
    ann, bob = site.subscriber("ann"), site.subscriber("bob")
    ann.interrupted(site.tick(), "cut")
    site.publish_to(bob, count=KEPT.publications + 1)
    site.give_up(ann)
    site.publish_to(ann, bob)
    assert site.verdict() == {}
    assert (site.checker.recovered, site.checker.gaps, site.checker.refused) == (0, 1, 0)


def test_a_new_epoch_after_a_restart_is_right() -> None:
    """What was acknowledged and lost with the server is a gap that everybody is told of."""
    site = Site()
    ann, bob = site.subscriber("ann"), site.subscriber("bob")
    site.publish_to(ann, bob, count=3)
    # Acknowledged, on its way to nobody.
    site.publish()
    site.publish(told=False)
    site.begin_anew("b")
    site.publish_to(count=2)
    for each in (ann, bob):
        each.interrupted(site.tick(), "2500")
        site.give_up(each)
    site.publish_to(ann, bob, count=5)
    assert site.verdict() == {}
    assert site.checker.gaps == 2


def test_a_stream_may_begin_under_its_subscribers() -> None:
    """Who came before it gets the first publication with its epoch, or with a recovery; each look says another."""
    site = Site()
    site.begin_anew("g.20")
    ann, bob, eve = (site.checker.subscription(name, ROOM) for name in ("ann", "bob", "eve"))
    for number, each in enumerate((ann, bob, eve)):
        each.subscribed(site.tick(), Top(f"g-{10 + number}", 0))
        assert each.position.is_same(Top("g-99", 0))
    bob.interrupted(site.tick(), "cut")
    bob.subscribed(site.tick(), Top("g-15", 0), recovered=True, was_recovering=True)
    eve.interrupted(site.tick(), "cut")
    first = site.publish()
    for each in (ann, bob):
        each.delivered(first, 1, "g.20")
    eve.subscribed(site.tick(), Top("g.20", 0), recovered=True, was_recovering=True, publications=[(first, 1)])
    site.publish_to(ann, bob, eve)
    assert site.verdict() == {}


def test_a_repeated_publish_may_arrive_in_two_epochs() -> None:
    """The server forgot the idempotency key with everything else; subscribers were told of a gap in between."""
    site = Site()
    ann = site.subscriber()
    id = site.send()
    site.stream.append(id)
    ann.delivered(id, 1)
    site.begin_anew("b")
    site.give_up(ann)
    site.checker.repeat(id)
    site.stream.append(id)
    site.checker.acknowledge(id, site.tick(), site.top)
    ann.delivered(id, 1)
    assert site.verdict() == {}


def test_a_recovery_may_fail_for_what_is_not_held() -> None:
    """Too many bytes, or too old."""
    site = Site()
    ann, bob = site.subscriber("ann"), site.subscriber("bob")
    for each in (ann, bob):
        each.interrupted(site.tick(), "cut")
    site.publish(KEPT.bytes + 1)
    site.give_up(ann)
    site.publish()
    ann.delivered(site.stream[-1], len(site.stream))
    site.now += KEPT.seconds + 1
    site.give_up(bob)
    assert site.verdict() == {}
    assert site.checker.gaps == 2


def test_one_recovery_in_a_hundred_may_fail() -> None:
    """For instance because the node was stopping."""
    site = Site()
    ann = site.subscriber()
    for _ in range(99):
        site.recover(ann)
    site.give_up(ann)
    assert site.verdict() == {}
    assert site.checker.refused == 1


def test_who_is_behind_is_known() -> None:
    """Until a subscriber is live at the position in question, or past it."""
    site = Site()
    ann = site.subscriber()
    site.publish_to(ann, count=2)
    assert site.checker.behind({ROOM: Top("a", 2)}) == []
    assert site.checker.behind({ROOM: Top("a", 3)}) == [ann]
    assert site.checker.behind({ROOM: Top("b", 0)}) == [ann]
    ann.interrupted(site.tick(), "cut")
    assert site.checker.behind({ROOM: Top("a", 1)}) == [ann]
    assert site.checker.behind({"another": Top("a", 1)}) == []


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_of_these_is_right(seed: int) -> None:
    """Subscribers that come and go, recover or are told, over servers that lose everything now and then."""
    dice = random.Random(seed)
    site = Site()
    everybody = [site.subscriber(str(number)) for number in range(5)]
    for step in range(500):
        live = [each for each in everybody if each.live]
        away = [each for each in everybody if not each.live]
        match dice.choices(("publish", "lose", "leave", "return", "restart"), (60, 5, 15, 20, 1))[0]:
            case "publish":
                site.publish_to(*live)
            case "lose":
                site.send()
            case "leave" if live:
                dice.choice(live).interrupted(site.tick(), "cut")
            case "return" if away:
                come_back(site, dice.choice(away))
            case "restart":
                site.begin_anew(f"epoch {step}")
                for each in live:
                    each.interrupted(site.tick(), "2500")
    for each in everybody:
        come_back(site, each)
    assert site.verdict() == {}


def come_back(site: Site, subscription: Subscription) -> None:
    if subscription.epoch == site.epoch and len(site.stream) - subscription.offset <= KEPT.publications:
        site.recover(subscription)
    else:
        site.give_up(subscription)
