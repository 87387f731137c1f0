"""How fast clients are read from, and how long HTTP answers wait: a client that stops reading loses its connection."""

import asyncio

from gateway.transports.uvicorn_internals import FlowControl

# Seconds. The kernel says that a socket takes more once about a third of its buffer is free, and a buffer grows to
# 4 MiB: that is the pace of a mobile phone at the edge of its network.
UNREAD_TIMEOUT = 60.0
# A read of so many bytes ends the turn of its socket, from which libuv reads 32 times otherwise, 8 MiB in all; and the
# pace of such reads, in bytes per second: ten of these clients leave half of a core to the others.
TURN_BYTES = 65_536
BYTES_PER_SECOND = 8 * 1024 * 1024


def rest_after(size: int) -> float:
    """Seconds for which a socket is not read from after a read of so many bytes."""
    return size / BYTES_PER_SECOND if size >= TURN_BYTES else 0.0


class BoundedFlowControl(FlowControl):
    """uvicorn's, with rests between large reads, and with a deadline for the client to read.

    It counts while the socket takes nothing, and while a closed one still holds unread bytes.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport)
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None

    def has_read(self, size: int) -> None:
        """So many bytes were read at once: if they are many, read no more for a while."""
        if (seconds := rest_after(size)) and self._rest is None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._rest = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._rest = None
        if not self.read_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        """The application takes more."""
        if self._rest is None:
            super().resume_reading()
        else:
            self.read_paused = False

    def pause_writing(self) -> None:
        """The client reads more slowly than the application writes."""
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        """It read."""
        super().resume_writing()
        if not self._transport.is_closing():
            self._stop_waiting()

    def closing(self) -> None:
        """The transport may have been closed: it ends once its buffer is empty."""
        if self._transport.is_closing() and self._transport.get_write_buffer_size():
            self._expect_progress()

    def stop(self) -> None:
        """The transport is gone, or somebody else's."""
        self._stop_waiting()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def let_go(self) -> None:
        """The transport is somebody else's now, and reads, unless it is closed."""
        is_paused = self.read_paused or self._rest is not None
        self.stop()
        if is_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect_progress(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(UNREAD_TIMEOUT, self._transport.abort)
