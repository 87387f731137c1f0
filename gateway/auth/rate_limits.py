"""How often a client may do something."""

# Seconds. A thousand sums of fractions miss the exact second by less, on a machine that has been up for years too.
ROUNDING = 1e-4


class TokenBucket:
    """Allows `rate` actions a second on average, and at most one second's worth at once.

    Its state is one number, the time at which the bucket is full again, so that a connection that does nothing holds
    next to nothing. Times are monotonic seconds; a bucket starts full.
    """

    __slots__ = ("_full_at", "_rate")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._full_at = 0.0

    @staticmethod
    def of(rate: int) -> "TokenBucket":
        """A bucket of its own, or the shared one without a limit when `rate` is 0."""
        return TokenBucket(rate) if rate else UNLIMITED

    def take(self, now: float, amount: int = 1) -> bool:
        """Take `amount` if the bucket holds as much; False takes nothing."""
        full_at = max(self._full_at, now) + amount / self._rate
        if full_at - now > 1.0 + ROUNDING:
            return False
        self._full_at = full_at
        return True

    def is_full(self, now: float) -> bool:
        """Whether it is as a new one."""
        return self._full_at <= now

    def charge(self, now: float, amount: int) -> float:
        """Take `amount` in any case. Returns the debt: seconds until the bucket holds nothing less than nothing."""
        self._full_at = max(self._full_at, now) + amount / self._rate
        debt = self._full_at - now - 1.0
        return debt if debt > ROUNDING else 0.0


class _Unlimited(TokenBucket):
    __slots__ = ()

    def take(self, now: float, amount: int = 1) -> bool:
        return True

    def charge(self, now: float, amount: int) -> float:
        return 0.0


UNLIMITED = _Unlimited(0)
