"""The shutdown of a node on a server that is not ours.

Such a server ends its connections as soon as it gets its signal, and waits for responses that do not end by themselves.
So the node hears the signal first.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from gateway.app import Composition

logger = logging.getLogger(__name__)

# Seconds after the window for what is left: unanswered close frames.
GRACE = 1.0
# Seconds between two looks at what is left.
POLL = 0.05

Handler = Callable[[int, FrameType | None], object]


class ServerSignals:
    """Closes the clients of a node when SIGINT or SIGTERM comes, and then passes the signal on to the server.

    The server would close them with a code of its own. SIGTERM drains; SIGINT has no window. A second signal goes on at
    once.
    """

    def __init__(self, node: Composition) -> None:
        """Needs a running event loop."""
        self._node = node
        drain = node.settings.drain
        self._drain_settings = (drain.delay, drain.window)
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[int, Handler] = {}
        self._drain: asyncio.Task[None] | None = None
        # A signal has come, or the node ends without one.
        self._ends = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hear the signals that the server has handlers for. Does nothing outside of the main thread."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(signum)
                if callable(handler):
                    self._handlers[signum] = handler
                    signal.signal(signum, self._on_signal)
        try:
            yield
        finally:
            self._ends = True
            if self._drain is not None:
                self._drain.cancel()
            for caught, before in self._handlers.items():
                # Whoever took the signal after us keeps it, and may go on calling us.
                if signal.getsignal(caught) == self._on_signal:
                    signal.signal(caught, before)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """A signal handler: in the midst of any other code."""
        first, self._ends = not self._ends, True
        if not first or signum == signal.SIGINT:
            self._node.drain.hurry()
        # The loop may be closed.
        with suppress(RuntimeError):
            if first:
                self._loop.call_soon_threadsafe(self._start_drain, signum)
                return
            self._loop.call_soon_threadsafe(self._node.close_clients)
        self._handlers[signum](signum, frame)

    def _start_drain(self, signum: int) -> None:
        self._drain = self._loop.create_task(self._drain_then_pass_on(signum), name="drain")

    async def _drain_then_pass_on(self, signum: int) -> None:
        delay, window = (0.0, 0.0) if signum == signal.SIGINT else self._drain_settings
        clients = self._node.admission.clients
        logger.info("shutting down", extra={"connections": clients, "delay": delay, "window": window})
        self._node.start_draining()
        await asyncio.sleep(delay)
        self._node.close_clients()
        with suppress(TimeoutError):
            async with asyncio.timeout(window + GRACE):
                while self._node.admission.clients:  # noqa: ASYNC110 - a gauge, which tells nobody of its changes
                    await asyncio.sleep(POLL)
        self._handlers[signum](signum, None)
