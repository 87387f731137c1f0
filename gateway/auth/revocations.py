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


class _OfUser(NamedTuple):
    revocation: Revocation
    # The number of the change that made it what it is.
    number: int


class Revocations:
    """The revocations that this node knows. None is ever withdrawn; those whose tokens have all expired are
    forgotten."""

    __slots__ = ("_time", "_tokens", "_users", "number")

    def __init__(self, time: Callable[[], float] = clock.time) -> None:
        """`time` gives Unix seconds."""
        self._time = time
        # By app, user, and the channel of a kick.
        self._users: dict[tuple[str, str, str], _OfUser] = {}
        self._tokens: dict[tuple[str, str], Revocation] = {}
        # Counts the changes.
        self.number = 0

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)

    def add(self, revocation: Revocation) -> bool:
        """Add one, without weakening any other. False if it changes nothing."""
        app, user, jti = revocation.app, revocation.user, revocation.jti
        if not jti and not user:
            return False
        of_user = self._users.get((app, user, revocation.channel))
        known = self._tokens.get((app, jti)) if jti else of_user and of_user.revocation
        stronger = revocation if known is None else known.joined(revocation)
        if stronger == known:
            return False
        self.number += 1
        if jti:
            self._tokens[app, jti] = stronger
        else:
            self._users[app, user, revocation.channel] = _OfUser(stronger, self.number)
        return True

    def merge(self, stored: Iterable[Revocation]) -> Merged:
        """Add those that the registry has stored."""
        of_registry = set(stored)
        learned = [each for each in of_registry if self.add(each)]
        self._forget()
        known = (*(each.revocation for each in self._users.values()), *self._tokens.values())
        return Merged(learned, [each for each in known if each not in of_registry])

    def is_revoked(self, app: str, user: str, jti: str, issued_at: float) -> bool:
        """Whether a token is revoked. `issued_at` in Unix seconds, 0 for a token without `iat`.

        A token without `iat` counts as older than any revocation of its user.
        """
        if jti and (app, jti) in self._tokens:
            return True
        return self.is_kicked(app, user, "", issued_at)

    def is_kicked(self, app: str, user: str, channel: str, issued_at: float) -> bool:
        """Whether a token no longer opens a channel to its user. `issued_at` as for `is_revoked`."""
        of_user = self._users.get((app, user, channel))
        return of_user is not None and issued_at < of_user.revocation.issued_before

    def is_newer(self, app: str, user: str, channel: str, number: int) -> bool:
        """Whether the user was kicked from the channel, or revoked if it is empty, since `number` was this."""
        of_user = self._users.get((app, user, channel))
        return of_user is not None and of_user.number > number

    def _forget(self) -> None:
        now = self._time()
        self._users = {key: each for key, each in self._users.items() if not each.revocation.is_over(now)}
        self._tokens = {key: each for key, each in self._tokens.items() if not each.is_over(now)}
