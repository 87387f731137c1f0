"""Measures of what outlives a message: recovery, presence, latest values."""

import asyncio
import json
import os
import signal
import time

from tests.benchmarks.measures import PAYLOAD, Row, api, metrics
from tests.benchmarks.processes import node, usage
from tests.benchmarks.raw import RawClient, command, many, open_client, subscriber

RECOVERABLE = {"GATEWAY_CHANNELS__DELIVERY": "recoverable"}


async def connected(url: str, count: int, width: int = 64) -> list[RawClient]:
    """So many clients that have connected and subscribed to nothing."""
    gate = asyncio.Semaphore(width)

    async def one() -> RawClient:
        async with gate:
            client = await open_client(url)
            client.transport.write(command(1, connect={}))
            await client.more()
            return client

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def answered(clients: list[RawClient], request: bytes, mark: bytes) -> None:
    """Send a command from all at once; return when each has its reply, which ends with `mark`."""

    async def one(client: RawClient) -> None:
        client.transport.write(request)
        while mark not in client.tail:
            await client.more()

    await asyncio.gather(*(one(client) for client in clients))


async def recovery(count: int = 5_000, missed: int = 20) -> list[Row]:
    """All clients come back at one moment and have missed the same publications."""
    with node(settings=RECOVERABLE) as target:
        publish = {"channel": "room", "data": PAYLOAD}
        first = json.loads(api(target, "publish", publish))["result"]
        api(target, "batch", {"commands": [{"publish": publish}] * missed})
        clients = await connected(target.url, count)
        # Somebody is there already, as in a storm that comes in waves.
        await subscriber(target.url, "room")
        start, cpu, redis = time.monotonic(), usage(target.pid).cpu, usage(target.redis_pid).cpu
        await answered(
            clients,
            command(2, subscribe={"channel": "room", "recover": True, **first}),
            b'"offset":%d}]}}' % (missed + 1),
        )
        elapsed = time.monotonic() - start
        cpu, redis = usage(target.pid).cpu - cpu, usage(target.redis_pid).cpu - redis
        counted = metrics(target)
        assert counted["gateway_recoveries_done_total"] == count
    return [
        Row(f"{count:,} clients recover {missed} publications each at once: all done after", f"{elapsed:.2f} s"),
        Row("  CPU per client", f"{cpu / count * 1e6:.0f} us"),
        Row("  of Valkey", f"{redis / count * 1e6:.1f} us"),
    ]


async def presence(count: int = 10_000, reads: int = 10, idle: float = 5.0) -> list[Row]:
    """Subscribing with and without presence, reading it, and what it costs to stay."""
    costs = []
    for kept in ("false", "true"):
        with node(settings={"GATEWAY_CHANNELS__PRESENCE": kept}) as target:
            clients = await connected(target.url, count)
            cpu, redis = usage(target.pid).cpu, usage(target.redis_pid).cpu
            await answered(clients, command(2, subscribe={"channel": "room"}), b'"subscribe":{')
            if kept == "true":
                await answered(clients[:1], command(3, presence_stats={"channel": "room"}), b'"num_clients":%d' % count)
            costs.append((usage(target.pid).cpu - cpu, usage(target.redis_pid).cpu - redis))
            await asyncio.sleep(2)
            cpu, redis = usage(target.pid).cpu, usage(target.redis_pid).cpu
            await asyncio.sleep(idle)
            resting = (usage(target.pid).cpu - cpu) / idle, (usage(target.redis_pid).cpu - redis) / idle
            if kept == "true":
                cpu, redis = usage(target.pid).cpu, usage(target.redis_pid).cpu
                for _ in range(reads):
                    reply = json.loads(api(target, "presence", {"channel": "room"}))
                    assert len(reply["result"]["presence"]) == count
                read = (usage(target.pid).cpu - cpu) / reads, (usage(target.redis_pid).cpu - redis) / reads
    (plain, plain_redis), (with_presence, with_presence_redis) = costs
    joins = (with_presence - plain) / count * 1e6, (with_presence_redis - plain_redis) / count * 1e6
    return [
        Row(f"CPU that presence adds to a subscribe, at {count:,} members", f"{joins[0]:.1f} us"),
        Row("  of Valkey", f"{joins[1]:.1f} us"),
        Row(f"CPU to read {count:,} members over HTTP", f"{read[0] * 1e3:.1f} ms"),
        Row("  of Valkey", f"{read[1] * 1e3:.1f} ms"),
        Row(f"CPU of {count:,} members that stay, per second", f"{resting[0] * 1e3:.1f} ms"),
        Row("  of Valkey", f"{resting[1] * 1e3:.1f} ms"),
    ]


async def latest(subscribers: int = 1_000, rate: int = 100, keys: int = 10, seconds: int = 6) -> list[Row]:
    """Updates of some keys to many subscribers: each of them, or the newest of each key twice a second."""
    rows = []
    for delivery in ("live", "latest"):
        settings = {"GATEWAY_CHANNELS__DELIVERY": delivery, "GATEWAY_CHANNELS__LATEST_INTERVAL": "0.5"}
        with node(settings=settings) as target:
            readers = await many(target.url, "dash", subscribers)
            before, cpu, start = metrics(target), usage(target.pid).cpu, time.monotonic()
            loop = asyncio.get_running_loop()
            for number in range(rate * seconds):
                update = {"channel": "dash", "data": PAYLOAD, "tags": {"key": str(number % keys)}}
                await loop.run_in_executor(None, api, target, "publish", update)
                await asyncio.sleep(max(start + (number + 1) / rate - time.monotonic(), 0))
            used, elapsed = usage(target.pid).cpu - cpu, time.monotonic() - start
            delivered = metrics(target)["gateway_deliveries_total"] - before["gateway_deliveries_total"]
            assert all(reader.received for reader in readers)
            rows += [
                Row(f"CPU share, {rate} updates/s to {subscribers:,} subscribers, {delivery}", f"{used / elapsed:.1%}"),
                Row("  deliveries/s", f"{delivered / elapsed:,.0f}"),
            ]
    return rows


async def stopped_redis(seconds: float = 20.0, publishers: int = 20) -> list[Row]:
    """Valkey is stopped (SIGSTOP) while clients go on publishing: the node answers, and does not grow."""
    with node(settings=RECOVERABLE) as target:
        await many(target.url, "room", 100)
        senders = await connected(target.url, publishers)
        host, port = target.url.removeprefix("http://").split(":")
        longest, checks, rss = 0.0, 0, usage(target.pid).rss
        os.kill(target.redis_pid, signal.SIGSTOP)
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for sender in senders:
                    sender.transport.write(command(7, publish={"channel": "room", "data": PAYLOAD * 100}))
                began = time.monotonic()
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert b" 200 " in await reader.read()
                writer.close()
                longest, checks = max(longest, time.monotonic() - began), checks + 1
                await asyncio.sleep(0.02)
            grown = usage(target.pid).rss - rss
        finally:
            os.kill(target.redis_pid, signal.SIGCONT)
    return [
        Row(
            f"Valkey stopped for {seconds:.0f} s: slowest of {checks} health checks",
            f"{longest * 1e3:.1f} ms",
            "<= 100 ms",
        ),
        Row("  the node grew by", f"{grown / 2**20:.1f} MiB", "<= 16 MiB pending"),
    ]
