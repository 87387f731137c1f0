"""The other end of a link, by hand."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.broker.members import PATIENCE


class Pipe(asyncio.Transport):
    """A socket that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False
        self.on_write: Callable[[], object] = lambda: None

    def write(self, data: Any) -> None:
        self.written += data
        self.on_write()

    def abort(self) -> None:
        self.aborted = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
