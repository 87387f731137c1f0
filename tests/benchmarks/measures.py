"""Each function measures one thing against a fresh node and returns rows for the table."""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import timeit
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gateway.hooks.payloads import Payloads, payload_of
from gateway.messages import Kind
from gateway.tokens import connection_token
from tests.benchmarks.models import LINE, Line, PydanticLine
from tests.benchmarks.processes import Node, node, usage
from tests.benchmarks.raw import RawClient, command, framed, many, open_client, subscriber

PAYLOAD = "x" * 126  # a JSON string of 128 bytes


class Row(NamedTuple):
    """One line of the table. `budget` is empty where none is set."""

    what: str
    figure: str
    budget: str = ""


def push(channel: str, data: str, client: str = "", user: str = "") -> int:
    """The size of a publication's frame."""
    pub: dict[str, object] = {"data": data}
    if client:
        pub["info"] = {"user": user, "client": client}
    return len(framed(json.dumps({"push": {"channel": channel, "pub": pub}}, separators=(",", ":")).encode()))


def api(target: Node, method: str, body: object) -> bytes:
    """One request to the HTTP API."""
    headers = {"Content-Type": "application/json", "X-API-Key": target.ready.get("api_key") or ""}
    request = urllib.request.Request(f"{target.url}/api/{method}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        reply: bytes = answer.read()
    assert b'"error"' not in reply, reply[:300]
    return reply


def metrics(target: Node) -> dict[str, float]:
    """Samples by name with labels, from the internal listener's /metrics. A scrape resets the maxima."""
    with urllib.request.urlopen(target.ready["nodes"][0]["internal_url"] + "/metrics") as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.M)}


