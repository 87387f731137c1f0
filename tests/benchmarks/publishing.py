"""What a publish costs the process of a backend: past the nodes, and over HTTP."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.client import AsyncClient
from gateway.publisher import AsyncPublisher, Publisher
from tests.benchmarks.measures import PAYLOAD, Row, median
from tests.benchmarks.processes import Node, node, usage

# Calls of asyncio that are under way together.
TASKS = 16


async def publisher(messages: int = 4_000, rounds: int = 3) -> list[Row]:
    """CPU of this process per message, one kind after the other, again and again; medians."""
    rows = []
    for what, delivery in (("without history", "live"), ("with history", "recoverable")):
        with node(settings={"GATEWAY_CHANNELS__DELIVERY": delivery}) as target:
            rows += await _compared(target, what, messages, rounds)
    return rows


async def _compared(target: Node, what: str, messages: int, rounds: int) -> list[Row]:
    costs: dict[str, list[float]] = {}
    redis: dict[str, list[float]] = {}
    url = target.ready["redis_url"]
    async with AsyncPublisher(url) as of_tasks, AsyncClient(target.url) as over_http:
        with Publisher(url) as of_threads:

            async def in_turn() -> None:
                for _ in range(messages):
                    of_threads.publish("single", PAYLOAD)

            kinds: dict[str, Callable[[], Awaitable[None]]] = {
                "AsyncClient over HTTP": lambda: _by_tasks(over_http, messages),
                "AsyncPublisher": lambda: _by_tasks(of_tasks, messages),
                "Publisher": in_turn,
            }
            for _ in range(rounds):
                for name, measured in kinds.items():
                    before, of_redis = time.process_time(), usage(target.redis_pid).cpu
                    await measured()
                    costs.setdefault(name, []).append((time.process_time() - before) / messages * 1e6)
                    redis.setdefault(name, []).append((usage(target.redis_pid).cpu - of_redis) / messages * 1e6)
    http = costs["AsyncClient over HTTP"]
    rows = []
    for name, found in costs.items():
        ratio = median([mine / theirs for mine, theirs in zip(found, http, strict=True)])
        rows += [
            Row(f"CPU of the backend per publish {what}, {name}", f"{median(found):.1f} us"),
            Row("  of AsyncClient's; CPU of Valkey", f"{ratio:.2f}; {median(redis[name]):.1f} us"),
        ]
    return rows


async def _by_tasks(gateway: AsyncPublisher | AsyncClient, messages: int) -> None:
    async def some() -> None:
        for _ in range(messages // TASKS):
            await gateway.publish("single", PAYLOAD)

    await asyncio.gather(*(some() for _ in range(TASKS)))
