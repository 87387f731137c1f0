"""Revocations: tokens that are refused although their signature is valid and they have not expired."""

import math
import time as clock
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.control import Revocation


def ahead(leeway: float) -> int:
    """Seconds from now until which tokens of a user are revoked: those of this second, and those of clocks that are
    ahead by `leeway` seconds."""
    return 1 + math.ceil(leeway)


def doubtful(leeway: float) -> int:
    """Seconds before `issued_before` in which a token may have been issued after the revocation, by a clock that is
    behind by `leeway` seconds."""
    return ahead(leeway) + math.ceil(leeway)


class Merged(NamedTuple):
    """The differences between the revocations of this node and those of the registry."""

    # Those that this node did not know.
    learned: list[Revocation]
    # Those that the registry does not have: it may have lost its data.
    forgotten: list[Revocation]


class Revocations:
    """The revocations that this node knows. None is ever withdrawn; those whose tokens have all expired are
    forgotten."""

    __slots__ = ("_time", "_tokens", "_users")

    def __init__(self, time: Callable[[], float] = clock.time) -> None:
        """`time` gives Unix seconds."""
        self._time = time
        self._users: dict[tuple[str, str], Revocation] = {}
        self._tokens: dict[tuple[str, str], Revocation] = {}

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)

    def add(self, revocation: Revocation) -> bool:
        """Add one, without weakening any other. False if it changes nothing."""
        table = self._tokens if revocation.jti else self._users
        if not revocation.jti and not revocation.user:
            return False
        key = (revocation.app, revocation.jti or revocation.user)
        known = table.get(key)
        stronger = revocation if known is None else known.joined(revocation)
        table[key] = stronger
        return stronger != known

    def merge(self, stored: Iterable[Revocation]) -> Merged:
        """Add those that the registry has stored."""
        of_registry = set(stored)
        learned = [each for each in of_registry if self.add(each)]
        self._forget()
        known = (*self._users.values(), *self._tokens.values())
        return Merged(learned, [each for each in known if each not in of_registry])

    def is_revoked(self, app: str, user: str, jti: str, issued_at: float) -> bool:
        """Whether a token is revoked. `issued_at` in Unix seconds, 0 for a token without `iat`.

        A token without `iat` counts as older than any revocation of its user.
        """
        if jti and (app, jti) in self._tokens:
            return True
        of_user = self._users.get((app, user))
        return of_user is not None and issued_at < of_user.issued_before

    def _forget(self) -> None:
        now = self._time()
        for table in (self._users, self._tokens):
            for key in [key for key, each in table.items() if each.is_over(now)]:
                del table[key]
