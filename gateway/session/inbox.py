"""Incoming requests: run strictly in order, and rate-limited."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from gateway.auth.rate_limits import Share, TokenBucket
from gateway.control import SubscribeUser
from gateway.messages import Request
from gateway.scheduler import Scheduler
from gateway.session.transport import Transport

# A flooding client is not read from until its debt is paid; one that owes more than this many seconds is closed.
# One read of a socket (up to 256 KiB) can bring that much before the pause takes effect.
FLOOD_DEBT = 5.0
# Publications and members that a user may read per second, and their bytes. Reading and writing an item takes 5 us: 5 %
# of a core. Each byte passes through Redis, this node and the network: 16 MiB per second are 134 Mbit/s.
ITEMS_PER_SECOND = 10_000
BYTES_PER_SECOND = 16 * 1024 * 1024
# Rests shorter than this (seconds) cause no pause by themselves, but add up.
SHORTEST_REST = 0.01
# Requests of all clients together that are decoded and carried out per turn of the loop, and the number that each
# client may run regardless. A request costs up to 60 us, and one read of a socket may bring thousands.
TURN_REQUESTS = 48
LEAST_REQUESTS = 4
# Seconds that a request may wait for answers from others. The broker answers within `redis.publish_timeout` and a few
# attempts, a key set within 15 s: an answer that takes longer than this never comes.
LONGEST_WAIT = 60.0


class ExtendConnection(NamedTuple):
    """The connection is due to expire, and the application may let it live on."""

    id: int = 0


class ExtendSubscription(NamedTuple):
    """The same of a subscription."""

    channel: str
    id: int = 0


# What the server asks of a session may have to wait like the client's own requests.
Work = Request | SubscribeUser | ExtendConnection | ExtendSubscription


class Turns:
    """Counts the requests of all clients in this turn of the loop."""

    __slots__ = ("_is_ending", "_scheduler", "number", "ran")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_ending = False
        self.number = 0
        self.ran = 0

    def count(self) -> None:
        """Count one request."""
        self.ran += 1
        if not self._is_ending:
            self._is_ending = True
            self._scheduler.call_soon(self._end)

    def _end(self) -> None:
        self._is_ending = False
        self.number += 1
        self.ran = 0


class Frame:
    """A message from the client; the commands before `at` have been read."""

    __slots__ = ("at", "binary", "data")

    def __init__(self, data: bytes, *, binary: bool) -> None:
        self.data = data
        self.binary = binary
        self.at = 0


class Owner(Protocol):
    """The session that an inbox belongs to."""

    @property
    def payer(self) -> Hashable:
        """Whom the waiting bytes are charged to, as in Holder."""

    def shed(self) -> None:
        """Close the connection: others need the memory of what waits."""


class Shared(Protocol):
    """What the inboxes of a node share."""

    @property
    def scheduler(self) -> Scheduler: ...

    @property
    def turns(self) -> Turns: ...

    @property
    def inboxes(self) -> "set[Inbox]":
        """The inboxes that hold bytes."""

    @property
    def read(self) -> Callable[[Any, Frame], Sequence[Work]]:
        """Get the requests of a frame's next command; none when it closed the owner's connection or is incomplete."""

    @property
    def decode(self) -> Callable[[Any, bytes, bool], Sequence[Work]]:
        """Get the requests of an owner's command (True: from a binary message); none in the same cases as `read`."""

    @property
    def run(self) -> Callable[[Any, Work], bool]:
        """Carry out an owner's request; False to be called with it again after the next `unblock` or `go_on`."""


class _Hold:
    """Why the socket is not read, as bits. (Not an IntFlag, whose operators take a tenth of a publish's time.)"""

    NONE = 0
    WAITING = 1
    FLOOD = 2
    REST = 4
    TURN = 8


# The queue of an inbox in which nothing waits. An empty one of its own takes 760 bytes, an eighth of a connection.
_NOTHING: deque[tuple[Work | Frame, int]] = deque(maxlen=0)


