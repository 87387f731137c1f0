"""How fast clients are read from, and how long HTTP answers wait for a client that has stopped reading."""

import asyncio

from gateway.transports.uvicorn_internals import FlowControl

# Seconds without progress. The kernel reports a socket as writable once about a third of its buffer is free, and a
# buffer grows to 4 MiB: this allows for the pace of a mobile phone at the edge of its network.
UNREAD_TIMEOUT = 60.0
# A read of this many bytes ends the turn of its socket (libuv would read up to 32 times, 8 MiB in all). Such reads are
# limited to this many bytes per second: ten such clients leave half a core to the others.
TURN_BYTES = 65_536
BYTES_PER_SECOND = 8 * 1024 * 1024


def rest_after(size: int) -> float:
    """Seconds to stop reading from a socket after a read of `size` bytes."""
    return size / BYTES_PER_SECOND if size >= TURN_BYTES else 0.0


class BoundedFlowControl(FlowControl):
    """uvicorn's flow control, with pauses between large reads, and with a deadline for the client to read.

    The deadline runs while the socket accepts no data, and while a closed one still has bytes to send.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport)
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None

    def has_read(self, size: int) -> None:
        """`size` bytes were read at once: pause reading for a while if that is a lot."""
        if (seconds := rest_after(size)) and self._rest is None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._rest = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._rest = None
        if not self.read_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        """The application can take more."""
        if self._rest is None:
            super().resume_reading()
        else:
            self.read_paused = False

    def pause_writing(self) -> None:
        """The client reads more slowly than the application writes."""
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if not self._transport.is_closing():
            self._stop_waiting()

    def closing(self) -> None:
        """The transport may have been closed: start the deadline if it still has bytes to send."""
        if self._transport.is_closing() and self._transport.get_write_buffer_size():
            self._expect_progress()

    def stop(self) -> None:
        """The transport is gone, or has a new owner."""
        self._stop_waiting()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def let_go(self) -> None:
        """Hand the transport to its new owner, reading unless it is closed."""
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
