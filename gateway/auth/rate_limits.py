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


class Share:
    """What the connections of one user may do together; of an anonymous client, what it may do by itself."""

    __slots__ = ("_publishes", "_subscribes", "publishes", "rested_at", "subscribes")

    def __init__(self, subscribes: int, publishes: int) -> None:
        """A second, 0 for any number."""
        self.limit(subscribes, publishes)
        # Until when large answers are to rest after those that it got: monotonic seconds.
        self.rested_at = 0.0

    def limit(self, subscribes: int, publishes: int) -> None:
        """As in the beginning. What was taken is forgotten; not called unless the limits differ."""
        self._subscribes = subscribes
        self._publishes = publishes
        self.subscribes = TokenBucket.of(subscribes)
        self.publishes = TokenBucket.of(publishes)

    def has(self, subscribes: int, publishes: int) -> bool:
        """Whether these are its limits."""
        return (self._subscribes, self._publishes) == (subscribes, publishes)

    def is_whole(self, now: float) -> bool:
        """Whether it is as a new one."""
        return self.subscribes.is_full(now) and self.publishes.is_full(now) and self.rested_at <= now
