"""Flow control of HTTP answers that does not wait for ever: a client that stops reading loses its connection."""

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

# Seconds. The kernel says that a socket takes more once about a third of its buffer is free, and a buffer grows to
# 4 MiB: that is the pace of a mobile phone at the edge of its network.
UNREAD_TIMEOUT = 60.0


class BoundedFlowControl(FlowControl):
    """uvicorn's, with a deadline while the socket takes nothing and while a closed one still holds unread bytes."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport)
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """The client reads more slowly than the application writes."""
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        """It read."""
        super().resume_writing()
        if not self._transport.is_closing():
            self.stop()

    def closing(self) -> None:
        """The transport may have been closed: it ends once its buffer is empty."""
        if self._transport.is_closing() and self._transport.get_write_buffer_size():
            self._expect_progress()

    def stop(self) -> None:
        """The transport is somebody else's now, or gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect_progress(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(UNREAD_TIMEOUT, self._transport.abort)
