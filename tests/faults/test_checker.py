"""The checker finds planted errors of every kind, and accepts every history that keeps the promises."""

import random
from collections.abc import Callable

import pytest

from tests.faults.checker import Checker
from tests.faults.subscription import Subscription
from tests.faults.verdicts import Fault, Kept, Top

ROOM = "room"
KEPT = Kept(publications=10, bytes=1_000, seconds=60.0)


class Site:
    """A correct gateway with one channel, in miniature; tests plant the errors between its calls."""

    def __init__(self) -> None:
        self.checker = Checker(KEPT)
        self.now = 0.0
        self.epoch = "a"
        self.stream: list[int] = []

    @property
    def top(self) -> Top:
        return Top(self.epoch, len(self.stream))

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def send(self, size: int = 10) -> int:
        """A publish is under way."""
        return self.checker.attempt(ROOM, self.tick(), size)

    def publish(self, size: int = 10, *, told: bool = True) -> int:
        """Acknowledged; with its position, as over HTTP, or without one, as over the native protocol."""
        id = self.send(size)
        self.stream.append(id)
        self.checker.acknowledge(id, self.tick(), self.top if told else None)
        return id

    def publish_to(self, *subscriptions: Subscription, count: int = 1) -> None:
        for _ in range(count):
            id = self.publish()
            for each in subscriptions:
                each.delivered(id, len(self.stream))

    def subscriber(self, client: str = "ann") -> Subscription:
        subscription = self.checker.subscription(client, ROOM)
        subscription.subscribed(self.tick(), self.top)
        return subscription

    def recover(self, subscription: Subscription) -> None:
        """As the gateway should: all that is missing."""
        missed = [(self.stream[offset], offset + 1) for offset in range(subscription.offset, len(self.stream))]
        asked = Top(subscription.epoch, subscription.offset)
        subscription.subscribed(self.tick(), asked, recovered=True, was_recovering=True, publications=missed)

    def give_up(self, subscription: Subscription) -> None:
        """Tell of a gap."""
        subscription.subscribed(self.tick(), self.top, was_recovering=True)

    def begin_anew(self, epoch: str) -> None:
        """The primary lost everything."""
        self.checker.restarted()
        self.epoch = epoch
        self.stream = []

    def verdict(self) -> dict[Fault, int]:
        self.checker.finish({ROOM: self.top}, self.tick())
        assert len(self.checker.violations) <= sum(self.checker.counts.values())
        return dict(self.checker.counts)


# What keeps the promises


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


# Planted errors


def skip(site: Site, ann: Subscription) -> None:
    site.publish()
    site.publish_to(ann)


def repeat(site: Site, ann: Subscription) -> None:
    site.publish_to(ann)
    ann.delivered(site.stream[-1], len(site.stream))


def repeat_later(site: Site, ann: Subscription) -> None:
    site.publish_to(ann, count=3)
    ann.delivered(site.stream[-2], len(site.stream) - 1)


def deliver_what_was_before(site: Site, ann: Subscription) -> None:
    bob = site.subscriber("bob")
    bob.delivered(site.stream[-1], len(site.stream))


def append_twice(site: Site, ann: Subscription) -> None:
    """The same publication at the next offset."""
    site.publish_to(ann, count=2)
    site.checker.tries[ROOM] += 1
    site.stream.append(site.stream[-1])
    ann.delivered(site.stream[-1], len(site.stream))


def append_again_without_key(site: Site, ann: Subscription) -> None:
    """A publication that was sent once, in two epochs."""
    site.publish_to(ann)
    site.begin_anew("b")
    site.give_up(ann)
    site.stream.append(0)
    ann.delivered(0, 1)


def swap(site: Site, ann: Subscription) -> None:
    first, second = site.publish(), site.publish()
    ann.delivered(second, len(site.stream))
    ann.delivered(first, len(site.stream) - 1)


def swap_in_stream(site: Site, ann: Subscription) -> None:
    """In the same order for everybody, which is not that of the publishers."""
    first, second = site.send(), site.send()
    site.checker.acknowledge(first, site.tick())
    third = site.send()
    for id in (second, third, first):
        site.stream.append(id)
        ann.delivered(id, len(site.stream))
    site.checker.acknowledge(second, site.tick())
    site.checker.acknowledge(third, site.tick())


def invent(site: Site, ann: Subscription) -> None:
    site.send()
    ann.delivered(10_000, len(site.stream) + 1)
    site.stream.append(10_000)


