"""How hooks run: deadlines, faults, and one client that never keeps another waiting."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from gateway import errors
from gateway.config.settings import HttpHookSettings
from gateway.errors import Disconnect as Closing
from gateway.errors import RequestError
from gateway.guard import Guard
from gateway.hooks import Denied, Disconnect, Hooks, PublishRequest, RpcRequest, VacatedEvent
from gateway.hooks.decisions import NO_APPLICATION
from gateway.hooks.node_hooks import NodeHooks
from gateway.hooks.runner import PER_CLIENT
from gateway.metrics import Metrics

# Seconds after which a test that hangs has failed.
PATIENCE = 10


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


class Node:
    """Runs hooks as a node does."""

    def __init__(self, hooks: Hooks) -> None:
        self.metrics = Metrics()
        self.hooks = NodeHooks(hooks, HttpHookSettings(), self.metrics, Guard(self.metrics.faults))

    def ask(self, client: str, method: str = "m") -> "asyncio.Future[Any]":
        """What the application decides about a call."""
        decided: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asks = self.hooks.application.rpc
        assert asks is not None
        hook = asks.find(method)
        assert hook is not None
        request = RpcRequest(client=client, user="", address="", protocol="", transport="", method=method)
        hook(request, decided.set_result)
        return decided


def node_with(function: Callable[[RpcRequest], Awaitable[Any]], **options: Any) -> Node:
    hooks = Hooks()
    hooks.rpc(**options)(function)
    return Node(hooks)


def test_without_hooks_there_is_no_application() -> None:
    assert Node(Hooks()).hooks.application is NO_APPLICATION


def test_the_hook_of_a_name_comes_before_that_of_all_others() -> None:
    """A name without either has none."""
    hooks = Hooks()

    @hooks.rpc("a", "b")
    async def some(request: RpcRequest) -> str:
        return "some"

    async def others(request: RpcRequest) -> str:
        return "others"

    async def test() -> None:
        application = Node(hooks).hooks.application
        assert application.rpc is not None
        assert application.rpc.find("c") is None
        assert application.publish is None
        assert application.connect is None
        hooks.rpc()(others)
        node = Node(hooks)
        assert [await node.ask("x", method) for method in "abc"] == [b'"some"', b'"some"', b'"others"']
        assert node.metrics.hook_calls.values == {"rpc": 3}

    run(test())


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (Denied("not you"), RequestError(errors.ErrorCode(103, "not you"))),
        (Denied("later", code=400, temporary=True), RequestError(errors.ErrorCode(400, "later", temporary=True))),
        (Disconnect(4001, "bye"), Closing(errors.CloseCode(4001, "bye"))),
    ],
)
def test_what_a_hook_raises_on_purpose_is_the_answer(raised: Exception, outcome: RequestError | Closing) -> None:
    async def hook(request: RpcRequest) -> None:
        raise raised

    async def test() -> None:
        node = node_with(hook)
        got = await node.ask("ann")
        assert type(got) is type(outcome)
        assert (getattr(got, "error", None), getattr(got, "code", None)) == (
            getattr(outcome, "error", None),
            getattr(outcome, "code", None),
        )
        assert node.metrics.hook_errors.values == {}

    run(test())


@pytest.mark.parametrize(
    "raised",
    [ZeroDivisionError(), SystemExit(3), asyncio.CancelledError(), TimeoutError(), RequestError(errors.EXPIRED)],
)
def test_any_other_exception_is_an_internal_error(raised: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Named in the log; the client learns nothing of it. The node goes on."""

    async def hook(request: RpcRequest) -> str:
        if request.client == "ann":
            raise raised
        return "fine"

    async def test() -> None:
        node = node_with(hook)
        failed = await node.ask("ann")
        assert failed.error == errors.INTERNAL
        assert await node.ask("bob") == b'"fine"'
        assert node.metrics.hook_errors.values == {"rpc": 1}
        assert node.metrics.faults.values == {"hook": 1}

    run(test())
    (record,) = caplog.records
    assert "rpc hook" in vars(record)["met"]
    assert type(raised).__name__ in caplog.text


def test_a_wrong_type_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    hooks = Hooks()

    @hooks.publish()
    async def forgets_to_return(request: PublishRequest) -> None:
        pass

    async def test() -> None:
        node = Node(hooks)
        decided: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asks = node.hooks.application.publish
        assert asks is not None
        assert asks.others is not None
        request = PublishRequest(client="", user="", address="", protocol="", transport="", channel="news", raw=b"1")
        asks.others(request, decided.set_result)
        assert (await decided).error == errors.INTERNAL

    run(test())
    assert "returned NoneType, expected True, False or PublishResult" in caplog.text


def test_a_hook_that_takes_too_long_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    cancelled = []

    async def hook(request: RpcRequest) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(request.client)
            raise

    async def test() -> None:
        node = node_with(hook, timeout=0.1)
        assert (await node.ask("ann")).error == errors.INTERNAL
        assert cancelled == ["ann"]
        assert node.metrics.hook_timeouts.values == {"rpc": 1}
        assert node.metrics.hook_errors.values == {}

    run(test())
    assert "took longer than 0.1 s" in caplog.text


def test_a_call_whose_time_is_over_is_cancelled_once() -> None:
    """What it does then is not interrupted when the time of the next one is over. Each has its own deadline."""
    order = []
    next_is_late = asyncio.Event()

    async def hook(request: RpcRequest) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append(f"{request.client} is late")
            if request.client == "ann":
                await next_is_late.wait()
            next_is_late.set()
            order.append(f"{request.client} is done")

    async def test() -> None:
        node = node_with(hook, timeout=0.1)
        calls = [node.ask("ann")]
        await asyncio.sleep(0.05)
        calls.append(node.ask("bob"))
        assert [(await call).error for call in calls] == [errors.INTERNAL] * 2
        assert node.metrics.hook_timeouts.values == {"rpc": 2}
        assert order == ["ann is late", "bob is late", "bob is done", "ann is done"]

    run(test())


