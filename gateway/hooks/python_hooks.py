"""Runs hooks in this process: each call is a task, with a deadline, and a bounded number of them at once."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from gateway.errors import INTERNAL, CloseCode, RequestError
from gateway.errors import Disconnect as Closing
from gateway.guard import LOG_INTERVAL, Guard
from gateway.hooks.answers import Denied, Disconnect
from gateway.hooks.conversion import CONVERSIONS
from gateway.hooks.decisions import NO_APPLICATION, Application, Asks, Done
from gateway.hooks.hooks import Hook, Hooks, Kind
from gateway.hooks.questions import Request
from gateway.log import LogLimit
from gateway.metrics import Metrics
from gateway.tasks import end_task

logger = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Request)
A = TypeVar("A")

# Calls of one hook that one client may have running. Others wait their turn: a client never takes all there are.
PER_CLIENT = 4


class PythonHooks:
    """The application of a node: its hooks, run on the loop of the node."""

    def __init__(self, hooks: Hooks, metrics: Metrics, guard: Guard) -> None:
        self._hooks = hooks
        self._runners = {hook.name: _Runner[Any, Any](hook, metrics, guard) for hook in hooks.hooks}
        metrics.hooks_running.read = lambda: sum(len(each.tasks) for each in self._runners.values())
        self.application = self._application() if hooks.hooks else NO_APPLICATION

    async def start(self) -> None:
        """Run the startup hooks. Raises what they raise."""
        for function in self._hooks.starting:
            await function()

    async def stop(self) -> None:
        """End the calls that run, then run the shutdown hooks; what one of these raises is logged."""
        for runner in self._runners.values():
            await runner.stop()
        for function in reversed(self._hooks.stopping):
            try:
                await function()
            except Exception:
                logger.exception("the shutdown hook %s failed", function.__qualname__)

    def _application(self) -> Application:
        connect, refresh = self._of("connect"), self._of("refresh")
        return Application(
            connect=connect.others if connect is not None else None,
            reads_cookies=self._hooks.reads_cookies,
            refresh=refresh.others if refresh is not None else None,
            subscribe=self._of("subscribe"),
            sub_refresh=self._of("sub_refresh"),
            publish=self._of("publish"),
            rpc=self._of("rpc"),
        )

    def _of(self, kind: Kind) -> Asks[Any, Any] | None:
        named: dict[str, _Runner[Any, Any]] = {}
        others: _Runner[Any, Any] | None = None
        for hook in self._hooks.hooks:
            if hook.kind != kind:
                continue
            runner = self._runners[hook.name]
            named.update(dict.fromkeys(hook.names, runner))
            others = others if hook.names else runner
        return Asks(named, others) if named or others is not None else None


class _Runner(Generic[Q, A]):
    """Runs one hook."""

    def __init__(self, hook: Hook, metrics: Metrics, guard: Guard) -> None:
        self._hook = hook
        self._convert: Callable[[Any], A] = CONVERSIONS[hook.kind]
        self._metrics = metrics
        self._guard = guard
        self._lines = LogLimit(LOG_INTERVAL)
        self._stopped = False
        self.tasks: set[asyncio.Task[None]] = set()
        # By client: how many of its calls run, and those that wait. The client whose turn is next comes first.
        self._running: dict[str, int] = {}
        self._waiting: dict[str, deque[_Call[Q, A]]] = {}

    def __call__(self, request: Q, done: Done[A]) -> None:
        """Ask. `done` gets the decision, or the error to answer with."""
        self._metrics.hook_calls.add(self._hook.kind)
        call: _Call[Q, A] = _Call(asyncio.get_running_loop().time() + self._hook.timeout, request, done)
        self._waiting.setdefault(request.client, deque()).append(call)
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
        task = asyncio.create_task(self._run(call), name=self._hook.name)
        self.tasks.add(task)
        task.add_done_callback(partial(self._ended, client))

    def _ended(self, client: str, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        self._go_on()

    async def _run(self, call: "_Call[Q, A]") -> None:
        outcome: A | RequestError | Closing
        deadline = asyncio.timeout_at(call.due)
        try:
            if asyncio.get_running_loop().time() >= call.due:
                # Its time was over before its turn.
                raise TimeoutError
            async with deadline:
                outcome = self._convert(await self._hook.function(call.request))
        except Denied as denied:
            outcome = RequestError(denied.error, f"the {self._hook.name} denied it")
        except Disconnect as closing:
            outcome = Closing(CloseCode(closing.code, closing.reason), f"the {self._hook.name} closed it")
        except (Exception, SystemExit, asyncio.CancelledError):
            outcome = self._failed(is_late=deadline.expired() or asyncio.get_running_loop().time() >= call.due)
        call.done(outcome)

    def _failed(self, *, is_late: bool) -> RequestError:
        """Count and log what is handled now. The hook is named in the log; the client learns nothing of it."""
        hook = self._hook
        if self._stopped:
            return RequestError(INTERNAL, "the node stops")
        if is_late:
            self._metrics.hook_timeouts.add(hook.kind)
            reason = f"the {hook.name} took longer than {hook.timeout} s"
            if (suppressed := self._lines.passes()) is not None:
                logger.warning("%s", reason, extra=suppressed)
            return RequestError(INTERNAL, reason)
        self._metrics.hook_errors.add(hook.kind)
        self._guard.failed("hook", hook.name)
        return RequestError(INTERNAL, f"the {hook.name} failed")


class _Call(NamedTuple, Generic[Q, A]):
    """A call that waits or runs."""

    # When it is too late, on the clock of the loop.
    due: float
    request: Q
    done: Done[A]
