"""An outbox and a gateway in memory, which fail when the test says so."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from gateway.api.request_shapes import PublishRequest
from gateway.errors import GatewayError
from gateway.outbox.relay import Refusal, StoreLost
from gateway.outbox.rows import Row, values

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Table:
    """A Store for one relay. `fails` is asked before each statement whether the session breaks."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.refused: dict[int, str] = {}
        self.sessions = 0
        # Characters that were read at once, at most.
        self.largest = 0
        # How often `lead` says no.
        self.others = 0
        self.fails: Callable[[str], bool] = lambda statement: False
        # Called when there is nothing left to do.
        self.on_idle: Callable[[], object] = lambda: None

    def add(self, channel: str, data: object) -> int:
        number = len(self.rows) + len(self.refused) + 1
        self.rows[number] = Row(number, created_at=NOW, **values(channel, data))
        return number

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Table"]:
        self._statement("open")
        self.sessions += 1
        yield self

    async def lead(self) -> bool:
        self._statement("lead")
        self.others -= 1
        return self.others < 0

    async def read(self, without: Collection[str], limit: int, size: int) -> Sequence[Row]:
        self._statement("read")
        waiting = sorted(self.rows.keys() - self.refused.keys())
        found: list[Row] = []
        read = 0
        for row in [self.rows[each] for each in waiting if self.rows[each].channel not in without][:limit]:
            if read < size:
                found.append(row)
                read += len(row.publication)
        self.largest = max(self.largest, read)
        return found

    async def remove(self, ids: Collection[int]) -> None:
        self._statement("remove")
        for each in ids:
            self.rows.pop(each, None)

    async def refuse(self, row: int, error: str) -> None:
        self._statement("refuse")
        self.refused[row] = error

    async def wait(self, seconds: float) -> None:
        self._statement("wait")
        self.on_idle()

    def _statement(self, name: str) -> None:
        if self.fails(name):
            raise StoreLost(f"{name} failed")


class Node:
    """A Sender to a node that knows keys. `fate` says of each request what becomes of it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, int]] = []
        self.requests: list[list[str]] = []
        self.keys: set[str] = set()
        # "" publishes, "lost" does and loses the answer to all of them, "for now" and "for good" refuse.
        self.fate: Callable[[PublishRequest], str] = lambda request: ""

    async def send(self, requests: Sequence[PublishRequest]) -> Sequence[Refusal | None]:
        self.requests.append([each.channel for each in requests])
        fates = [self.fate(each) for each in requests]
        for request, fate in zip(requests, fates, strict=True):
            assert request.idempotency_key
            if fate in ("", "lost") and request.idempotency_key not in self.keys:
                self.keys.add(request.idempotency_key)
                self.published.append((request.channel, msgspec.json.decode(request.data, type=int)))  # type: ignore[arg-type]
        if "lost" in fates:
            raise GatewayError("no answer")
        return [Refusal(fate, fate == "for now") if fate else None for fate in fates]

    async def aclose(self) -> None: ...
