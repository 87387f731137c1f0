"""Every publication is accounted for, whatever a server makes of it."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.ledger import Account, Published, Subscription, merge


def account(arrivals: list[int], last: int, excluded: set[int] | None = None) -> Account:
    subscription = Subscription()
    for number in arrivals:
        subscription.arrive(number)
    return subscription.account(Published(last, excluded or set()))


def test_all_in_order_is_nothing_special() -> None:
    assert account([1, 2, 3], 3) == Account(expected=3)


def test_what_never_comes_is_lost() -> None:
    """In the middle, at the end, and all of it; a hole is one gap however long it is."""
    assert account([1, 4], 6) == Account(expected=6, lost=4, gaps=2)
    assert account([], 3) == Account(expected=3, lost=3, gaps=1)


def test_what_comes_twice_or_late_is_told_apart() -> None:
    assert account([1, 1, 2], 2) == Account(expected=2, duplicated=1)
    assert account([1, 3, 2], 3) == Account(expected=3, misordered=1, gaps=1)
    assert account([1, 3, 2, 2], 3) == Account(expected=3, misordered=1, duplicated=1, gaps=1)


def test_what_was_not_accepted_need_not_come() -> None:
    """Refused, or unknown since the connection broke; it may come all the same."""
    assert account([1, 3], 4, {2, 4}) == Account(expected=2, gaps=1)
    assert account([1, 2, 3, 4], 4, {2, 4}) == Account(expected=2)


def test_what_the_server_told_of_is_no_loss() -> None:
    """It begins anew after a gap that was announced, in the middle and at the end."""
    subscription = Subscription()
    subscription.arrive(1)
    subscription.rebase = True
    subscription.arrive(5)
    subscription.arrive(7)
    assert subscription.account(Published(7)) == Account(expected=7, lost=1, told=3, gaps=1)
    subscription.rebase = True
    assert subscription.account(Published(9)) == Account(expected=9, lost=1, told=5, gaps=1)
    subscription.arrive(8)
    assert subscription.account(Published(9)) == Account(expected=9, lost=2, told=3, gaps=2)
    subscription.arrive(3)
    assert subscription.account(Published(9)) == Account(expected=9, lost=2, told=2, gaps=2)


@given(st.lists(st.integers(1, 30), max_size=60), st.sets(st.integers(1, 30)))
def test_the_sums_are_those_of_a_model(arrivals: list[int], excluded: set[int]) -> None:
    """Of any arrivals: what is missing, and how often something came again."""
    found = account(arrivals, 30, excluded)
    assert found.lost == len(set(range(1, 31)) - set(arrivals) - excluded)
    assert found.duplicated == len(arrivals) - len(set(arrivals))
    assert found.expected == 30 - len(excluded)
    highest = 0
    late = seen = frozenset[int]()
    for number in arrivals:
        if number < highest and number not in seen:
            late |= {number}
        seen |= {number}
        highest = max(highest, number)
    assert found.misordered == len(late)


def test_workers_are_added_up() -> None:
    parts = [{(0, 1): Account(expected=2, lost=1)}, {(0, 1): Account(expected=3), (1, 0): Account(told=1)}]
    sums = merge(parts)
    assert sums == {(0, 1): Account(expected=5, lost=1), (1, 0): Account(told=1)}
    pair = sums[0, 1].pair("a", "b")
    assert (pair.publisher, pair.subscriber, pair.received, pair.lost) == ("a", "b", 4, 1)
