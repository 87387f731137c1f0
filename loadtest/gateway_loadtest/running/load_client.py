"""One connection of the load: it connects, subscribes, receives, and comes back when it was cut."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Protocol
from urllib.parse import urlsplit

from gateway_loadtest.counting.accounts import Subscription
from gateway_loadtest.counting.counters import Counters
from gateway_loadtest.counting.marks import Marks
from gateway_loadtest.planning.plan import ClientPlan
from gateway_loadtest.planning.target_urls import public
from gateway_loadtest.running import http_link, websocket_link
from gateway_loadtest.running.link import Link, NotConnected
from gateway_loadtest.wires.contract import (
    Acknowledged,
    Answer,
    Closing,
    Event,
    Failed,
    Foreign,
    HttpWire,
    Opened,
    Subscribed,
    Unsubscribed,
    WebSocketWire,
)

# Seconds for a TCP connection with its WebSocket upgrade, or the head of a response.
OPEN_TIMEOUT = 10.0
# Seconds before a lost connection is opened again, doubled each time it fails; each is drawn from 0 to that.
FIRST_DELAY, LAST_DELAY = 1.0, 8.0
# Seconds before a subscription that the server ended is asked for again.
RESUBSCRIBE_DELAY = 0.2
# Nanoseconds after the handshake within which a server has subscribed a client that it sends no answer to.
UNSAID_AFTER = 500_000_000
# Later than any due time, nanoseconds.
NEVER = 2**63
# Closed by a server that does not want this client back (client protocol of Centrifugal Labs; 1008 is RFC 6455's
# policy violation).
TERMINAL_CODES = (range(3500, 4000), range(4500, 5000), range(1008, 1009))


class Context(Protocol):
    """What a client needs of its worker."""

    counters: Counters
    marks: Marks
    targets: tuple[str, ...]
    first_delay: float
    # Nanoseconds after which a publication that has not come is overdue.
    grace: int

    def random(self) -> float: ...

    def channel(self, index: int) -> str: ...

    def source(self) -> Callable[[object], socket.socket] | None:
        """Makes sockets that are bound to an address."""

    def spawn(self, client: "Client") -> None:
        """Let the client open its connection."""

    def ready(self, client: "Client") -> None:
        """It has connected and subscribed, for the first time."""

    def acknowledged(self, client: "Client", number: int, error: str) -> None: ...

    def lost(self, client: "Client") -> None:
        """Publishes without an answer will not get one."""


class Client:
    """As a subscriber, a publisher, or neither."""

    def __init__(self, context: Context, plan: ClientPlan, wire: WebSocketWire | HttpWire, *, subscribes: bool) -> None:
        self.context = context
        self.wire = wire
        self.target = plan.target
        self.plan = plan
        self.subscriptions = {channel: Subscription() for channel in plan.channels} if subscribes else {}
        self._indices = {context.channel(channel): channel for channel in self.subscriptions}
        # Publishes without an answer: number -> (channel, number in the channel, due).
        self.pending: dict[int, tuple[int, int, int]] = {}
        self.link: Link | None = None
        self.opened = False
        self.over = False
        self._was_ready = False
        self._stands = False
        self._standing: set[str] = set()
        self._stood: set[str] = set()
        self._asked_at: dict[str, int] = {}
        self._began = 0
        self._lost_at = 0
        # When each subscription broke that does not stand, and when reading was stopped.
        self._broke_at: dict[str, int] = {}
        self._paused_at = NEVER
        self._delay = context.first_delay
        # What the server said why it ends the connection.
        self._closing: Closing | None = None
        # Whether it was this tool that cut it.
        self._is_cut = False
        self._fair_from = 0
        # At hand, for what is done most often.
        self._counters = context.counters
        self._find = context.marks.find
        self._size = context.marks.size
        self._add_delivery = context.counters.delivery.add

    # Life

    async def open(self) -> None:
        """One attempt; another follows by itself when it fails."""
        self._began = monotonic_ns()
        context = self.context
        channels = [context.channel(index) for index in self.plan.channels]
        target = context.targets[self.target]
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                if isinstance(self.wire, HttpWire):
                    await http_link.connect(self, self.wire, target, channels, context.source())
                else:
                    await websocket_link.connect(self, self.wire, target, channels, context.source())
        except (NotConnected, OSError, TimeoutError, ssl.SSLError) as error:
            context.counters.connects_failed += 1
            context.counters.errors.add(f"connect to {urlsplit(public(target)).netloc}: {_text(error)}")
            if not self.over:
                if self._was_ready:
                    # Whoever has several nodes does not insist on a dead one. At first it does: what is asked for has
                    # to be there.
                    self.target = (self.target + 1) % len(context.targets)
                self._again()

    def _again(self) -> None:
        delay = self._delay * self.context.random()
        self._delay = min(max(self._delay, FIRST_DELAY) * 2, LAST_DELAY)
        asyncio.get_running_loop().call_later(delay, self.context.spawn, self)

    def end(self) -> None:
        """Disconnect, and stay away."""
        self.over = True
        if self.link is not None:
            self.link.end()

    def cut(self) -> None:
        """As if the network had broken: it comes back."""
        if self.link is not None:
            self.context.counters.cut += 1
            self._is_cut = True
            self.link.end()

    def read(self, reading: bool) -> None:
        """Stop, or go on, reading from the socket. What was due meanwhile says nothing of the server's latency."""
        self._fair_from = monotonic_ns() if reading else NEVER
        if not reading:
            self._paused_at = monotonic_ns()
            self.context.counters.stopped += 1
        if self.link is not None:
            self.link.read(reading)

    # What a link calls

    def connected(self, link: Link) -> bool:
        """Whether the link is wanted; its messages follow."""
        self.link = link
        self._closing = None
        self.context.counters.connections += 1
        if self.over:
            link.end()
        return not self.over

    def lost(self, link: Link, code: int, reason: str) -> None:
        """As a close of a WebSocket tells it, or 1006: it just broke."""
        if self.link is not link:
            return
        counters = self.context.counters
        was_opened, was_cut = self.opened, self._is_cut
        self.link = None
        self.opened = self._is_cut = False
        self._standing.clear()
        self._falls()
        counters.connections -= 1
        self.context.lost(self)
        if self.over:
            return
        counters.disconnects += was_opened
        counters.connects_failed += not was_opened
        code, reason = self._closing or (code, reason)
        closed = f"{code} {reason}".rstrip()
        if any(code in codes for codes in TERMINAL_CODES):
            self.give_up(f"closed with {closed}")
            return
        if not was_cut:
            counters.errors.add(f"connection lost: {closed}")
        now = monotonic_ns()
        self._lost_at = self._lost_at or now
        for channel in self._indices:
            self._broke_at.setdefault(channel, now)
        self._again()

    def receive(self, data: bytes) -> None:
        """A message, or several where the wire takes them so."""
        try:
            events = self.wire.received(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.context.counters.errors.add(f"a frame that is none of the protocol: {error!r:.80}")
            self.give_up("the other end speaks another protocol")
            return
        for event in events:
            self._handle(event)
        found = self._find(data)
        # A publisher of some protocols gets what it publishes: that is no delivery.
        if found and self.subscriptions:
            self._count(found)

    def _count(self, found: Sequence[tuple[bytes, bytes, bytes, bytes]]) -> None:
        """Payloads with their marks, as in Marks.find."""
        now = monotonic_ns()
        for payload, channel, number, due_text in found:
            if len(payload) != self._size:
                self._counters.errors.add("a publication that is not whole")
                continue
            subscription = self.subscriptions.get(int(channel))
            if subscription is None:
                self._counters.misrouted += 1
                continue
            due = int(due_text)
            subscription.arrive(int(number))
            self._counters.delivered += 1
            if due >= self._fair_from:
                self._add_delivery(now - due)

    # Events

    def _handle(self, event: Event) -> None:
        match event:
            case Answer(frame):
                if self.link is not None:
                    self.link.send(frame)
            case Acknowledged(number, error):
                self.context.acknowledged(self, number, error)
            case Subscribed(channel, recovered):
                self._on_subscribed(channel, recovered)
            case Foreign(channel, push):
                self._on_foreign(channel, push)
            case Unsubscribed(channel, reason):
                self._on_unsubscribed(channel, reason)
            case Opened(version):
                self.context.counters.met(version)
                self.ready_to_subscribe()
            case Closing():
                self._closing = event
            case Failed(reason):
                self.give_up(reason)

    def _on_unsubscribed(self, channel: str, reason: str) -> None:
        if channel not in self._indices:
            self.context.counters.errors.add(f"{reason}: {channel}, which was not asked for")
            return
        self.context.counters.errors.add(reason)
        self._standing.discard(channel)
        self._falls()
        self._lost_at = self._lost_at or monotonic_ns()
        self._broke_at.setdefault(channel, monotonic_ns())
        asyncio.get_running_loop().call_later(RESUBSCRIBE_DELAY, self._subscribe, channel)

    def _on_foreign(self, channel: str, push: bytes) -> None:
        """A server may send what nobody asked for, but not what was published into another channel."""
        found = [mark for mark in self._find(push) if int(mark[1]) in self.subscriptions]
        if found:
            self._counters.misrouted += len(found)
            self._counters.errors.add(f"a publication of another channel as one of {channel}")

    def ready_to_subscribe(self) -> None:
        """The handshake is done."""
        self.context.counters.connect.add(monotonic_ns() - self._began)
        self.opened = True
        self._delay = self.context.first_delay
        for channel in self._indices:
            self._subscribe(channel)
        if not self._indices:
            self._stand()

    def _subscribe(self, channel: str) -> None:
        if self.link is None or not self.opened or channel in self._standing:
            return
        for frame in self.wire.subscribe(channel):
            self._asked_at[channel] = monotonic_ns()
            self.link.send(frame)
        if not self.wire.confirms:
            self._on_subscribed(channel, None, UNSAID_AFTER)

    def _on_subscribed(self, channel: str, recovered: bool | None, unsaid: int = 0) -> None:
        """`unsaid`: nanoseconds that it may take until it really stands."""
        counters = self.context.counters
        now = monotonic_ns()
        asked_at = self._asked_at.pop(channel, 0)
        if asked_at:
            counters.subscribe.add(now - asked_at)
        broke_at = self._broke_at.pop(channel, now)
        if channel in self._stood:
            if recovered:
                counters.recovered += 1
            else:
                counters.not_recovered += 1
                # Who reads nothing cannot know what has come.
                since = min(broke_at, self._paused_at) - self.context.grace
                self.subscriptions[self._indices[channel]].announce(since, now + unsaid)
        self._stood.add(channel)
        self._standing.add(channel)
        if len(self._standing) == len(self._indices):
            self._stand()

    def _falls(self) -> None:
        """Not connected any more, or without a subscription."""
        self.context.counters.standing -= self._stands
        self._stands = False

    def _stand(self) -> None:
        """Connected, with all subscriptions."""
        self.context.counters.standing += not self._stands
        self._stands = True
        self._paused_at = NEVER
        if self._lost_at:
            self.context.counters.recovery.add(monotonic_ns() - self._lost_at)
            self.context.counters.reconnects += 1
            self._lost_at = 0
        if not self._was_ready:
            self._was_ready = True
            self.context.ready(self)

    def give_up(self, reason: str) -> None:
        """It is of no use to go on, or to come back."""
        self.context.counters.given_up += not self._was_ready
        self.context.counters.failures.add(reason)
        self.end()


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {OPEN_TIMEOUT:g} s"
    if isinstance(error, ssl.SSLError):
        hint = "; is it a target without TLS?" if error.reason == "WRONG_VERSION_NUMBER" else ""
        return f"TLS: {error.reason or error}{hint}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or repr(error)