def cross_channels(site: Site, ann: Subscription) -> None:
    site.send()
    id = site.checker.attempt("elsewhere", site.tick(), 1)
    site.stream.append(id)
    ann.delivered(id, len(site.stream))


def invent_offset(site: Site, ann: Subscription) -> None:
    ann.delivered(site.send(), 10_000_000)


def acknowledge_nowhere(site: Site, ann: Subscription) -> None:
    site.checker.acknowledge(site.send(), site.tick(), Top("a", 10_000_000))


def deliver_refused(site: Site, ann: Subscription) -> None:
    id = site.send()
    site.checker.refuse(id)
    site.stream.append(id)
    ann.delivered(id, len(site.stream))


def refuse_delivered(site: Site, ann: Subscription) -> None:
    id = site.send()
    site.stream.append(id)
    ann.delivered(id, len(site.stream))
    site.checker.refuse(id)


def deliver_before_answer(site: Site, ann: Subscription) -> None:
    ann.interrupted(site.tick(), "2500")
    id = site.publish()
    ann.delivered(id, len(site.stream))
    site.recover(ann)


def recover_with_hole(site: Site, ann: Subscription) -> None:
    ann.interrupted(site.tick(), "cut")
    site.publish()
    id = site.publish()
    asked = Top("a", ann.offset)
    missed = [(id, len(site.stream))]
    ann.subscribed(site.tick(), asked, recovered=True, was_recovering=True, publications=missed)


def recover_nothing(site: Site, ann: Subscription) -> None:
    """The answer says "recovered" and skips to the top."""
    ann.interrupted(site.tick(), "cut")
    site.publish()
    ann.subscribed(site.tick(), site.top, recovered=True, was_recovering=True)


def recover_nothing_quietly(site: Site, ann: Subscription) -> None:
    """The answer says "recovered" at the old position; the hole shows with the next publication."""
    ann.interrupted(site.tick(), "cut")
    site.publish()
    ann.subscribed(site.tick(), Top("a", ann.offset), recovered=True, was_recovering=True)
    site.publish_to(ann)


def recover_across_epochs(site: Site, ann: Subscription) -> None:
    """A promoted replica without the newest writes; the same offsets again."""
    site.publish_to(ann, count=2)
    ann.interrupted(site.tick(), "cut")
    site.begin_anew("b")
    site.publish_to(count=3)
    missed = [(site.stream[-1], 3)]
    ann.subscribed(site.tick(), Top("b", 2), recovered=True, was_recovering=True, publications=missed)


def recover_unasked(site: Site, ann: Subscription) -> None:
    bob = site.checker.subscription("bob", ROOM)
    bob.subscribed(site.tick(), site.top, recovered=True, was_recovering=True)


def hand_out_again(site: Site, ann: Subscription) -> None:
    """As above with the old epoch: nobody could notice but by the contents."""
    bob = site.subscriber("bob")
    site.publish_to(ann, count=2)
    site.stream.pop()
    other = site.publish()
    bob.delivered(site.stream[-2], len(site.stream) - 1)
    bob.delivered(other, len(site.stream))


def forget_to_say(site: Site, ann: Subscription) -> None:
    """Not recovered, as if nothing had been asked for."""
    ann.interrupted(site.tick(), "cut")
    ann.subscribed(site.tick(), site.top)


def change_epoch_live(site: Site, ann: Subscription) -> None:
    site.begin_anew("b")
    id = site.publish()
    ann.delivered(id, 1, "b")


def change_epoch_silently(site: Site, ann: Subscription) -> None:
    """A subscriber of an idle channel is never told that its stream is gone."""
    site.begin_anew("b")


def change_epoch_without_cause(site: Site, ann: Subscription) -> None:
    site.epoch, site.stream = "b", []
    site.give_up(ann)


def change_epoch_once_too_often(site: Site, ann: Subscription) -> None:
    """What comes after it has a cause."""
    change_epoch_without_cause(site, ann)
    site.begin_anew("c")
    site.give_up(ann)


def deliver_to_nobody(site: Site, ann: Subscription) -> None:
    """Acknowledged without a position, and in no stream."""
    site.checker.acknowledge(site.send(), site.tick())
    site.publish_to(ann)


def deliver_to_nobody_before_a_gap(site: Site, ann: Subscription) -> None:
    """The gap came later than the loss."""
    deliver_to_nobody(site, ann)
    site.begin_anew("b")
    site.give_up(ann)


