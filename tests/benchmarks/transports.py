"""What a delivery costs over each transport, beside the native WebSocket."""

import json
from collections.abc import Awaitable, Callable, Mapping

from tests.benchmarks.measures import PAYLOAD, Row, fan_out, median
from tests.benchmarks.processes import node
from tests.benchmarks.raw import RawClient, command, many, masked, open_client, open_stream

MARK = PAYLOAD.encode() + b'"'


def _commands(channel: str) -> bytes:
    commands = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel}}]
    return "\n".join(map(json.dumps, commands)).encode()


async def _emulated(url: str, kind: str) -> RawClient:
    client = await open_stream(url, f"/connection/{kind}", _commands(kind))
    while b'"subscribe":{' not in client.tail:
        await client.more()
    return client


async def _events(url: str, channel: str) -> RawClient:
    client = await open_stream(url, f"/sse/{channel}")
    while b": subscribed" not in client.tail:
        await client.more()
    return client


async def _socketio(url: str, channel: str) -> RawClient:
    client = await open_client(url, "/socket.io/?EIO=4&transport=websocket")
    client.transport.write(masked(b"40") + masked(b'421["join","%b"]' % channel.encode()))
    while b"431[" not in client.tail:
        await client.more()
    return client


# By the name of the transport: the channel, and how one client is opened.
OTHERS: Mapping[str, tuple[str, Callable[[str, str], Awaitable[RawClient]]]] = {
    "/connection/http_stream": ("http_stream", _emulated),
    "/connection/sse": ("sse", _emulated),
    "/sse/{channel}": ("events", _events),
    "/socket.io/ over WebSocket": ("socketio", _socketio),
}


async def transports(subscribers: int = 300, messages: int = 100, rounds: int = 5) -> list[Row]:
    """CPU per delivery of one message at a time, each transport in a channel of its own; rounds in turn, medians."""
    # Nobody here answers pings in requests of their own.
    with node(settings={"GATEWAY_HEARTBEAT__PING_INTERVAL": "600"}) as target:
        publisher = await open_client(target.url)
        publisher.transport.write(command(1, connect={}))
        await publisher.more()
        groups = {"websocket": ("websocket", await many(target.url, "websocket", subscribers))}
        for name, (channel, opened) in OTHERS.items():
            groups[name] = channel, [await opened(target.url, channel) for _ in range(subscribers)]
        for _, readers in groups.values():
            for reader in readers:
                reader.marker, reader.received = MARK, 0
        costs: dict[str, list[float]] = {name: [] for name in groups}
        for _ in range(rounds):
            for name, (channel, readers) in groups.items():
                costs[name].append(await fan_out(publisher, readers, target.pid, 1, messages, channel))
    rows = [Row(f"CPU per delivery to {subscribers} subscribers, WebSocket", f"{median(costs['websocket']):.2f} us")]
    for name in OTHERS:
        ratios = [mine / theirs for mine, theirs in zip(costs[name], costs["websocket"], strict=True)]
        rows.append(Row(f"  {name}, of that, pair by pair", f"{median(ratios):.2f}", "<= 1.25"))
    return rows
