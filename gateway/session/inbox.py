"""Requests on their way in: strictly in order, and no faster than allowed."""

import enum
from collections.abc import Callable, Sequence
from functools import partial

from gateway.auth.rate_limits import TokenBucket
from gateway.control import SubscribeUser
from gateway.messages import Request
from gateway.scheduler import Scheduler
from gateway.session.transport import Transport

# A flooding client is not read from until its debt is paid; one that owes more than this many seconds is closed.
# One read of a socket (up to 256 KiB) can hold that much before the pause acts.
FLOOD_DEBT = 5.0
# Publications and members that a client may ask for in a second, and their bytes. An item costs 5 us to read and to
# write: 5 % of a core. A byte passes through Redis, this node and the line: 16 MiB a second are 134 Mbit/s.
ITEMS_PER_SECOND = 10_000
BYTES_PER_SECOND = 16 * 1024 * 1024
# Seconds that are not worth a pause by themselves; they add up.
SHORTEST_REST = 0.01
# Requests carried out in one turn of the loop; one frame may hold 5,000. They cost up to 30 us each.
TURN_REQUESTS = 64
# Seconds that a request may wait for what others owe the client. The broker answers within `redis.publish_timeout` and
# a few attempts, a key set within 15 s: what takes longer than this never comes.
LONGEST_WAIT = 60.0

# What the server wants of the client may have to wait like the client's own requests.
Work = Request | SubscribeUser


class _Hold(enum.IntFlag):
    """Why nothing is read from the socket."""

    NONE = 0
    WAITING = 1
    FLOOD = 2
    REST = 4
    TURN = 8


class Inbox:
    """Runs requests one after another; while one blocks, the others wait and the socket is not read."""

    __slots__ = (
        "_blocking",
        "_bucket",
        "_holds",
        "_queue",
        "_rested_at",
        "_run",
        "_scheduler",
        "_transport",
        "_waits_since",
    )

    def __init__(
        self,
        transport: Transport,
        scheduler: Scheduler,
        bucket: TokenBucket,
        run: Callable[[Work], bool],
    ) -> None:
        """`run` carries a request out, or returns False to get it again after the next `unblock` or `go_on`."""
        self._transport = transport
        self._scheduler = scheduler
        self._bucket = bucket
        self._run: Callable[[Work], bool] | None = run
        self._queue: Sequence[Work] = ()
        # The request for the end of which all others wait.
        self._blocking: Work | None = None
        self._rested_at = 0.0
        # When the first of those that wait began to.
        self._waits_since = 0.0
        self._holds = _Hold.NONE

    @property
    def held(self) -> bool:
        """Whether the socket is not being read, so that answers of the client may wait in it."""
        return self._holds is not _Hold.NONE

    @property
    def is_stuck(self) -> bool:
        """Whether a request has waited for so long that what it waits for will not come."""
        return bool(self._queue) and self._scheduler.now() - self._waits_since > LONGEST_WAIT

    def put(self, requests: Sequence[Work]) -> None:
        """Run the requests after those that wait."""
        if self._queue:
            self._queue = [*self._queue, *requests]
        else:
            self._process(requests)

    def withdraw(self, channel: str) -> bool:
        """Forget the server's subscribes to a channel (to all when empty) that wait; False when there are none."""
        kept = [work for work in self._queue if not (isinstance(work, SubscribeUser) and channel in ("", work.channel))]
        found = len(kept) < len(self._queue)
        self._queue = kept
        return found

    def charge(self, requests: int) -> bool:
        """Count requests, before they are read, against the limit; above it reading pauses. False: far above it."""
        debt = self._bucket.charge(self._scheduler.now(), requests)
        if debt > FLOOD_DEBT:
            return False
        if debt and not self._holds & _Hold.FLOOD:
            self._hold(_Hold.FLOOD)
            self._scheduler.call_later(debt, partial(self._release, _Hold.FLOOD))
        return True

    def rest(self, items: int, size: int) -> None:
        """The client got an answer of so many items and bytes: it may not get more for as long as these are worth."""
        now = self._scheduler.now()
        self._rested_at = max(self._rested_at, now) + max(items / ITEMS_PER_SECOND, size / BYTES_PER_SECOND)
        if self._rested_at - now >= SHORTEST_REST and not self._holds & _Hold.REST:
            self._hold(_Hold.REST)
            self._scheduler.call_later(self._rested_at - now, self._rested)

    def _rested(self) -> None:
        left = self._rested_at - self._scheduler.now()
        if left > 0:
            self._scheduler.call_later(left, self._rested)
            return
        self._release(_Hold.REST)
        self.go_on()

    def block(self, work: Work) -> None:
        """Requests wait until this one is `unblock`ed."""
        self._blocking = work

    def unblock(self, work: Work) -> None:
        """A request has ended: go on with what waits, unless that is for another one."""
        if self._blocking is work:
            self._blocking = None
        self.go_on()

    def go_on(self) -> None:
        """Something that requests may wait for has changed."""
        if self._must_wait:
            return
        queue, self._queue = self._queue, ()
        self._process(queue)
        if not self._queue:
            self._release(_Hold.WAITING)

    def close(self) -> None:
        """Drop what waits; nothing runs any more."""
        self._run = self._blocking = None
        self._queue = ()

    @property
    def _must_wait(self) -> bool:
        return self._blocking is not None or bool(self._holds & (_Hold.REST | _Hold.TURN))

    def _next_turn(self) -> None:
        self._release(_Hold.TURN)
        self.go_on()

    def _process(self, requests: Sequence[Work]) -> None:
        for index, request in enumerate(requests):
            if self._run is None:
                return
            if index == TURN_REQUESTS:
                self._hold(_Hold.TURN)
                self._scheduler.call_soon(self._next_turn)
            if self._must_wait or not self._run(request):
                if index or not self._holds & _Hold.WAITING:
                    self._waits_since = self._scheduler.now()
                self._queue = requests[index:]
                self._hold(_Hold.WAITING)
                return

    def _hold(self, hold: _Hold) -> None:
        if not self._holds:
            self._transport.pause_reading()
        self._holds |= hold

    def _release(self, hold: _Hold) -> None:
        if not self._holds & hold:
            return
        self._holds &= ~hold
        if not self._holds and self._run is not None:
            self._transport.resume_reading()