@contextmanager
def send_loop(subscribers: int, frame: int) -> Iterator[tuple[str, int]]:
    """The bare C loop, compiled on the spot: (url, pid). Subscribers connect to it first, then one publisher."""
    source = Path(__file__).with_name("send_loop.c")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/send_loop"
        subprocess.run(["gcc", "-O2", "-o", program, str(source)], check=True)
        process = subprocess.Popen([program, str(subscribers), str(frame)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


async def delivery(subscribers: int = 500, messages: int = 200, rounds: int = 5) -> list[Row]:
    """CPU per delivery through Redis, one message at a time, next to the C loop; rounds in turn, medians."""
    with node() as target:
        publisher = await open_client(target.url)
        publisher.transport.write(command(1, connect={}))
        await publisher.more()
        client = json.loads(publisher.tail[publisher.tail.index(b"{") :].split(b"\n")[0])["connect"]["client"]
        size = push("fanout", PAYLOAD, client)
        readers = await many(target.url, "fanout", subscribers)
        with send_loop(subscribers, size) as (bare_url, bare_pid):
            bare_readers = await many(bare_url, "fanout", subscribers)
            bare_publisher = await open_client(bare_url)
            ours, bare = [], []
            for _ in range(rounds):
                bare.append(await fan_out(bare_publisher, bare_readers, bare_pid, size, messages))
                ours.append(await fan_out(publisher, readers, target.pid, size, messages))
    ratios = sorted(mine / limit for mine, limit in zip(ours, bare, strict=True))
    return [
        Row(f"CPU per delivery to {subscribers} subscribers through Redis", f"{median(ours):.2f} us"),
        Row("CPU per send() of a bare C loop to the same readers, same run", f"{median(bare):.2f} us"),
        Row("ratio, pair by pair", f"{median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})", "<= 1.15"),
    ]


async def fan_out(
    publisher: RawClient, readers: list[RawClient], pid: int, size: int, messages: int, channel: str = "fanout"
) -> float:
    """Microseconds of CPU of a process per delivery. `size`: what one adds to what the readers count."""
    request = command(2, publish={"channel": channel, "data": PAYLOAD})
    goal = readers[0].received
    start = usage(pid).cpu
    for _ in range(messages):
        goal += size
        publisher.transport.write(request)
        await asyncio.gather(*(reader.until(goal) for reader in readers))
    return (usage(pid).cpu - start) / messages / len(readers) * 1e6


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


async def throughput(
    per_channel: int = 100, channels: int = 5, publishers: int = 10, window: int = 64, seconds: float = 6.0
) -> list[Row]:
    """Deliveries per second with closed-loop publishers, each with `window` publishes under way."""
    with node() as target:
        groups = [await many(target.url, f"rooms{number}", per_channel) for number in range(channels)]
        loops = []
        for number in range(publishers):
            publisher = await open_client(target.url)
            publisher.transport.write(command(1, connect={}))
            await publisher.more()
            publisher.received = 0
            loops.append((publisher, f"rooms{number % channels}"))
        deadline = time.monotonic() + seconds
        readers = [reader for group in groups for reader in group]
        before = sum(reader.received for reader in readers)
        start, cpu = time.monotonic(), usage(target.pid).cpu
        counted = metrics(target)["gateway_deliveries_total"]
        await asyncio.gather(*(_closed_loop(publisher, name, window, deadline) for publisher, name in loops))
        elapsed, used = time.monotonic() - start, usage(target.pid).cpu - cpu
        delivered = metrics(target)["gateway_deliveries_total"] - counted
        total = sum(reader.received for reader in readers) - before
    assert total > 0
    return [
        Row(f"deliveries/s, {per_channel} subscribers per channel", f"{delivered / elapsed:,.0f}", ">= 1,000,000"),
        Row("  CPU per delivery, publishing included", f"{used / delivered * 1e6:.2f} us"),
        Row("  publishes/s meanwhile", f"{delivered / per_channel / elapsed:,.0f}"),
    ]


async def _closed_loop(publisher: RawClient, channel: str, window: int, deadline: float) -> None:
    """Publish `window` messages, wait for their replies, again."""
    burst = command(7, publish={"channel": channel, "data": PAYLOAD}) * window
    # Replies may share frames.
    publisher.received, publisher.marker = 0, b'"publish":{}'
    goal = 0
    while time.monotonic() < deadline:
        publisher.transport.write(burst)
        goal += window
        await publisher.until(goal)


async def websocket_publish(messages: int = 20_000, window: int = 100) -> list[Row]:
    """CPU per publish from a WebSocket through Redis to one subscriber; without and with history."""
    live = await _publishes({}, messages, window)
    kept = await _publishes({"GATEWAY_CHANNELS__DELIVERY": "recoverable"}, messages, window)
    return [
        Row("CPU per WebSocket publish, fan-out 1", f"{live[0]:.1f} us", "<= 20 us"),
        Row("  of Valkey", f"{live[1]:.1f} us"),
        Row("CPU per WebSocket publish with history, fan-out 1", f"{kept[0]:.1f} us"),
        Row("  of Valkey", f"{kept[1]:.1f} us"),
    ]


async def hooks(messages: int = 10_000, window: int = 100) -> list[Row]:
    """CPU per publish from a WebSocket, without a hook and with one that does nothing."""
    bare = await _publishes({}, messages, window)
    asked = await _publishes({"GATEWAY_HOOKS__PYTHON": "tests.benchmarks.noop_hooks:hooks"}, messages, window)
    return [
        Row("CPU per WebSocket publish without hooks", f"{bare[0]:.1f} us"),
        Row("  added by a publish hook that does nothing", f"{asked[0] - bare[0]:.1f} us"),
    ]


async def payloads(rounds: int = 10, checks: int = 10_000) -> list[Row]:
    """CPU that a model adds to each publish, for an object of 114 bytes. The best of the rounds, in this process."""
    rows = []
    for name, model in (("msgspec", Line), ("pydantic", PydanticLine)):
        models = Payloads([payload_of("room", model)], print)
        best = min(timeit.repeat(partial(_check, models), timer=time.process_time, repeat=rounds, number=checks))
        rows.append(Row(f"CPU per publish added by a model of {name}", f"{best / checks * 1e6:.1f} us"))
    return rows


def _check(models: Payloads) -> None:
    if "room" in models:
        models.decode("room", Kind.JSON, LINE)


async def _publishes(settings: dict[str, str], messages: int, window: int) -> tuple[float, float]:
    """Microseconds of CPU per publish: of the node, of Valkey."""
    with node(settings=settings) as target:
        reader = await subscriber(target.url, "single")
        publisher = await open_client(target.url)
        publisher.transport.write(command(1, connect={}))
        await publisher.more()
        publisher.received = 0
        # Replies may share frames.
        publisher.marker = b'"publish":{}'
        burst = command(7, publish={"channel": "single", "data": PAYLOAD}) * window
        start = usage(target.pid).cpu, usage(target.redis_pid).cpu
        for number in range(messages // window):
            publisher.transport.write(burst)
            await publisher.until(window * (number + 1))
        used = usage(target.pid).cpu - start[0], usage(target.redis_pid).cpu - start[1]
        assert reader.received > messages * len(PAYLOAD) * 0.9
    return used[0] / messages * 1e6, used[1] / messages * 1e6


BARE_APP = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def publish(request):
    await request.body()
    return Response(b'{"result":{}}', media_type="application/json")

app = Starlette(routes=[Route("/api/publish", publish, methods=["POST"])])
config = uvicorn.Config(app, port=0, log_level="critical", access_log=False, http="httptools", loop="uvloop")
socket = config.bind_socket()
socket.listen()
print(socket.getsockname()[1], flush=True)
uvicorn.Server(config).run(sockets=[socket])
"""


@contextmanager
def bare_starlette() -> Iterator[tuple[str, int]]:
    """A Starlette application with one POST route that reads the body: (url, pid)."""
    process = subprocess.Popen([sys.executable, "-c", BARE_APP], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


async def http_publish(requests: int = 6_400, connections: int = 64) -> list[Row]:
    """CPU per POST of one message and of a batch, next to a bare Starlette POST."""
    body = json.dumps({"channel": "single", "data": PAYLOAD}).encode()
    with node() as target, bare_starlette() as (bare_url, bare_pid):
        reader = await subscriber(target.url, "single")
        key = target.ready.get("api_key") or ""
        ours, bare = [], []
        for _ in range(3):
            bare.append(await _posts(bare_url, bare_pid, "", body, requests, connections))
            ours.append(await _posts(target.url, target.pid, key, body, requests, connections))
        assert reader.received > 0
        commands = [{"publish": {"channel": "single", "data": PAYLOAD}}] * 1_000
        batch = json.dumps({"commands": commands}).encode()
        cost = await _posts(target.url, target.pid, key, batch, 30, 1, path="/api/batch")
    ratio = median([mine / theirs for mine, theirs in zip(ours, bare, strict=True)])
    return [
        Row("CPU per HTTP publish, fan-out 1", f"{median(ours):.1f} us"),
        Row("CPU per POST of a bare Starlette route, same run", f"{median(bare):.1f} us"),
        Row("  ratio, pair by pair", f"{ratio:.2f}", "<= 1.3"),
        Row("CPU per message in an HTTP batch of 1,000", f"{cost / 1_000:.1f} us", "<= 20 us"),
    ]


async def _posts(
    url: str, pid: int, key: str, body: bytes, requests: int, connections: int, path: str = "/api/publish"
) -> float:
    """Microseconds of CPU per request, over keep-alive connections."""
    host = url.removeprefix("http://")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    streams = [await asyncio.open_connection(*host.split(":")) for _ in range(connections)]

    async def loop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
        for _ in range(count):
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in answer[:15], answer
            length = int(re.findall(rb"(?i)content-length: (\d+)", answer)[0])
            await reader.readexactly(length)

    start = usage(pid).cpu
    await asyncio.gather(*(loop(reader, writer, requests // connections) for reader, writer in streams))
    used = usage(pid).cpu - start
    for _, writer in streams:
        writer.close()
    return used / (requests // connections * connections) * 1e6


async def connections(count: int = 5_000) -> list[Row]:
    """Memory and CPU of connections that authenticate with a JWT and subscribe to one channel each."""
    namespace = {"GATEWAY_NAMESPACES__own__ALLOW_SUBSCRIBE": "client"}
    with node(auth=True, settings=namespace) as target:
        secret = target.ready["hmac_secret"]
        gate = asyncio.Semaphore(64)

        async def one(number: int) -> RawClient:
            token = connection_token(secret, f"user{number}")
            async with gate:
                return await subscriber(target.url, f"own:{number}", token)

        # What the first connections cost once for all is not theirs.
        first = await asyncio.gather(*(one(number) for number in range(200)))
        before = usage(target.pid)
        rest = await asyncio.gather(*(one(number) for number in range(200, count + 200)))
        after = usage(target.pid)
        assert len(first) + len(rest) == count + 200
    return [
        Row(
            f"RSS per idle connection, authenticated, one subscription, at {count:,}",
            f"{(after.rss - before.rss) / count / 1024:.2f} KiB",
            "<= 6 KiB",
        ),
        Row(
            "CPU to connect, authenticate (JWT) and subscribe",
            f"{(after.cpu - before.cpu) / count * 1e6:.0f} us",
            "<= 300 us",
        ),
    ]


async def loop_lag(count: int = 15_000, rate: int = 5, seconds: int = 12) -> list[Row]:
    """Event-loop lag while one channel of all connections receives `rate` messages a second."""
    with node() as target:
        readers = await many(target.url, "all", count)
        publisher = await open_client(target.url)
        publisher.transport.write(command(1, connect={}))
        await publisher.more()
        await asyncio.sleep(1)
        before = metrics(target)
        for _ in range(rate * seconds):
            publisher.transport.write(command(7, publish={"channel": "all", "data": PAYLOAD}))
            await asyncio.sleep(1 / rate)
        after = metrics(target)
        assert readers[0].received >= rate * seconds * len(PAYLOAD)
    buckets = [name for name in after if name.startswith("gateway_event_loop_lag_seconds_bucket")]
    counts = {name: after[name] - before[name] for name in buckets}
    bound = next(name for name, count in counts.items() if count >= 0.99 * max(counts.values()))
    worst = after["gateway_event_loop_lag_max_seconds"]
    return [
        Row(
            f"event-loop lag at {count:,} connections, {rate} messages/s to all: p99",
            "<= " + bound.split('"')[1] + " s",
            "<= two slices (6 ms)",
        ),
        Row("  maximum", f"{worst * 1000:.1f} ms"),
    ]
