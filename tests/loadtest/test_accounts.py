"""Every publication is accounted for, whatever a server makes of it."""

from hypothesis import given
from hypothesis import strategies as st

from gateway_loadtest.counting.accounts import Account, Pace, Published, Subscription, merge
from gateway_loadtest.results.assembly import pair_of

# One publication every ten nanoseconds: number 1 is due at 10, number 2 at 20, and so on.
STEP = 10
PACES = [Pace(1, STEP, STEP)]


def arrive(subscription: Subscription, *numbers: int) -> None:
    for number in numbers:
        subscription.arrive(number)


def account(arrivals: list[int], last: int, excluded: set[int] | None = None) -> Account:
    subscription = Subscription()
    arrive(subscription, *arrivals)
    return subscription.account(Published(last, sorted(excluded or ()), PACES))


def test_all_in_order_is_nothing_special() -> None:
    assert account([1, 2, 3], 3) == Account(expected=3)


def test_what_never_comes_is_lost() -> None:
    """In the middle, at the end, and all of it; a hole is one gap however long it is."""
    assert account([1, 4], 6) == Account(expected=6, lost=4, gaps=2)
    assert account([], 3) == Account(expected=3, lost=3, gaps=1)


def test_what_comes_twice_or_late_is_told_apart() -> None:
    """A hole that closes is no gap any more."""
    assert account([1, 1, 2], 2) == Account(expected=2, duplicated=1)
    assert account([1, 3, 2], 3) == Account(expected=3, misordered=1)
    assert account([1, 3, 2, 2], 3) == Account(expected=3, misordered=1, duplicated=1)
    assert account([5, 3, 1, 2], 5) == Account(expected=5, lost=1, misordered=3, gaps=1)


def test_what_was_not_accepted_need_not_come() -> None:
    """Refused, or unknown since the connection broke; it may come all the same."""
    assert account([1, 3], 4, {2, 4}) == Account(expected=2)
    assert account([1, 2, 3, 4], 4, {2, 4}) == Account(expected=2)


def test_a_number_that_was_never_given_out_costs_no_memory() -> None:
    """Whatever a server makes of a mark."""
    assert account([1, 10**18, 2], 3) == Account(expected=3, lost=1, misordered=1, gaps=1)


def test_what_the_server_told_of_is_no_loss() -> None:
    """As far as it was due before the subscription stood again; in the middle, and at the end."""
    subscription = Subscription()
    arrive(subscription, 1)
    subscription.announce(0, 45)
    arrive(subscription, 5, 7)
    assert subscription.account(Published(7, [], PACES)) == Account(expected=7, lost=1, told=3, gaps=1)
    subscription.announce(70, 90)
    assert subscription.account(Published(9, [], PACES)) == Account(expected=9, lost=2, told=4, gaps=2)
    arrive(subscription, 9)
    assert subscription.account(Published(9, [8], PACES)) == Account(expected=8, lost=1, told=3, gaps=1)


def test_what_comes_after_it_was_given_up_is_late() -> None:
    """Who was told that something is missing does not expect it any more."""
    subscription = Subscription()
    subscription.announce(0, 25)
    arrive(subscription, 3, 1)
    assert subscription.account(Published(3, [], PACES)) == Account(expected=3, told=1, misordered=1)


def test_who_is_deaf_after_it_came_back_loses() -> None:
    """Nobody announced what was due after the subscription stood again."""
    subscription = Subscription()
    arrive(subscription, 1)
    subscription.announce(15, 25)
    assert subscription.account(Published(1000, [], PACES)) == Account(expected=1000, lost=998, told=1, gaps=1)


def test_a_loss_of_connection_excuses_only_what_was_due_around_it() -> None:
    """Not what should have come long before, while the subscription stood; however often that happens."""
    subscription = Subscription()
    subscription.announce(300, 500)
    subscription.announce(900, 1000)
    assert subscription.account(Published(100, [], PACES)) == Account(expected=100, lost=70, told=30, gaps=1)


def test_what_somebody_has_was_accepted() -> None:
    """Whatever was answered to its publisher."""
    subscription = Subscription()
    arrive(subscription, 1, 4, 2)
    assert [number for number in range(1, 7) if subscription.has(number)] == [1, 2, 4]
    published = Published(5, [2, 3, 5], PACES)
    published.include([3, 2])
    assert (published.excluded, published.accepted) == ([5], 4)


def test_stages_have_paces_of_their_own() -> None:
    """A moment between two stages, in one of them, and before all."""
    published = Published(6, [], [Pace(1, 100, 10.0), Pace(4, 1000, 5.0)])
    moments = {0: 0, 100: 0, 101: 1, 110: 1, 111: 2, 500: 3, 1000: 3, 1001: 4, 1006: 5, 9999: 6}
    assert {moment: published.due_before(moment) for moment in moments} == moments


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


@given(
    st.lists(st.one_of(st.integers(1, 30), st.tuples(st.integers(0, 400), st.integers(0, 90)))),
    st.sets(st.integers(1, 30)),
)
def test_what_is_told_is_that_of_a_model(happened: list[int | tuple[int, int]], excluded: set[int]) -> None:
    """Arrivals (numbers) and announcements (moments, and how far they go back), as they come."""
    subscription = Subscription()
    received, told = set[int](), set[int]()
    highest = now = 0
    for each in happened:
        if isinstance(each, int):
            arrive(subscription, each)
            received.add(each)
            highest = max(highest, each)
        else:
            # Time does not go back.
            now = max(now, each[0])
            subscription.announce(now - each[1], now)
            told |= {number for number in range(highest + 1, 31) if now - each[1] <= number * STEP < now}
    found = subscription.account(Published(30, sorted(excluded), PACES))
    missing = set(range(1, 31)) - received - excluded
    assert (found.told, found.lost) == (len(missing & told), len(missing - told))


def test_workers_are_added_up() -> None:
    parts = [{(0, 1): Account(expected=2, lost=1)}, {(0, 1): Account(expected=3), (1, 0): Account(told=1)}]
    sums = merge(parts)
    assert sums == {(0, 1): Account(expected=5, lost=1), (1, 0): Account(told=1)}
    pair = pair_of(sums[0, 1], "a", "b")
    assert (pair.publisher, pair.subscriber, pair.received, pair.lost) == ("a", "b", 4, 1)
