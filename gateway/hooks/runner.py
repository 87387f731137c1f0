"""Runs the calls of one hook: each is a task with a deadline, a bounded number of them at once, clients in turn."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from gateway.config.settings import HookKind
from gateway.errors import INTERNAL, CloseCode, RequestError
from gateway.errors import Disconnect as Closing
from gateway.guard import LOG_INTERVAL, Guard
from gateway.hooks.answers import Denied, Disconnect
from gateway.hooks.decisions import Done
from gateway.hooks.events import Event
from gateway.hooks.questions import Request
from gateway.log import LogLimit
from gateway.metrics import Metrics
from gateway.tasks import end_task

logger = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Request | Event)
A = TypeVar("A")

# Calls of one hook that one client may have running. Others wait their turn: a client never takes all there are.
PER_CLIENT = 4


class Job(Protocol):
    """What a runner runs."""

    @property
    def kind(self) -> HookKind: ...

    @property
    def name(self) -> str:
        """For logs."""

    @property
    def function(self) -> Callable[[Any], Awaitable[Any]]:
        """Raises Denied, Disconnect, or CallFailed."""

    @property
    def timeout(self) -> float:
        """Seconds, waiting for a turn included, except for that of an event."""

    @property
    def concurrency(self) -> int: ...


class CallFailed(Exception):
    """The function could not learn what the application decides. The text says why, for the log."""

    def __init__(self, reason: str, *, is_unavailable: bool) -> None:
        """`is_unavailable`: nobody was there to decide. Otherwise there was an answer that cannot be used."""
        super().__init__(reason)
        self.is_unavailable = is_unavailable


def refused(error: RequestError) -> RequestError:
    """The answer to a call that nobody was there to decide, unless somebody else decides."""
    return error


class Runner(Generic[Q, A]):
    """Runs one hook. It is an `Ask`."""

    def __init__(
        self,
        hook: Job,
        convert: Callable[[Any], A | RequestError | Closing],
        metrics: Metrics,
        guard: Guard,
        *,
        closed: Callable[[], str] = str,
        undecided: Callable[[RequestError], Any] = refused,
    ) -> None:
        """`convert` makes the decision of what the function returned.

        `closed` says why no call is made now, empty if calls are made. `undecided` gets the error of a call that nobody
        was there to decide, and returns what to answer.
        """
        self._hook = hook
        self._closed = closed
        self._undecided = undecided
        self._convert = convert
        self._metrics = metrics
        self._guard = guard
        self._lines = LogLimit(LOG_INTERVAL)
        self._stopped = False
        # The calls that run, and when each is too late; infinity once it has been cancelled.
        self.tasks: dict[asyncio.Task[None], float] = {}
        # For the first of them that will be too late: a timer for each call would cost more than what most hooks do.
        self._timer: asyncio.TimerHandle | None = None
        # By client: how many of its calls run, and those that wait. The client whose turn is next comes first.
        self._running: dict[str, int] = {}
        self._waiting: dict[str, deque[_Call[Q, A]]] = {}

    def __call__(self, request: Q, done: Done[A]) -> None:
        """Ask. `done` gets the decision, or the error to answer with."""
        self._metrics.hook_calls.add(self._hook.kind)
        if reason := self._closed():
            done(self._failed_call(reason, is_unavailable=True))
            return
        # Nobody waits for an event to be told: it has all its time once its turn comes.
        due = math.inf if isinstance(request, Event) else asyncio.get_running_loop().time() + self._hook.timeout
        call: _Call[Q, A] = _Call(due, request, done)
        self._waiting.setdefault(request.whose, deque()).append(call)
        self._go_on()

    async def stop(self) -> None:
        """Answer all that run or wait with an error."""
        self._stopped = True
        waiting, self._waiting = self._waiting, {}
        for calls in waiting.values():
            for call in calls:
                call.done(RequestError(INTERNAL, "the node stops"))
        for task in tuple(self.tasks):
            await end_task(task)
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self) -> None:
        """Start what may run now, one call of each client in turn."""
        while self._waiting and len(self.tasks) < self._hook.concurrency:
            # Those that have to wait for themselves are few: each of them has PER_CLIENT calls running.
            client = next((each for each in self._waiting if self._running.get(each, 0) < PER_CLIENT), None)
            if client is None:
                return
            calls = self._waiting.pop(client)
            self._start(client, calls.popleft())
            if calls:
                self._waiting[client] = calls

    def _start(self, client: str, call: "_Call[Q, A]") -> None:
        self._running[client] = self._running.get(client, 0) + 1
        call.due = min(call.due, asyncio.get_running_loop().time() + self._hook.timeout)
        task = asyncio.create_task(self._run(call), name=self._hook.name)
        self.tasks[task] = call.due
        task.add_done_callback(partial(self._ended, client, call))
        if self._timer is None or call.due < self._timer.when():
            self._arm(call.due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._end_late)

    def _end_late(self) -> None:
        """Cancel the calls whose time is over, each of them once: what it still does then is its own matter."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        for task, due in self.tasks.items():
            if due <= now:
                self.tasks[task] = math.inf
                task.cancel()
        due = min(self.tasks.values(), default=math.inf)
        if due < math.inf:
            self._arm(due)

    def _ended(self, client: str, call: "_Call[Q, A]", task: "asyncio.Task[None]") -> None:
        del self.tasks[task]
        if not call.began:
            # It was cancelled before its first step.
            call.done(self._failed(is_late=True))
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        self._go_on()

    async def _run(self, call: "_Call[Q, A]") -> None:
        outcome: A | RequestError | Closing
        call.began = True
        try:
            if asyncio.get_running_loop().time() >= call.due:
                # Its time was over before its turn.
                raise TimeoutError
            outcome = self._convert(await self._hook.function(call.request))
        except Denied as denied:
            outcome = RequestError(denied.error, f"the {self._hook.name} denied it")
        except Disconnect as closing:
            outcome = Closing(CloseCode(closing.code, closing.reason), f"the {self._hook.name} closed it")
        except CallFailed as failure:
            outcome = self._failed_call(str(failure), is_unavailable=failure.is_unavailable)
        except (Exception, SystemExit, asyncio.CancelledError):
            outcome = self._failed(is_late=asyncio.get_running_loop().time() >= call.due)
        call.done(outcome)

    def _failed_call(self, reason: str, *, is_unavailable: bool) -> Any:
        """Count and log it; the client learns nothing of the reason."""
        self._metrics.hook_errors.add(self._hook.kind)
        text = f"the {self._hook.name} failed: {reason}"
        self._warn(text)
        error = RequestError(INTERNAL, text)
        return self._undecided(error) if is_unavailable else error

    def _warn(self, text: str) -> None:
        if (suppressed := self._lines.passes()) is not None:
            logger.warning("%s", text, extra=suppressed)

    def _failed(self, *, is_late: bool) -> Any:
        """Count and log what is handled now. The hook is named in the log; the client learns nothing of it."""
        hook = self._hook
        if self._stopped:
            return RequestError(INTERNAL, "the node stops")
        if is_late:
            self._metrics.hook_timeouts.add(hook.kind)
            reason = f"the {hook.name} took longer than {hook.timeout} s"
            self._warn(reason)
            return self._undecided(RequestError(INTERNAL, reason))
        self._metrics.hook_errors.add(hook.kind)
        self._guard.failed("hook", hook.name)
        return RequestError(INTERNAL, f"the {hook.name} failed")


@dataclass(slots=True, eq=False)
class _Call(Generic[Q, A]):
    """A call that waits or runs."""

    # When it is too late, on the clock of the loop; infinite for an event that waits.
    due: float
    request: Q
    done: Done[A]
    # Whether its task has taken its first step, and so answers.
    began: bool = False
