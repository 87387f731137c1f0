"""How often a client may do something."""

# Seconds. The rounding error of a thousand additions is smaller, even on a machine that has been up for years.
ROUNDING = 1e-4


class TokenBucket:
    """Allows `rate` actions a second on average, and at most one second's worth at once.

    Its state is one number, the time at which the bucket is full again, so it takes little memory per connection. Times
    are monotonic seconds; a bucket starts full.
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
        """Take `amount` and return True, or take nothing and return False if the bucket does not hold enough."""
        full_at = max(self._full_at, now) + amount / self._rate
        if full_at - now > 1.0 + ROUNDING:
            return False
        self._full_at = full_at
        return True

    def is_full(self, now: float) -> bool:
        """Whether it equals a new bucket."""
        return self._full_at <= now

    def charge(self, now: float, amount: int) -> float:
        """Take `amount` in any case. Returns the debt: seconds until the bucket is no longer below zero."""
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
    """What the connections of one user may do together, or one anonymous connection alone."""

    __slots__ = ("_publishes", "_subscribes", "publishes", "rested_at", "subscribes")

    def __init__(self, subscribes: int, publishes: int) -> None:
        """Both per second, 0 for no limit."""
        self.limit(subscribes, publishes)
        # When the next large answer is allowed, after the ones before: monotonic seconds.
        self.rested_at = 0.0

    def limit(self, subscribes: int, publishes: int) -> None:
        """New limits; what was taken so far is forgotten. Only call it when the limits differ."""
        self._subscribes = subscribes
        self._publishes = publishes
        self.subscribes = TokenBucket.of(subscribes)
        self.publishes = TokenBucket.of(publishes)

    def has(self, subscribes: int, publishes: int) -> bool:
        """Whether these are its limits."""
        return (self._subscribes, self._publishes) == (subscribes, publishes)

    def is_whole(self, now: float) -> bool:
        """Whether it equals a new share."""
        return self.subscribes.is_full(now) and self.publishes.is_full(now) and self.rested_at <= now
