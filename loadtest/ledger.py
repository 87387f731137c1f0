"""Accounts for every publication at every subscription."""

from collections.abc import Iterable, Mapping

import msgspec

from loadtest.result import Pair


class Published(msgspec.Struct):
    """What became of the publications of one channel."""

    # Numbers given out; all from 1 were sent.
    last: int = 0
    # Of those: refused, or unknown since the connection broke before the answer. Nobody has to have them.
    excluded: set[int] = set()

    @property
    def accepted(self) -> int:
        return self.last - len(self.excluded)


class Subscription:
    """What one subscriber of a channel has got, and what it was told that it missed."""

    __slots__ = ("duplicated", "gaps", "holes", "misordered", "next", "rebase", "told")

    def __init__(self) -> None:
        self.next = 1
        self.holes: set[int] = set()
        self.gaps = 0
        self.duplicated = 0
        self.misordered = 0
        # Numbers it was told that it would not get.
        self.told: set[int] = set()
        # The next number that comes begins anew: what lies before has been announced as missed.
        self.rebase = False

    def arrive(self, number: int) -> None:
        """A publication; in the order in which the frames hold them."""
        if number == self.next:
            self.next += 1
            self.rebase = False
        elif number > self.next:
            missed = range(self.next, number)
            if self.rebase:
                self.told.update(missed)
                self.rebase = False
            else:
                self.gaps += 1
                self.holes.update(missed)
            self.next = number + 1
        elif number in self.holes:
            self.holes.remove(number)
            self.misordered += 1
        elif number in self.told:
            # It was announced as missed, and has come with what was recovered elsewhere: no harm.
            self.told.remove(number)
        else:
            self.duplicated += 1

    def account(self, published: Published) -> "Account":
        """The end: compare with what was published."""
        rest = range(self.next, published.last + 1)
        missed = {*self.told, *rest} if self.rebase else self.told
        lost = self.holes if self.rebase else {*self.holes, *rest}
        return Account(
            expected=published.accepted,
            lost=len(lost - published.excluded),
            told=len(missed - published.excluded),
            duplicated=self.duplicated,
            misordered=self.misordered,
            # A hole at the end is one more.
            gaps=self.gaps + bool(rest and not self.rebase and not published.excluded.issuperset(rest)),
        )


class Account(msgspec.Struct):
    """Sums over subscriptions."""

    expected: int = 0
    lost: int = 0
    told: int = 0
    duplicated: int = 0
    misordered: int = 0
    gaps: int = 0

    def add(self, other: "Account") -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def pair(self, publisher: str, subscriber: str) -> Pair:
        return Pair(
            publisher=publisher,
            subscriber=subscriber,
            expected=self.expected,
            received=self.expected - self.lost - self.told,
            lost=self.lost,
            duplicated=self.duplicated,
            misordered=self.misordered,
            gaps=self.gaps,
            missed_and_told=self.told,
        )


def merge(parts: Iterable[Mapping[tuple[int, int], Account]]) -> dict[tuple[int, int], Account]:
    """Of all workers, by (publisher's target, subscriber's target)."""
    sums: dict[tuple[int, int], Account] = {}
    for part in parts:
        for key, account in part.items():
            sums.setdefault(key, Account()).add(account)
    return sums
