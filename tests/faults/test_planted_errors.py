"""The checker finds planted errors of every kind."""

from collections.abc import Callable

import pytest

from tests.faults.miniature import ROOM, Site
from tests.faults.subscription import Subscription
from tests.faults.verdicts import Fault, Top


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


def begin_in_another_generation(site: Site, ann: Subscription) -> None:
    """What was published before it is lost, and nobody is told."""
    bob = site.checker.subscription("bob", ROOM)
    bob.subscribed(site.tick(), Top("g-10", 0))
    site.begin_anew("h.20")
    bob.delivered(site.publish(), 1, "h.20")


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
    (begin_in_another_generation, {Fault.GAP: 1, Fault.LOST: 1, Fault.STALE: 2}),
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
