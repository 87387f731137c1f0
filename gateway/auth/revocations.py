"""Tokens that are refused although they are genuine and have not expired."""

import time as clock
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.control import Revocation


class Merged(NamedTuple):
    """What two that know revocations have to tell each other."""

    # What this node did not know.
    learned: list[Revocation]
    # What the registry should have and has not: it may have lost its data.
    forgotten: list[Revocation]


class Revocations:
    """What this node knows to be revoked. Nothing is ever taken back; what is over is forgotten."""

    __slots__ = ("_time", "_tokens", "_users")

    def __init__(self, time: Callable[[], float] = clock.time) -> None:
        """`time` gives Unix seconds."""
        self._time = time
        self._users: dict[tuple[str, str], Revocation] = {}
        self._tokens: dict[tuple[str, str], Revocation] = {}

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)

    def add(self, revocation: Revocation) -> bool:
        """Know one more, which weakens none of those known. False when nothing is new."""
        table = self._tokens if revocation.jti else self._users
        if not revocation.jti and not revocation.user:
            return False
        key = (revocation.app, revocation.jti or revocation.user)
        known = table.get(key)
        stronger = revocation if known is None else known.joined(revocation)
        table[key] = stronger
        return stronger != known

    def merge(self, stored: Iterable[Revocation]) -> Merged:
        """Know what the registry has stored too."""
        of_registry = set(stored)
        learned = [each for each in of_registry if self.add(each)]
        self._forget()
        known = (*self._users.values(), *self._tokens.values())
        return Merged(learned, [each for each in known if each not in of_registry])

    def is_revoked(self, app: str, user: str, jti: str, issued_at: float) -> bool:
        """Whether a token is revoked. `issued_at` in Unix seconds, 0 for a token that does not say.

        A token that does not say is taken for older than any revocation of its user.
        """
        if jti and (app, jti) in self._tokens:
            return True
        of_user = self._users.get((app, user))
        return of_user is not None and issued_at <= of_user.issued_before

    def _forget(self) -> None:
        now = self._time()
        for table in (self._users, self._tokens):
            for key in [key for key, each in table.items() if each.is_over(now)]:
                del table[key]
