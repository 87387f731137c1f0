"""Publishes on a fixed schedule, whatever becomes of the publications before."""

import asyncio
import contextlib
import math
import queue
import threading
import time
from collections.abc import Mapping, Sequence

from gateway_loadtest.counting.accounts import Pace, Published
from gateway_loadtest.counting.counters import LATE_AFTER, Counters
from gateway_loadtest.counting.marks import Mark, Marks
from gateway_loadtest.running.load_client import Client

# Publications sent in one turn of the loop: receiving must not starve.
BURST = 100


class Pacer:
    """Calls back at a moment, to some 100 us; timers of event loops keep whole milliseconds only."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="pacer", daemon=True)
        self._turned = asyncio.Event()
        self._thread.start()

    async def until(self, due: int) -> None:
        """Wait until CLOCK_MONOTONIC has this value, nanoseconds; less when it is woken."""
        self._turned.clear()
        self._due.put(due)
        await self._turned.wait()

    def wake(self) -> None:
        """Whoever waits goes on."""
        self._turned.set()

    def close(self) -> None:
        self._due.put(None)

    def _run(self) -> None:
        while (due := self._due.get()) is not None:
            delay = due - time.monotonic_ns()
            if delay > 0:
                time.sleep(delay / 1e9)
            try:
                self._loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:
                # The loop has ended.
                return


class Schedule:
    """The publications of one worker: its channels one after the other, evenly over time."""

    def __init__(self, clients: Mapping[int, Client], order: Sequence[int], marks: Marks, counters: Counters) -> None:
        """`clients`: which connection publishes into a channel; `order`: the channels in their turn."""
        self._clients = clients
        self._order = order
        self._marks = marks
        self._counters = counters
        self._turn = 0
        self._number = 0
        self.published = {channel: Published() for channel in order}
        self._goes_on = False
        # Nothing is published that is due later (CLOCK_MONOTONIC, nanoseconds).
        self._last_due: float = math.inf
        self._is_running = False
        # Something was answered, or all is published.
        self._changed = asyncio.Event()
        self._pacer = Pacer()

    async def run(self, begin: int, seconds: float, rate: float, *, open_ended: bool = False) -> None:
        """Publish `rate` times a second into each channel, from `begin` on (CLOCK_MONOTONIC, nanoseconds).

        Where it is open-ended, until `end` and for so many seconds at least.
        """
        self._goes_on = open_ended
        per_second = rate * len(self._order)
        # One at least: what rounding leaves is not worth one.
        slots = math.ceil(per_second * seconds - 1e-6)
        self._note_pace(begin, per_second, len(self._order) if open_ended else slots)
        self._is_running = True
        try:
            await self._run(begin, per_second, slots)
        finally:
            self._is_running = False
            self._changed.set()

    async def _run(self, begin: int, per_second: float, slots: int) -> None:
        slot = 0
        while slot < slots or self._goes_on:
            due = begin + int(slot * 1e9 / per_second)
            if due > self._last_due:
                break
            now = time.monotonic_ns()
            if now < due:
                await self._pacer.until(due)
                continue
            last = slot + BURST if self._goes_on else min(slot + BURST, slots)
            while slot < last and due <= min(now, self._last_due):
                self._publish(due, now)
                slot += 1
                due = begin + int(slot * 1e9 / per_second)
            await asyncio.sleep(0)

    def _note_pace(self, begin: int, per_second: float, slots: int) -> None:
        """What each channel's turns will be."""
        number = len(self._order)
        for slot in range(min(number, slots)):
            published = self.published[self._order[(self._turn + slot) % number]]
            due = begin + int(slot * 1e9 / per_second)
            published.paces.append(Pace(published.last + 1, due, number * 1e9 / per_second))

    def end(self) -> None:
        """Of what was open-ended."""
        self._goes_on = False
        self._pacer.wake()

    def stop(self) -> None:
        """Publish only what is due already: a machine that stood still for a moment must not shorten the run. Called
        again, publish nothing.
        """
        self._last_due = time.monotonic_ns() if self._last_due == math.inf else 0
        self._pacer.wake()

    def close(self) -> None:
        self._pacer.close()

    async def settle(self, seconds: float) -> None:
        """After `stop`: wait until all is published, and for the answers that are missing.

        Those that do not come, the server owes: its connection stands.
        """
        clients = set(self._clients.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._is_running or any(client.pending for client in clients):
                    self._changed.clear()
                    await self._changed.wait()
        self._last_due = 0
        for client in clients:
            self._counters.unanswered += self._give_up(client)

    def acknowledged(self, client: Client, number: int, error: str) -> None:
        pending = client.pending.pop(number, None)
        if pending is None:
            return
        self._changed.set()
        channel, place, due = pending
        if error:
            self._counters.refused += 1
            self._counters.errors.add(error)
            self.published[channel].exclude(place)
        else:
            self._counters.acknowledged += 1
            self._counters.acknowledgement.add(time.monotonic_ns() - due)

    def lost(self, client: Client) -> None:
        """Its connection broke: what has no answer will not get one, and may have been published."""
        self._counters.unknown += self._give_up(client)
        self._changed.set()

    def _give_up(self, client: Client) -> int:
        """Publications that nobody has to have, since nobody knows what became of them."""
        number = len(client.pending)
        for channel, place, _ in client.pending.values():
            self.published[channel].exclude(place)
        client.pending.clear()
        return number

    def _publish(self, due: int, now: int) -> None:
        channel = self._order[self._turn]
        self._turn = (self._turn + 1) % len(self._order)
        counters = self._counters
        counters.slots += 1
        if now - due > LATE_AFTER * 1e6:
            counters.late_slots += 1
        client = self._clients[channel]
        # Also where nothing is sent: a number then tells when it was due.
        published = self.published[channel]
        published.last += 1
        if client.link is None or not client.opened:
            counters.refused += 1
            counters.errors.add("publish: not connected")
            published.exclude(published.last)
            return
        self._number += 1
        payload = self._marks.payload(Mark(channel, published.last, due))
        if client.wire.acknowledges:
            client.pending[self._number] = (channel, published.last, due)
        else:
            counters.acknowledged += 1
        client.link.send(client.wire.publish(client.context.channel(channel), payload, self._number))
        counters.published += 1
