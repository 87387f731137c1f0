"""Clients that subscribe and recover, as the SDKs do, and tell the checker all they are told."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from tests.faults.checker import Checker
from tests.faults.subscription import Subscription
from tests.faults.verdicts import Top
from tests.faults.wire import WebSocket, WireError

ENDPOINT = "/connection/websocket"
# Seconds without a reply after which a client gives up a connection, as SDKs do.
COMMAND_SECONDS = 5.0
# Seconds between attempts to connect, or to subscribe: at random between these.
FIRST_DELAY, LAST_DELAY = 0.05, 0.8
# Close codes after which SDKs do not come back: no fault of ours may end like that.
TERMINAL = range(3500, 4000)


class Data(msgspec.Struct):
    """What a publication says: its id. What else there is only makes it long."""

    n: int


class Pub(msgspec.Struct):
    data: Data
    offset: int = 0
    epoch: str = ""


class SubscribeResult(msgspec.Struct):
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    was_recovering: bool = False
    publications: list[Pub] = []


class UnsubscribePush(msgspec.Struct):
    code: int


class Push(msgspec.Struct):
    channel: str = ""
    pub: Pub | None = None
    unsubscribe: UnsubscribePush | None = None


class Error(msgspec.Struct):
    code: int
    message: str = ""


class ConnectResult(msgspec.Struct):
    client: str


class Reply(msgspec.Struct):
    id: int = 0
    error: Error | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None


_decode = msgspec.json.Decoder(Reply).decode
_decode_lines = msgspec.json.Decoder(Reply).decode_lines


class Subscriber:
    """One client with its subscriptions. It comes back whatever happens, to any node."""

    def __init__(
        self,
        name: str,
        channels: Sequence[str],
        checker: Checker,
        ports: Sequence[int],
        *,
        patience: float,
        seed: int,
        notes: Counter[str],
    ) -> None:
        """`patience`: seconds without a word after which it gives up a connection; `ports`: of the nodes.

        `notes` counts what happened, by kind.
        """
        self.name = name
        self.subscriptions = {channel: checker.subscription(name, channel) for channel in channels}
        self._ports = ports
        self._patience = patience
        self._dice = random.Random(seed)
        self._notes = notes
        self._loop = asyncio.get_running_loop()
        self._websocket: WebSocket | None = None
        # Of the node it is connected to, or was.
        self.port = 0
        # Which command asked for which channel; an empty name for the connect command.
        self._asked: dict[int, str] = {}
        self._asked_at = 0.0
        self._heard_at = 0.0
        self._id = 0
        self._attempts = 0
        self._reading = True
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        # Codes of closes and errors that no client should see.
        self.terminal: list[str] = []

    # What the outside does to it

    def start(self) -> None:
        self._come_back(0.0)

    async def stop(self) -> None:
        """Leave. What is said to the checker afterwards does not count."""
        self._stopping = True
        for timer in self._timers:
            timer.cancel()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._websocket is not None:
            self._websocket.abort()

    @property
    def connected(self) -> bool:
        return self._websocket is not None

    def drop(self) -> None:
        """Lose the connection and come back at once, with everybody else."""
        self._attempts = 0
        if self._websocket is not None:
            self._websocket.abort()

    def read(self, wanted: bool) -> None:
        """Stop reading, or go on."""
        self._reading = wanted
        transport = self._websocket.transport if self._websocket is not None else None
        if transport is None or transport.is_closing():
            return
        if wanted:
            self._heard_at = self._asked_at = self._loop.time()
            transport.resume_reading()
        elif transport.is_reading():
            transport.pause_reading()

    def look(self) -> None:
        """Called every second or so: gives up a connection that is silent for too long."""
        now = self._loop.time()
        if self._websocket is None or not self._reading:
            return
        if self._asked and now - self._asked_at > COMMAND_SECONDS:
            self._give_up("no reply")
        elif now - self._heard_at > self._patience:
            self._give_up("silence")

    # Connecting

    def _come_back(self, delay: float) -> None:
        if not self._stopping:
            self._later(delay, self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            self.port = self._dice.choice(self._ports)
            websocket = await WebSocket.connect(self.port, ENDPOINT, self._on_text, self._on_closed)
        except WireError:
            self._notes["connection refused"] += 1
            self._come_back(self._delay())
            return
        if websocket.closed:
            return
        self._websocket = websocket
        self._reading = True
        self._heard_at = self._loop.time()
        self._asked.clear()
        lines = [b'{"id":%d,"connect":{}}' % self._next_id("")]
        lines += [self._subscribe_command(each) for each in self.subscriptions.values()]
        websocket.send(b"\n".join(lines))

    def _subscribe_command(self, subscription: Subscription) -> bytes:
        id = self._next_id(subscription.channel)
        recover = b""
        if subscription.positioned:
            recover = b',"recover":true,"offset":%d,"epoch":"%b"' % (
                subscription.offset,
                subscription.asks_from.encode(),
            )
        return b'{"id":%d,"subscribe":{"channel":"%b"%b}}' % (id, subscription.channel.encode(), recover)

    def _next_id(self, channel: str) -> int:
        self._id += 1
        self._asked[self._id] = channel
        self._asked_at = self._loop.time()
        return self._id

    def _subscribe_again(self, channel: str) -> None:
        if self._websocket is not None and channel not in self._asked.values():
            self._websocket.send(self._subscribe_command(self.subscriptions[channel]))

    def _delay(self) -> float:
        self._attempts += 1
        return self._dice.uniform(FIRST_DELAY, min(FIRST_DELAY * 2**self._attempts, LAST_DELAY))

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = self._loop.call_later(delay, run)
        self._timers.add(timer)

    def _give_up(self, why: str) -> None:
        self._notes[f"gave up: {why}"] += 1
        assert self._websocket is not None
        self._websocket.abort()

    # What it is told

    def _on_closed(self, code: int, reason: str) -> None:
        self._notes[f"closed {code}"] += 1
        if code in TERMINAL:
            self.terminal.append(f"{self.name} was closed with {code} {reason}")
        now = self._loop.time()
        for subscription in self.subscriptions.values():
            subscription.interrupted(now, f"closed {code}")
        self._websocket = None
        self._asked.clear()
        self._come_back(self._delay())

    def _on_text(self, text: bytes) -> None:
        self._heard_at = self._loop.time()
        replies = _decode_lines(text) if b"\n" in text else (_decode(text),)
        for reply in replies:
            if reply.push is not None:
                self._on_push(reply.push)
            elif reply.id:
                self._on_reply(reply)
            elif self._websocket is not None:
                self._websocket.send(b"{}")

    def _on_push(self, push: Push) -> None:
        subscription = self.subscriptions[push.channel]
        if push.pub is not None:
            subscription.delivered(push.pub.data.n, push.pub.offset, push.pub.epoch)
        elif push.unsubscribe is not None:
            code = push.unsubscribe.code
            self._notes[f"unsubscribed {code}"] += 1
            subscription.interrupted(self._loop.time(), f"unsubscribed {code}")
            if code < 2500:
                self.terminal.append(f"{self.name} was unsubscribed from {push.channel} with {code}")
            self._later(self._dice.uniform(0, FIRST_DELAY), lambda: self._subscribe_again(push.channel))

    def _on_reply(self, reply: Reply) -> None:
        channel = self._asked.pop(reply.id, None)
        if reply.error is not None:
            self._on_error(channel, reply.error)
        elif reply.subscribe is not None and channel:
            self._attempts = 0
            self._subscribed(self.subscriptions[channel], reply.subscribe)

    def _on_error(self, channel: str | None, error: Error) -> None:
        self._notes[f"error {error.code}"] += 1
        if error.code != 100:
            self.terminal.append(f"{self.name} was answered {error.code} {error.message} for {channel!r}")
        if channel:
            self._later(self._delay(), lambda: self._subscribe_again(channel))
        else:
            self._give_up("error in connect")

    def _subscribed(self, subscription: Subscription, result: SubscribeResult) -> None:
        if not result.recoverable:
            self.terminal.append(f"{self.name}: the subscription of {subscription.channel} is not recoverable")
        subscription.subscribed(
            self._loop.time(),
            Top(result.epoch, result.offset),
            recovered=result.recovered,
            was_recovering=result.was_recovering,
            publications=[(each.data.n, each.offset) for each in result.publications],
        )
