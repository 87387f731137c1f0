"""Accounts for every publication at every subscription."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec


class Pace(NamedTuple):
    """When the publications of a stage were due: `first` at `due` (CLOCK_MONOTONIC, nanoseconds), others in steps."""

    first: int
    due: int
    interval: float


class Published(msgspec.Struct):
    """What became of the publications of one channel."""

    # Numbers given out, from 1: one for each slot of the schedule.
    last: int = 0
    # Of those, ascending: not sent, refused, or without an answer. Nobody has to have them, unless somebody has.
    excluded: list[int] = []
    # One of each stage, in order.
    paces: list[Pace] = []

    def exclude(self, number: int) -> None:
        insort(self.excluded, number)

    def include(self, numbers: Iterable[int]) -> None:
        """They were accepted after all."""
        self.excluded = sorted({*self.excluded}.difference(numbers))

    @property
    def accepted(self) -> int:
        return self.last - len(self.excluded)

    def accepted_in(self, numbers: range) -> int:
        if not numbers:
            return 0
        return len(numbers) - bisect_left(self.excluded, numbers.stop) + bisect_left(self.excluded, numbers.start)

    def due_before(self, moment: int) -> int:
        """The newest number that was due before this value of CLOCK_MONOTONIC, nanoseconds; 0 for none."""
        index = bisect_left(self.paces, moment, key=lambda pace: pace.due) - 1
        if index < 0:
            return 0
        pace = self.paces[index]
        end = self.paces[index + 1].first - 1 if index + 1 < len(self.paces) else self.last
        return min(pace.first + int((moment - pace.due - 1) / pace.interval), end)


class Subscription:
    """What one subscriber of a channel has got, and what it was told that it missed."""

    __slots__ = ("_announced", "_holes", "duplicated", "misordered", "next")

    def __init__(self) -> None:
        self.next = 1
        self.duplicated = 0
        self.misordered = 0
        # Numbers that later ones have overtaken, ascending.
        self._holes: list[range] = []
        # What was announced as missed: numbers from the first on, as far as they were due between the others.
        self._announced: list[tuple[int, int, int]] = []

    def announce(self, since: int, until: int) -> None:
        """It was told that it may have missed what was due between two moments: CLOCK_MONOTONIC, nanoseconds. What was
        due before should have come by then, and what is due later has to come."""
        self._announced.append((self.next, since, until))

    def arrive(self, number: int) -> None:
        """A publication; in the order in which the frames hold them."""
        if number == self.next:
            self.next += 1
        elif number > self.next:
            self._holes.append(range(self.next, number))
            self.next = number + 1
        elif self._fill(number):
            self.misordered += 1
        else:
            self.duplicated += 1

    def _fill(self, number: int) -> bool:
        """Whether it was missing."""
        if self.has(number):
            return False
        index = bisect_right(self._holes, number, key=lambda hole: hole.start) - 1
        hole = self._holes[index]
        parts = (range(hole.start, number), range(number + 1, hole.stop))
        self._holes[index : index + 1] = [part for part in parts if part]
        return True

    def has(self, number: int) -> bool:
        index = bisect_right(self._holes, number, key=lambda hole: hole.start) - 1
        return number < self.next and (index < 0 or number not in self._holes[index])

    def account(self, published: Published) -> "Account":
        """The end: compare with what was published."""
        lost = told = gaps = 0
        told_of = self._told(published)
        for hole in (*self._holes, range(self.next, published.last + 1)):
            missing = range(hole.start, min(hole.stop, published.last + 1))
            here = sum(published.accepted_in(_both(missing, each)) for each in told_of)
            silent = published.accepted_in(missing) - here
            told += here
            lost += silent
            gaps += silent > 0
        return Account(
            expected=published.accepted,
            lost=lost,
            told=told,
            duplicated=self.duplicated,
            misordered=self.misordered,
            gaps=gaps,
        )

    def _told(self, published: Published) -> list[range]:
        """The numbers of which it was told; ascending, none twice."""
        found, end = [], 0
        for start, stop in sorted(
            (max(first, published.due_before(since) + 1), published.due_before(until) + 1)
            for first, since, until in self._announced
        ):
            numbers = range(max(start, end), stop)
            if numbers:
                found.append(numbers)
                end = stop
        return found


def _both(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))


class Account(msgspec.Struct):
    """Counts over subscriptions."""

    expected: int = 0
    lost: int = 0
    told: int = 0
    duplicated: int = 0
    misordered: int = 0
    gaps: int = 0

    def add(self, other: "Account") -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def merge(parts: Iterable[Mapping[tuple[int, int], Account]]) -> dict[tuple[int, int], Account]:
    """Of all workers, by (publisher's target, subscriber's target)."""
    sums: dict[tuple[int, int], Account] = {}
    for part in parts:
        for key, account in part.items():
            sums.setdefault(key, Account()).add(account)
    return sums