class Inbox:
    """Runs requests one after another; while one blocks, the others wait and the socket is not read.

    They wait in the frame in which they arrived, and are decoded just before they run. A Holder of the budget.
    """

    __slots__ = (
        "_blocked",
        "_blocking",
        "_bucket",
        "_holds",
        "_owner",
        "_queue",
        "_ran",
        "_rested_at",
        "_running",
        "_shared",
        "_transport",
        "_turn",
        "_waits_since",
        "held",
        "share",
    )

    concerned = 1

    def __init__(
        self,
        transport: Transport,
        bucket: TokenBucket,
        owner: Owner,
        shared: Shared,
    ) -> None:
        self._transport = transport
        self._bucket = bucket
        self._owner: Owner | None = owner
        self._shared = shared
        # What waits, and the bytes it holds: those of a frame pass to its last command once that is decoded.
        self._queue = _NOTHING
        self._running = False
        # How many requests ran in a turn, and the number of that turn.
        self._ran = 0
        self._turn = 0
        # The request whose end all others wait for, and the bytes that it holds.
        self._blocking: Work | None = None
        self._blocked = 0
        # Total bytes held.
        self.held = 0
        self._rested_at = 0.0
        # The limits shared with the user's other connections; None until the user is known.
        self.share: Share | None = None
        # When the first waiting request began to wait.
        self._waits_since = 0.0
        self._holds = _Hold.NONE

    @property
    def is_paused(self) -> bool:
        """Whether the socket is not being read, so that the client's answers may be waiting in it."""
        return self._holds != _Hold.NONE

    @property
    def is_stuck(self) -> bool:
        """Whether a request has waited so long that its answer will never come."""
        waits = bool(self._queue) and not self._holds & _Hold.REST
        return waits and self._shared.scheduler.now() - self._waits_since > LONGEST_WAIT

    @property
    def payer(self) -> Hashable:
        return self._owner.payer if self._owner is not None else None

    def shed(self) -> None:
        if self._owner is not None:
            self._owner.shed()

    def move(self, transport: Transport) -> None:
        """Receive through another transport from now on."""
        self._transport = transport
        if self._holds:
            transport.pause_reading()

    def receive(self, data: bytes, *, binary: bool, commands: int) -> None:
        """Run what the client sent (`commands` of them), after what already waits."""
        is_idle = not self._queue and not self._running and not self._must_wait
        if commands == 1 and is_idle and self._owner is not None and self._has_turn:
            self._run_alone(self._owner, data, binary=binary)
            return
        self._waiting().append((Frame(data, binary=binary), len(data)))
        self.held += len(data)
        self._work()

    def _run_alone(self, owner: Owner, data: bytes, *, binary: bool) -> None:
        """As `_work`, for the most common case: a single command, and nothing waits before it."""
        self._running = True
        try:
            requests = self._shared.decode(owner, data, binary)
            size = len(data)
            if len(requests) > 1 and self._owner is not None:
                # They pass through the queue.
                self.held += size
            work, size = self._first(requests, size)
            ran = work is not None and self._run(owner, work, size)
            if work is None:
                self._count()
        finally:
            self._running = False
        if ran and self._queue:
            # The command's other requests, and the server's that arrived meanwhile.
            self._work()
        elif self._queue or self.held:
            self._settle(ran)

    def put(self, requests: Iterable[Work]) -> None:
        """Run the requests after those that wait."""
        if entries := [(request, 0) for request in requests]:
            self._waiting().extend(entries)
        self._work()

    def withdraw(self, channel: str) -> bool:
        """Drop the server's waiting subscribes to a channel (all channels if empty); False when there are none."""
        kept = [entry for entry in self._queue if not _subscribes(entry[0], channel)]
        found = len(kept) < len(self._queue)
        self._queue = deque(kept) if kept else _NOTHING
        return found

    def charge(self, requests: int) -> bool:
        """Charge requests to the rate limit before they are decoded; above it reading pauses. False: far above it."""
        debt = self._bucket.charge(self._shared.scheduler.now(), requests)
        if debt > FLOOD_DEBT:
            return False
        if debt and not self._holds & _Hold.FLOOD:
            self._hold(_Hold.FLOOD)
            self._shared.scheduler.call_later(debt, partial(self._release, _Hold.FLOOD))
        return True

    def rest(self, items: int, size: int) -> None:
        """The client got an answer of this size: it gets no more for the time that so many items and bytes are worth.

        The same holds for its user's other connections.
        """
        assert self.share is not None
        now, worth = self._shared.scheduler.now(), max(items / ITEMS_PER_SECOND, size / BYTES_PER_SECOND)
        self.share.rested_at = max(self.share.rested_at, now) + worth
        self._rest_until(max(self._rested_at, now) + worth)

    @property
    def is_in_debt(self) -> bool:
        """Whether the user has received so much that none of its connections may read more now."""
        return self.share is not None and self.share.rested_at - self._shared.scheduler.now() >= SHORTEST_REST

    def rest_with_user(self) -> None:
        """Pause until the user may read more."""
        assert self.share is not None
        self._rest_until(max(self._rested_at, self.share.rested_at))

    def _rest_until(self, when: float) -> None:
        self._rested_at = when
        left = when - self._shared.scheduler.now()
        if left >= SHORTEST_REST and not self._holds & _Hold.REST:
            self._hold(_Hold.REST)
            self._shared.scheduler.call_later(left, self._rested)

    def _rested(self) -> None:
        left = self._rested_at - self._shared.scheduler.now()
        if left > 0:
            self._shared.scheduler.call_later(left, self._rested)
            return
        self._release(_Hold.REST)
        self.go_on()

    def block(self, work: Work) -> None:
        """Make all other requests wait until this one is `unblock`ed."""
        self._blocking = work

    def unblock(self, work: Work) -> None:
        """A request has ended: continue with what waits, unless another request blocks it."""
        if self._blocking is work:
            self._blocking = None
            self.held -= self._blocked
            self._blocked = 0
        elif not self._queue:
            return
        self.go_on()

    def go_on(self) -> None:
        """Try the waiting requests again: something they may wait for has changed."""
        if not self._must_wait:
            self._work()

    def drop(self) -> None:
        """Forget what waits."""
        self._queue = _NOTHING
        self.held = self._blocked

    def close(self) -> None:
        """Drop what waits; nothing runs any more."""
        self._owner = self._blocking = None
        self._queue = _NOTHING
        self.held = 0
        self._shared.inboxes.discard(self)

    def _waiting(self) -> "deque[tuple[Work | Frame, int]]":
        """The queue, to put something into."""
        if self._queue is _NOTHING:
            self._queue = deque()
        return self._queue

    @property
    def _must_wait(self) -> bool:
        return self._blocking is not None or bool(self._holds & (_Hold.REST | _Hold.TURN))

    @property
    def _has_turn(self) -> bool:
        """Whether one more request may run in this turn of the loop."""
        if self._turn != self._shared.turns.number:
            self._turn, self._ran = self._shared.turns.number, 0
        return self._ran < LEAST_REQUESTS or self._shared.turns.ran < TURN_REQUESTS

    def _run(self, owner: Owner, work: Work, size: int) -> bool:
        """Run a request; False when it has to wait, as the next to run. One that blocks the others keeps its bytes."""
        if not self._shared.run(owner, work):
            self._waiting().appendleft((work, size))
            self.held += size
            return False
        self._count()
        if self._blocking is work:
            self._blocked = size
            self.held += size
        return True

    def _count(self) -> None:
        self._ran += 1
        self._shared.turns.count()

    def _next_turn(self) -> None:
        self._release(_Hold.TURN)
        self.go_on()

    def _work(self) -> None:
        """Run as much of what waits as this turn of the loop allows."""
        if self._running or self._owner is None:
            # Already running: a request ended within its own call, and `_run_some` goes on with the next one.
            return
        self._running = True
        try:
            done = self._run_some(self._owner)
        finally:
            self._running = False
        self._settle(done > 0)

    def _settle(self, ran: bool) -> None:
        """While something waits, be listed as a holder and do not read; `ran`: the wait starts anew."""
        if self._owner is None:
            # The last request closed the connection.
            return
        if self.held:
            self._shared.inboxes.add(self)
        else:
            self._shared.inboxes.discard(self)
        if not self._queue:
            self._queue = _NOTHING
            self._release(_Hold.WAITING)
            return
        if ran or not self._holds & _Hold.WAITING:
            self._waits_since = self._shared.scheduler.now()
        self._hold(_Hold.WAITING)

    def _run_some(self, owner: Owner) -> int:
        """Returns how many ran. Any request may be the last: closing the connection drops the others."""
        done = 0
        while self._queue and not self._must_wait:
            if not self._has_turn:
                self._hold(_Hold.TURN)
                self._shared.scheduler.call_soon(self._next_turn)
                break
            work, size = self._next(owner)
            self.held -= size
            if work is None:
                self._count()
            elif not self._run(owner, work, size):
                break
            done += 1
        return done

    def _next(self, owner: Owner) -> tuple[Work | None, int]:
        """The next request, and the bytes that go with it; None where `read` finds none."""
        work, size = self._queue[0]
        if not isinstance(work, Frame):
            self._queue.popleft()
            return work, size
        requests = self._shared.read(owner, work)
        if self._owner is None:
            return None, 0
        if work.at < len(work.data):
            size = 0
        else:
            self._queue.popleft()
        return self._first(requests, size)

    def _first(self, requests: Sequence[Work], size: int) -> tuple[Work | None, int]:
        """The first request of a command, and the bytes that go with it.

        The others go to the front of the queue, the last one with the bytes, and are charged (the first was).
        """
        if len(requests) < 2 or self._owner is None:
            return (requests[0] if requests else None), size
        waiting = self._waiting()
        waiting.appendleft((requests[-1], size))
        waiting.extendleft((request, 0) for request in reversed(requests[1:-1]))
        self.charge(len(requests) - 1)
        return requests[0], 0

    def _hold(self, hold: int) -> None:
        if not self._holds:
            self._transport.pause_reading()
        self._holds |= hold

    def _release(self, hold: int) -> None:
        if not self._holds & hold:
            return
        self._holds &= ~hold
        if not self._holds and self._owner is not None:
            self._transport.resume_reading()


def _subscribes(entry: Work | Frame, channel: str) -> bool:
    return isinstance(entry, SubscribeUser) and channel in ("", entry.channel)
