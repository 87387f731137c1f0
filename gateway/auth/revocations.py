"""Tokens that are refused although they are genuine and have not expired."""

import time as clock
from collections.abc import Callable, Iterable

from gateway.control import Revocation


class Revocations:
    """What this node knows to be revoked. Nothing is ever taken back; records past their `expire_at` are forgotten."""

    __slots__ = ("_time", "_tokens", "_users")

    def __init__(self, time: Callable[[], float] = clock.time) -> None:
        """`time` gives Unix seconds."""
        self._time = time
        self._users: dict[tuple[str, str], Revocation] = {}
        self._tokens: dict[tuple[str, str], Revocation] = {}

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)

    def add(self, revocation: Revocation) -> None:
        """Know one more."""
        if revocation.jti:
            self._tokens[revocation.app, revocation.jti] = revocation
        elif revocation.user:
            key = (revocation.app, revocation.user)
            known = self._users.get(key)
            if known is None or known.issued_before <= revocation.issued_before:
                self._users[key] = revocation

    def merge(self, stored: Iterable[Revocation]) -> list[Revocation]:
        """Know what the registry has stored too; returns what it should have and has not: it may have lost its data."""
        of_registry = set(stored)
        for revocation in of_registry:
            self.add(revocation)
        self._forget()
        return [each for each in (*self._users.values(), *self._tokens.values()) if each not in of_registry]

    def is_revoked(self, app: str, user: str, jti: str, issued_at: int) -> bool:
        """Whether a token is revoked. `issued_at` in Unix seconds, 0 for a token that does not say.

        A token that does not say is taken for older than any revocation of its user.
        """
        if jti and (app, jti) in self._tokens:
            return True
        of_user = self._users.get((app, user))
        return of_user is not None and issued_at <= of_user.issued_before

    def _forget(self) -> None:
        """Drop what is past its time: those tokens have expired by themselves."""
        now = self._time()
        for table in (self._users, self._tokens):
            for key in [key for key, each in table.items() if 0 < each.expire_at <= now]:
                del table[key]
