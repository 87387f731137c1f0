"""Fakes of ports: time by hand, a transport that records."""

import heapq
from collections.abc import Callable
from itertools import count

from gateway.errors import CloseCode
from gateway.session.transport import Connection


class ManualScheduler:
    """A Scheduler whose time stands still until it is told to pass."""

    def __init__(self, unix: float = 1_700_000_000.0) -> None:
        self._now = 1000.0
        self._unix = unix
        self._number = count()
        self._later: list[tuple[float, int, Callable[[], object]]] = []

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return self._unix + self._now - 1000.0

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.call_later(0.0, callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        heapq.heappush(self._later, (self._now + delay, next(self._number), callback))

    def turn(self) -> int:
        """One turn of the loop: what is due now, not what it schedules. Returns how many ran."""
        due = []
        while self._later and self._later[0][0] <= self._now:
            due.append(heapq.heappop(self._later)[2])
        for callback in due:
            callback()
        return len(due)

    def run(self) -> None:
        """Turns until nothing is due."""
        while self.turn():
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass, running everything at its moment."""
        end = self._now + seconds
        self.run()
        while self._later and self._later[0][0] <= end:
            self._now = max(self._now, self._later[0][0])
            self.run()
        self._now = end


class RecordingTransport:
    """A Transport that keeps what is written, and congests when told."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.close_code: CloseCode | None = None
        self.aborted = False
        self.is_authenticated = False
        self.reading = True
        self.connection: Connection | None = None
        # Bytes after which the socket is congested, None for never.
        self.capacity: int | None = None
        self.write = self._write

    def _write(self, frame: bytes) -> None:
        self.written.append(frame)
        if self.capacity is not None and self.connection is not None:
            self.capacity -= len(frame)
            if self.capacity <= 0:
                self.capacity = None
                self.connection.pause_writing()

    def close(self, code: CloseCode) -> None:
        self.close_code = code

    def abort(self) -> None:
        self.aborted = True

    def authenticated(self) -> None:
        self.is_authenticated = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def take(self) -> bytes:
        """What was written since the last call, as one block."""
        block = b"".join(self.written)
        self.written.clear()
        return block
