"""The subscriptions of this node in Redis: batched, lingering, and made again after every cut."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from gateway.broker.base import SubscribeDone
from gateway.broker.redis.link import Link, pack
from gateway.errors import BrokerUnavailable
from gateway.guard import Guard
from gateway.messages import Channel

# Channels per SUBSCRIBE: a burst of a hundred thousand is one write and a few hundred commands.
BATCH = 512
LINGER_INTERVAL = 0.25  # seconds between looks at what lingers


class _Entry:
    """One channel. It has waiters until Redis confirms it, and lingers after its last subscriber has left."""

    __slots__ = ("channel", "confirmed", "linger_until", "waiters")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.confirmed = False
        self.linger_until = 0.0
        self.waiters: list[SubscribeDone] = []


class Subscriptions:
    """Channels by their bus channel, over one link after the other."""

    def __init__(self, linger: float, guard: Guard) -> None:
        self._loop = asyncio.get_running_loop()
        self._guard = guard
        self._linger = linger
        self._entries: dict[bytes, _Entry] = {}
        self._link: Link | None = None
        self._asked: list[bytes] = []
        # Bus channels that a new link still has to confirm before it counts; None once it does.
        self._missing: set[bytes] | None = None
        self._complete: Callable[[], object] | None = None
        self._sweep: asyncio.TimerHandle | None = None

    def channel(self, bus: bytes) -> Channel | None:
        """The channel behind a bus channel, if it is subscribed."""
        entry = self._entries.get(bus)
        return entry.channel if entry is not None else None

    def add(self, bus: bytes, channel: Channel, done: SubscribeDone) -> None:
        """Subscribe. `done` is called at once when the channel lingers, or there is no link."""
        entry = self._entries.get(bus)
        if self._link is None or self._missing is not None:
            done(BrokerUnavailable("not subscribed: no connection to Redis"))
            return
        if entry is not None and entry.confirmed:
            entry.linger_until = 0.0
            done(None)
            return
        if entry is None:
            entry = self._entries[bus] = _Entry(channel)
            if not self._asked:
                self._loop.call_soon(self._ask)
            self._asked.append(bus)
        entry.linger_until = 0.0
        entry.waiters.append(done)

    def remove(self, bus: bytes) -> None:
        """The channel has no subscribers any more; it lingers for a while."""
        entry = self._entries.get(bus)
        if entry is None:
            return
        entry.linger_until = self._loop.time() + self._linger
        if self._sweep is None:
            self._sweep = self._loop.call_later(LINGER_INTERVAL, self._unsubscribe)

    def restore(self, link: Link, own: Iterable[bytes], complete: Callable[[], object]) -> None:
        """Subscribe `own` and all earlier bus channels on a new link; `complete` is called when all are confirmed."""
        self._link = link
        self._asked.clear()
        self._complete = complete
        self._missing = {*own, *self._entries}
        for batch in _batches(list(self._missing)):
            link.tell(pack(b"SUBSCRIBE", *batch))

    def confirmed(self, bus: bytes) -> None:
        """Redis has confirmed a SUBSCRIBE."""
        if self._missing is not None:
            self._missing.discard(bus)
        entry = self._entries.get(bus)
        if entry is not None:
            entry.confirmed = True
            self._answer(entry, None)
        if self._missing is not None and not self._missing:
            self._missing = None
            complete, self._complete = self._complete, None
            if complete is not None:
                complete()

    def cut(self, reason: str) -> None:
        """The link is gone: waiters get an error; confirmed channels are kept for the next link."""
        self._link = None
        self._missing = None
        self._complete = None
        self._asked.clear()
        waiting = [(bus, entry) for bus, entry in self._entries.items() if entry.waiters]
        for bus, entry in waiting:
            del self._entries[bus]
            self._answer(entry, BrokerUnavailable(reason))
        for entry in self._entries.values():
            entry.confirmed = False

    def _answer(self, entry: _Entry, error: BrokerUnavailable | None) -> None:
        """A fault of one waiter must not keep the others waiting."""
        waiters, entry.waiters = entry.waiters, []
        for done in waiters:
            self._guard.call("completion", entry.channel.name, done, error)

    def channels(self) -> list[Channel]:
        """All channels with subscribers."""
        return [entry.channel for entry in self._entries.values() if not entry.linger_until]

    def stop(self) -> None:
        """Cancel the timer."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _ask(self) -> None:
        asked, self._asked = self._asked, []
        if self._link is not None:
            for batch in _batches(asked):
                self._link.tell(pack(b"SUBSCRIBE", *batch))

    def _unsubscribe(self) -> None:
        self._sweep = None
        now = self._loop.time()
        lingering = [(bus, entry) for bus, entry in self._entries.items() if entry.linger_until]
        due = [bus for bus, entry in lingering if entry.linger_until <= now and (entry.confirmed or self._link is None)]
        for bus in due:
            del self._entries[bus]
        if self._link is not None:
            for batch in _batches(due):
                self._link.tell(pack(b"UNSUBSCRIBE", *batch))
        if len(due) < len(lingering):
            self._sweep = self._loop.call_later(LINGER_INTERVAL, self._unsubscribe)


def _batches(names: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]
