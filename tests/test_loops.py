"""Work in the background is started in one place, where its faults are caught; nothing else runs for ever by itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.test_architecture import PACKAGE

STARTERS = {"create_task", "ensure_future", "TaskGroup", "run_in_executor", "to_thread", "Thread"}
TIMERS = {"call_soon", "call_soon_threadsafe", "call_later", "call_at"}

# Who may start a task besides `Repeating`, and how it ends.
TASKS = {
    "Acceptor.accept_waiting": "one a handshake, which ends with it or with its deadline",
    "AsgiTransport.run": "two a connection under another ASGI server, which is a task itself; they end with it",
    "EngineEndpoint._poll": "two a poll, which end with it",
    "EngineUpgrade.opened": "one an upgrade, which ends with it or at its deadline",
    "GatewayHttpProtocol._hand_over": "one an upgrade, which ends with the handshake; uvicorn waits for it",
    "KeptLink.start": "waits for the end of a link and makes the next one; what a step of it makes fail is guarded",
    "Lifespan._ask": "waits for one answer of the application",
    "Lifespan.startup": "the application's own lifespan, which ASGI makes a task",
    "Node.start": "tries to join until it has joined, once",
    "Relay._wait": "two a wait for rows, which end with it",
    "Runner._start": "one call of a hook, which ends at its deadline",
    "Batches._result": "one command of a batch, which is carried out even if its client leaves",
    "_while_connected": "two a batch, which end with the request",
    "ServerSignals._start_drain": "the drain of an embedded node, which ends with its window",
    "SyncTestGateway.__init__": "the node of a test, until the end of its `with`",
    "TestClient.next": "waits for one publication",
    "TestClient._open": "one connection of a test, until the end of its `with`",
    "UrlKeys.begin": "the fetching of keys, whose interval depends on how the last one went",
    "UrlKeys.start": "the same",
}

# Who may schedule itself again, and what ends or bounds that.
LOOPS = {
    "Acceptor._accept": "only while no descriptor is left",
    "Budget._look_again": "hub does no I/O and has no tasks; each look is guarded",
    "Drain._close_batch": "until all are closed; each close is guarded",
    "GatewayHttpProtocol._set_deadline": "the deadline of one request, while its body comes fast enough",
    "_Ear._work": "while messages of services that emit wait; each is guarded",
    "Hub._schedule_turn": "while a fan-out has more than one turn has room for; each is guarded",
    "Inbox._rested": "at most once more: the rest of a client became longer meanwhile",
    "LatestChannel._flush": "while the fan-out of the channel is busy; called under the guard",
    "Link._look_again": "ends with its link, and is scheduled before it looks",
    "LoopLag._tick": "measures how late the loop runs a timer: a task would add its own turns",
    "Notifier._go_on": "once more for a channel that is vacated, when it was so for a while",
    "Notifier._tell": "after a fault that the guard caught, once a minute",
    "RedisPresence._go_on_repeating": "the rest of all members, in slices",
    "RedisPresence._say_some": "while something waits to be said; each channel is guarded",
    "Tracker._hand_over": "while answers wait for their turn; each is guarded",
    "Tracker._look_later": "while a stream waits for the broker; each is guarded",
    "Tracker._tick_later": "while there are streams to compare; node has the scheduler's time, not the loop's",
    "Runner._arm": "while calls of the hook run; ends a call at most once",
    "Subscriptions._unsubscribe": "while a channel lingers",
    "TimingWheel._call_some": "while deadlines are due; each is guarded",
    "TimingWheel._tick": "while there is a deadline",
    "in_slices": "the rest of one announcement",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[tuple[str, Function, dict[str, Function]]]:
    """Name (of a method with its class), body, and those beside it, by name."""
    tree = ast.parse(path.read_text())
    for scope in ast.walk(tree):
        if isinstance(scope, ast.ClassDef | ast.Module):
            beside = {each.name: each for each in scope.body if isinstance(each, Function)}
            prefix = f"{scope.name}." if isinstance(scope, ast.ClassDef) else ""
            for name, function in beside.items():
                yield prefix + name, function, beside


def calls(function: Function, names: set[str]) -> Iterator[ast.Call]:
    """The calls of these functions, of whatever object."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in names:
                yield node


def mentions(node: ast.AST, beside: dict[str, Function]) -> set[str]:
    """The functions beside it that are named: called, or handed on as a callback."""
    named = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id in ("self", "cls"):
            named.add(each.attr)
        elif isinstance(each, ast.Name):
            named.add(each.id)
    return named & beside.keys()


def is_rearmed(name: str, function: Function, beside: dict[str, Function]) -> bool:
    """Whether a callback that the function schedules is itself, or one that comes back to it."""
    for call in calls(function, TIMERS):
        for argument in (*call.args, *call.keywords):
            for callback in mentions(argument, beside):
                if callback == name or name in mentions(beside[callback], beside):
                    return True
    return False


def found(package: Path) -> tuple[set[str], set[str]]:
    """Functions that start tasks, and functions that schedule themselves."""
    tasks, loops = set(), set()
    for path in package.rglob("*.py"):
        for name, function, beside in functions(path):
            if any(calls(function, STARTERS)) and path.name != "repeating.py":
                tasks.add(name)
            if is_rearmed(function.name, function, beside):
                loops.add(name)
    return tasks, loops


def test_nothing_else_works_in_the_background() -> None:
    """What comes again and again is a `Repeating`; what cannot be one stands above, with the reason."""
    tasks, loops = found(PACKAGE)
    assert tasks == TASKS.keys()
    assert loops == LOOPS.keys()


PLANTED = """
import asyncio

async def start(self):
    asyncio.create_task(self.run())

class Part:
    async def start(self):
        async with asyncio.TaskGroup() as group:
            pass

    def direct(self):
        self.loop.call_later(1, self.direct)

    def arm(self):
        self.loop.call_soon(partial(self.guarded, 1))

    def guarded(self, number):
        self.guard.call("part", "", self.arm)

    def late(self):
        self.loop.call_at(1, lambda: self.late())

    def once(self):
        self.loop.call_soon(self.done)

    def done(self):
        self.loop.stop()
"""


def test_what_is_looked_for_is_found(tmp_path: Path) -> None:
    """Callbacks that come back directly, over one other, through the guard, a partial or a lambda."""
    (tmp_path / "planted.py").write_text(PLANTED)
    assert found(tmp_path) == ({"start", "Part.start"}, {"Part.direct", "Part.arm", "Part.late"})
