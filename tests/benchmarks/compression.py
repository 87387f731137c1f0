"""What compression saves in bytes, and costs in CPU and memory, next to the same without it."""

import asyncio
import json
import random
from contextlib import ExitStack

from tests.benchmarks.measures import Row, median
from tests.benchmarks.processes import Node, node, usage
from tests.benchmarks.raw import RawClient, command, many, open_client

ON = {"GATEWAY_COMPRESSION__ENABLED": "true", "GATEWAY_COMPRESSION__MIN_SIZE": "1"}
OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "make",
    "brew",
]


def table(size: int) -> object:
    """JSON of so many bytes, as applications send it: names that repeat, values that do not."""
    source = random.Random(size)
    rows: list[object] = []
    while (missing := size - len(encoded(rows))) > 100:
        text = " ".join(source.choices(WORDS, k=6))
        rows.append({"id": source.randrange(10**6), "text": text, "price": source.randrange(10**4) / 100})
    text = " ".join(source.choices(WORDS, k=40))
    # A comma, if there are others before it, and quotes.
    return [*rows, text[: missing - (3 if rows else 2)]]


def encoded(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


async def compression(subscribers: int = 500, messages: int = 100, rounds: int = 5) -> list[Row]:
    """One node; the same publications to subscribers that agreed to compress, and to others. Rounds in turn."""
    rows = []
    with node(settings=ON) as target:
        publisher = await open_client(target.url)
        publisher.transport.write(command(1, connect={}))
        await publisher.more()
        plain = await many(target.url, "plain", subscribers)
        packed = await many(target.url, "packed", subscribers, headers=OFFER)
        for size in (128, 1_024, 8_192):
            data = table(size)
            ratios, costs = [], []
            for _ in range(rounds):
                before = await _fan_out(publisher, plain, target, "plain", data, messages)
                after = await _fan_out(publisher, packed, target, "packed", data, messages)
                ratios.append(after[0] / before[0])
                costs.append(after[1] / before[1])
            told = f"JSON of {len(encoded(data)):,} bytes to {subscribers} subscribers, compressed"
            ratios.sort()
            costs.sort()
            rows += [
                Row(f"{told}: bytes", f"{median(ratios):.2f} of those without"),
                Row("  CPU per delivery", f"{median(costs):.2f} ({costs[0]:.2f}-{costs[-1]:.2f})"),
            ]
    return [*rows, *await _memory()]


async def _fan_out(
    publisher: RawClient, readers: list[RawClient], target: Node, channel: str, data: object, messages: int
) -> tuple[float, float]:
    """Bytes that a reader gets for a publication, and CPU seconds of the node for all that it wrote."""
    request = command(2, publish={"channel": channel, "data": data})
    # Any number of bytes may come; each publication is one frame, of which the first tells the size.
    publisher.transport.write(request)
    start = readers[0].received
    await asyncio.gather(*(reader.until(start + 1) for reader in readers))
    size = await _settled(readers) - start
    begin = usage(target.pid).cpu
    for number in range(messages):
        publisher.transport.write(request)
        await asyncio.gather(*(reader.until(start + size * (number + 2)) for reader in readers))
    return size, usage(target.pid).cpu - begin


async def _settled(readers: list[RawClient]) -> int:
    """The bytes that each reader has once all have the same, and no more come."""
    while True:
        before = {reader.received for reader in readers}
        await asyncio.sleep(0.2)
        if len(before) == 1 and before == {reader.received for reader in readers}:
            return before.pop()


async def _memory(count: int = 2_000) -> list[Row]:
    """RSS of idle connections, after each has got a publication."""
    sizes = []
    for headers in ("", OFFER):
        with ExitStack() as stack:
            target = stack.enter_context(node(settings=ON if headers else {}))
            warm = await many(target.url, "room", 100, headers=headers)
            before = usage(target.pid).rss
            readers = await many(target.url, "room", count, headers=headers)
            publisher = await open_client(target.url)
            publish = {"channel": "room", "data": table(1_024)}
            publisher.transport.write(command(1, connect={}) + command(2, publish=publish))
            await asyncio.gather(*(reader.until(1) for reader in (*warm, *readers)))
            sizes.append((usage(target.pid).rss - before) / count / 1024)
    return [
        Row(f"RSS per idle connection at {count:,}, without compression", f"{sizes[0]:.2f} KiB"),
        Row("  with it, after a compressed publication to all", f"{sizes[1]:.2f} KiB"),
    ]