def append_to_dead_stream(site: Site, ann: Subscription) -> None:
    """Acknowledged in an epoch that is over."""
    site.begin_anew("b")
    site.give_up(ann)
    site.checker.acknowledge(site.send(), site.tick(), Top("a", 2))


def forget_newest(site: Site, ann: Subscription) -> None:
    site.publish_to(ann, count=2)
    site.stream.pop()


def stall(site: Site, ann: Subscription) -> None:
    """A subscriber that is told nothing any more."""
    bob = site.subscriber("bob")
    site.publish_to(bob, count=2)


def leave_out(site: Site, ann: Subscription) -> None:
    """A subscriber that cannot come back."""
    ann.interrupted(site.tick(), "cut")


def give_up_often(site: Site, ann: Subscription) -> None:
    """Saying "not recovered" is no way out."""
    for _ in range(98):
        site.recover(ann)
    for _ in range(2):
        ann.interrupted(site.tick(), "cut")
        site.publish()
        site.give_up(ann)


PLANTED: list[tuple[Callable[[Site, Subscription], None], dict[Fault, int]]] = [
    (skip, {Fault.GAP: 1, Fault.LOST: 1}),
    (repeat, {Fault.DUPLICATED: 1}),
    (repeat_later, {Fault.DUPLICATED: 1}),
    (deliver_what_was_before, {Fault.MISORDERED: 1}),
    (append_twice, {Fault.DUPLICATED: 1}),
    (append_again_without_key, {Fault.DUPLICATED: 1}),
    (swap, {Fault.GAP: 1, Fault.LOST: 1, Fault.MISORDERED: 1}),
    (swap_in_stream, {Fault.MISORDERED: 1}),
    (invent, {Fault.FORGED: 1}),
    (cross_channels, {Fault.FORGED: 1}),
    (invent_offset, {Fault.FORGED: 1}),
    (acknowledge_nowhere, {Fault.FORGED: 1, Fault.LOST: 1}),
    (deliver_refused, {Fault.DENIED: 1}),
    (refuse_delivered, {Fault.DENIED: 1}),
    (deliver_before_answer, {Fault.MISORDERED: 1}),
    (recover_with_hole, {Fault.GAP: 1, Fault.LOST: 1}),
    (recover_nothing, {Fault.GAP: 1, Fault.LOST: 1}),
    (recover_nothing_quietly, {Fault.GAP: 1, Fault.LOST: 1}),
    (recover_across_epochs, {Fault.GAP: 1}),
    (recover_unasked, {Fault.GAP: 1}),
    (hand_out_again, {Fault.FORKED: 2}),
    (forget_to_say, {Fault.GAP: 1, Fault.RECOVERY: 1}),
    (change_epoch_live, {Fault.GAP: 1, Fault.LOST: 1, Fault.STALE: 1}),
    (change_epoch_silently, {Fault.STALE: 1}),
    (change_epoch_without_cause, {Fault.EPOCH: 1}),
    (change_epoch_once_too_often, {Fault.EPOCH: 1}),
    (deliver_to_nobody, {Fault.LOST: 1}),
    (deliver_to_nobody_before_a_gap, {Fault.LOST: 1}),
    (append_to_dead_stream, {Fault.LOST: 1}),
    (forget_newest, {Fault.LOST: 1, Fault.STALE: 1}),
    (stall, {Fault.STALE: 1}),
    (leave_out, {Fault.STALE: 1}),
    (give_up_often, {Fault.RECOVERY: 1}),
]


@pytest.mark.parametrize(("plant", "found"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_error_is_found(plant: Callable[[Site, Subscription], None], found: dict[Fault, int]) -> None:
    """Exactly it, and it is described (what is lost in a gap, with the gap)."""
    site = Site()
    ann = site.subscriber()
    site.publish_to(ann)
    plant(site, ann)
    assert site.verdict() == found
    described = {each.fault for each in site.checker.violations}
    assert described | {Fault.LOST} == set(found) | {Fault.LOST}
    assert all(each.text for each in site.checker.violations)


def test_every_kind_of_error_is_planted() -> None:
    """No verdict of the checker is untested."""
    assert {fault for _, found in PLANTED for fault in found} == set(Fault)


def test_violations_are_bounded() -> None:
    """All are counted, few are kept."""
    site = Site()
    ann = site.subscriber()
    for _ in range(1_000):
        skip(site, ann)
    assert len(site.checker.violations) < 100
    assert site.verdict()[Fault.LOST] == 1_000
