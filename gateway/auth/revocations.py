"""Tokens that are refused although they are genuine and have not expired."""

import time as clock
from collections.abc import Callable, Iterable

from gateway.messages import Revocation

# A list read from the registry may be older than what a control message said meanwhile; seconds for which that stays.
SETTLING = 60.0


class Revocations:
    """What this node knows to be revoked. Records past their `expire_at` are forgotten."""

    __slots__ = ("_news", "_time", "_tokens", "_users")

    def __init__(self, time: Callable[[], float] = clock.time) -> None:
        """`time` gives Unix seconds."""
        self._time = time
        self._users: dict[tuple[str, str], Revocation] = {}
        self._tokens: dict[tuple[str, str], Revocation] = {}
        # (when added, what), in this order, since the last list that must contain them.
        self._news: list[tuple[float, Revocation]] = []

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)

    def replace(self, revocations: Iterable[Revocation]) -> None:
        """Know these, and those added within the last minute (the list may have been read before them)."""
        self._users.clear()
        self._tokens.clear()
        now = self._time()
        self._news = [(added, revocation) for added, revocation in self._news if added > now - SETTLING]
        for revocation in (*revocations, *(revocation for _, revocation in self._news)):
            if not revocation.expire_at or revocation.expire_at > now:
                self._put(revocation)

    def add(self, revocation: Revocation) -> None:
        """Know one more; it stays at least until a `replace` a minute from now."""
        self._news.append((self._time(), revocation))
        self._put(revocation)

    def is_revoked(self, app: str, user: str, jti: str, issued_at: int) -> bool:
        """Whether a token is revoked. `issued_at` in Unix seconds, 0 for a token that does not say.

        A token that does not say is taken for older than any revocation of its user.
        """
        if jti and (app, jti) in self._tokens:
            return True
        of_user = self._users.get((app, user))
        return of_user is not None and issued_at <= of_user.issued_before

    def _put(self, revocation: Revocation) -> None:
        if revocation.jti:
            self._tokens[revocation.app, revocation.jti] = revocation
        elif revocation.user:
            key = (revocation.app, revocation.user)
            known = self._users.get(key)
            if known is None or known.issued_before <= revocation.issued_before:
                self._users[key] = revocation
