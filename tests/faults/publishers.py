"""Clients that publish on a schedule, and tell the checker what became of each publication."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from tests.faults.checker import Checker
from tests.faults.subscribers import COMMAND_SECONDS, ENDPOINT, Error, Reply
from tests.faults.verdicts import Top
from tests.faults.wire import HttpConnection, WebSocket, WireError

# Times a publish with an idempotency key is sent at most.
TRIES = 4
# Unanswered publishes of a WebSocket publisher at most.
WINDOW = 64
# Seconds before the next attempt to connect, at random between these.
DELAYS = (0.05, 0.4)
# What the API says of a publish that may have had an effect. Any other error says that it had none.
UNKNOWN = "may or may not"

_PADDING = "x" * 65_536


class Position(msgspec.Struct):
    offset: int = 0
    epoch: str = ""


class Answer(msgspec.Struct):
    """Of the HTTP API, to publish and to history."""

    error: Error | None = None
    result: Position | None = None


_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_reply = msgspec.json.Decoder(Reply).decode
_decode_replies = msgspec.json.Decoder(Reply).decode_lines


class Load(NamedTuple):
    """What a publisher publishes: channels with their weights, so many a second, of about so many bytes."""

    channels: Sequence[str]
    weights: Sequence[float]
    rate: float
    size: int


def payload(id: int, size: int) -> bytes:
    return b'{"n":%d,"pad":"%b"}' % (id, _PADDING[: max(size - 20, 0)].encode())


class Publisher(ABC):
    """Publishes on one connection to one node, and goes to another one when it fails."""

    def __init__(self, load: Load, checker: Checker, ports: Sequence[int], seed: int, notes: Counter[str]) -> None:
        self._load = load
        self._checker = checker
        self._ports = ports
        self._notes = notes
        self._dice = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._publishing = False
        # Cleared to stop publishing for a while; what is under way goes on.
        self.going = asyncio.Event()
        self.going.set()

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    async def stop(self) -> None:
        """What is under way has no known outcome."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def busy(self) -> bool:
        """Whether an outcome is awaited."""
        return self._publishing

    @property
    def failure(self) -> BaseException | None:
        """Why it ended by itself, which it must not."""
        done = self._task is not None and self._task.done() and not self._task.cancelled()
        return self._task.exception() if done and self._task is not None else None

    async def _run(self) -> None:
        due = self._loop.time()
        while True:
            # What could not be sent in time is left out: after an outage there is no flood.
            due = max(due + 1 / self._load.rate, self._loop.time())
            await asyncio.sleep(due - self._loop.time())
            await self._ready()
            await self.going.wait()
            channel = self._dice.choices(self._load.channels, self._load.weights)[0]
            size = self._dice.randint(self._load.size // 2, self._load.size * 3 // 2)
            id = self._checker.attempt(channel, self._loop.time(), size)
            self._publishing = True
            await self._publish(channel, id, payload(id, size))
            self._publishing = False

    async def _pause(self) -> None:
        await asyncio.sleep(self._dice.uniform(*DELAYS))

    @abstractmethod
    async def _ready(self) -> None:
        """Return when there is a connection."""

    @abstractmethod
    async def _publish(self, channel: str, id: int, data: bytes) -> None:
        """Publish, once there is a connection."""


class HttpPublisher(Publisher):
    """Over HTTP, one after the other: each knows its position."""

    def __init__(
        self,
        load: Load,
        checker: Checker,
        ports: Sequence[int],
        seed: int,
        notes: Counter[str],
        *,
        keyed: bool,
    ) -> None:
        """`keyed`: with an idempotency key, and so again on another node when the outcome is unknown."""
        super().__init__(load, checker, ports, seed, notes)
        self._keyed = keyed
        self._run_key = f"{seed}-{self._dice.getrandbits(64):x}"
        self._connection: HttpConnection | None = None

    async def stop(self) -> None:
        await super().stop()
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _ready(self) -> None:
        while self._connection is None or self._connection.closed:
            try:
                self._connection = await HttpConnection.connect(self._dice.choice(self._ports))
            except WireError:
                await self._pause()

    async def _publish(self, channel: str, id: int, data: bytes) -> None:
        key = b',"idempotency_key":"%b-%d"' % (self._run_key.encode(), id) if self._keyed else b""
        body = b'{"channel":"%b","data":%b%b}' % (channel.encode(), data, key)
        may_have = False
        for attempt in range(TRIES if self._keyed else 1):
            if attempt:
                await self._pause()
                await self._ready()
                self._checker.repeat(id)
            outcome = await self._send(body)
            if isinstance(outcome, Top):
                self._checker.acknowledge(id, self._loop.time(), outcome)
                return
            self._notes[f"publish {outcome}"] += 1
            self._drop()
            may_have = may_have or outcome == "unknown"
        if not may_have:
            self._checker.refuse(id)

    async def _send(self, body: bytes) -> Top | str:
        """The position, "refused" when it certainly had no effect, or "unknown"."""
        assert self._connection is not None
        try:
            status, text = await self._connection.ask("POST", "/api/publish", body, COMMAND_SECONDS)
        except WireError:
            return "unknown"
        if status != 200:
            return "refused"
        answer = _decode_answer(text)
        if answer.result is not None:
            return Top(answer.result.epoch, answer.result.offset)
        return "unknown" if answer.error is None or UNKNOWN in answer.error.message else "refused"


class WebSocketPublisher(Publisher):
    """Over the native protocol, many at once: the answers tell no position."""

    def __init__(self, load: Load, checker: Checker, ports: Sequence[int], seed: int, notes: Counter[str]) -> None:
        super().__init__(load, checker, ports, seed, notes)
        self._websocket: WebSocket | None = None
        # By command id: publication id and when it was sent.
        self._pending: dict[int, tuple[int, float]] = {}
        self._id = 1
        self._room = asyncio.Event()

    @property
    def busy(self) -> bool:
        return bool(self._pending) and not self._overdue()

    async def stop(self) -> None:
        await super().stop()
        if self._websocket is not None:
            self._websocket.abort()

    async def _ready(self) -> None:
        while True:
            if self._websocket is None or self._websocket.closed:
                await self._connect()
            elif len(self._pending) < WINDOW and not self._overdue():
                return
            else:
                self._room.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(COMMAND_SECONDS):
                        await self._room.wait()
                        continue
                self._websocket.abort()
                self._websocket = None

    def _overdue(self) -> bool:
        oldest = next(iter(self._pending.values()), None)
        return oldest is not None and self._loop.time() - oldest[1] > COMMAND_SECONDS

    async def _connect(self) -> None:
        self._pending.clear()
        try:
            port = self._dice.choice(self._ports)
            self._websocket = await WebSocket.connect(port, ENDPOINT, self._on_text, self._on_closed)
        except WireError:
            await self._pause()
        else:
            self._websocket.send(b'{"id":1,"connect":{}}')

    async def _publish(self, channel: str, id: int, data: bytes) -> None:
        self._id += 1
        self._pending[self._id] = (id, self._loop.time())
        assert self._websocket is not None
        self._websocket.send(b'{"id":%d,"publish":{"channel":"%b","data":%b}}' % (self._id, channel.encode(), data))

    def _on_text(self, text: bytes) -> None:
        for reply in _decode_replies(text) if b"\n" in text else (_decode_reply(text),):
            found = self._pending.pop(reply.id, None)
            if found is not None:
                if reply.error is None:
                    self._checker.acknowledge(found[0], self._loop.time())
                else:
                    self._notes[f"publish error {reply.error.code}"] += 1
            elif not reply.id and self._websocket is not None:
                self._websocket.send(b"{}")
        self._room.set()

    def _on_closed(self, code: int, reason: str) -> None:
        self._notes[f"publisher closed {code}"] += 1
        self._pending.clear()
        self._room.set()