def test_a_hook_may_have_time_limits_and_cancellations_of_its_own() -> None:
    async def hook(request: RpcRequest) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "mine"

    async def test() -> None:
        node = node_with(hook)
        answers: list[Any] = []
        asks = node.hooks.application.rpc
        assert asks is not None
        ask = asks.find("m")
        assert ask is not None
        request = RpcRequest(client="", user="", address="", protocol="", transport="", method="m")
        ask(request, answers.append)
        while node.metrics.hooks_running.read():
            await asyncio.sleep(0)
        assert answers == [b'"mine"']

    run(test())


def test_a_call_that_ends_before_its_first_step_is_answered() -> None:
    """The node stops in the same turn of the loop."""

    async def hook(request: RpcRequest) -> None:
        raise AssertionError

    async def test() -> None:
        node = node_with(hook)
        call = node.ask("ann")
        await node.hooks.stop()
        assert (await call).error == errors.INTERNAL

    run(test())


class Gate:
    """A hook whose calls wait until the test lets one of them go."""

    def __init__(self) -> None:
        self.running: list[tuple[str, asyncio.Event]] = []
        self.began = asyncio.Condition()

    async def hook(self, request: RpcRequest) -> str:
        event = asyncio.Event()
        async with self.began:
            self.running.append((request.client, event))
            self.began.notify_all()
        await event.wait()
        return request.client

    async def clients(self, count: int) -> list[str]:
        """Whose calls run, once so many do."""
        async with self.began:
            await self.began.wait_for(lambda: len(self.running) == count)
        return [client for client, _ in self.running]

    def release(self) -> None:
        self.running.pop(0)[1].set()


def test_at_most_so_many_run_at_once_and_clients_take_turns() -> None:
    """Those who wait run in turn, one call of each client, however many one of them has."""

    async def test() -> None:
        gate = Gate()
        node = node_with(gate.hook, concurrency=3)
        calls = [node.ask(client) for client in ("a", "a", "b", "a", "a", "c", "b")]
        assert await gate.clients(3) == ["a", "a", "b"]
        assert node.metrics.hooks_running.read() == 3
        order = []
        for expected in ("a", "c", "b", "a"):
            gate.release()
            order.append((await gate.clients(3))[-1])
            assert order[-1] == expected
        for _ in range(3):
            gate.release()
        assert await asyncio.gather(*calls) == [b'"%b"' % each for each in (b"a", b"a", b"b", b"a", b"a", b"c", b"b")]
        assert node.metrics.hooks_running.read() == 0

    run(test())


def test_one_client_never_takes_all_there_is() -> None:
    async def test() -> None:
        gate = Gate()
        node = node_with(gate.hook)
        calls = [node.ask("greedy") for _ in range(PER_CLIENT + 5)]
        other = node.ask("other")
        assert await gate.clients(PER_CLIENT + 1) == ["greedy"] * PER_CLIENT + ["other"]
        gate.running[-1][1].set()
        assert await other == b'"other"'
        del gate.running[-1]
        for _ in calls:
            await gate.clients(min(PER_CLIENT, len(calls)))
            gate.release()
            calls.pop()

    run(test())


def test_waiting_counts_against_the_deadline() -> None:
    """A call whose time is over before its turn is not made."""
    made = []

    async def test() -> None:
        async def hook(request: RpcRequest) -> None:
            made.append(request.client)
            await asyncio.Event().wait()

        node = node_with(hook, timeout=0.05, concurrency=1)
        outcomes = await asyncio.gather(*(node.ask(client) for client in ("a", "b", "c")))
        assert [each.error for each in outcomes] == [errors.INTERNAL] * 3
        assert made == ["a"]

    run(test())


def test_waiting_does_not_count_against_the_deadline_of_an_event() -> None:
    """Thousands may wait while a slow hook is told one after another: they have not failed."""
    hooks = Hooks()

    @hooks.vacated(timeout=1.0, concurrency=1)
    async def slow(event: VacatedEvent) -> None:
        await asyncio.sleep(0.4)

    async def test() -> None:
        asks = Node(hooks).hooks.application.vacated
        assert asks is not None
        hook = asks.find("")
        assert hook is not None
        decided: list[asyncio.Future[Any]] = [asyncio.get_running_loop().create_future() for _ in range(3)]
        for number, future in enumerate(decided):
            hook(VacatedEvent(id=str(number), time=0, channel=str(number)), future.set_result)
        assert await asyncio.gather(*decided) == [None] * 3

    run(test())


def test_the_end_of_the_node_ends_all_calls() -> None:
    """Those that run are cancelled, those that wait are answered; then the shutdown hooks run, in reverse order."""
    order = []
    hooks = Hooks()

    for name in ("first", "second"):

        async def start(name: str = name) -> None:
            order.append(f"start {name}")

        async def stop(name: str = name) -> None:
            order.append(f"stop {name}")
            if name == "second":
                raise ZeroDivisionError

        hooks.startup(start)
        hooks.shutdown(stop)

    @hooks.rpc(concurrency=1)
    async def hangs(request: RpcRequest) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("cancelled")

    async def test() -> None:
        node = Node(hooks)
        await node.hooks.start()
        calls = [node.ask("ann") for _ in range(3)]
        await asyncio.sleep(0)
        await node.hooks.stop()
        assert [(await call).error for call in calls] == [errors.INTERNAL] * 3

    run(test())
    assert order == ["start first", "start second", "cancelled", "stop second", "stop first"]
