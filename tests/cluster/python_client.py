"""The unmodified PyPI SDK as a process; speaks on stdin and stdout as tests/sdk/client.mjs does.

usage: python -m tests.cluster.python_client URL TOKEN [json | protobuf] [refresh]
"""

import asyncio
import json
import sys
from typing import Any

import centrifuge


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Payloads:
    """Values as payloads of the SDK: itself in JSON, bytes in Protobuf. Bytes that are not JSON are hexadecimal."""

    def __init__(self, *, is_protobuf: bool) -> None:
        self._is_protobuf = is_protobuf

    def encoded(self, value: Any) -> Any:
        return json.dumps(value).encode() if self._is_protobuf else value

    def decoded(self, data: Any) -> Any:
        if not self._is_protobuf or data is None:
            return data
        try:
            return json.loads(data)
        except ValueError:
            return {"hex": data.hex()}


class ClientEvents(centrifuge.ClientEventHandler):  # type: ignore[misc]  # the package has no types
    async def on_connected(self, ctx: centrifuge.ConnectedContext) -> None:
        say("connected", id=ctx.client)

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        say("connecting", code=ctx.code, reason=ctx.reason)

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        say("disconnected", code=ctx.code, reason=ctx.reason)


class SubscriptionEvents(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]
    def __init__(self, channel: str, payloads: Payloads) -> None:
        self.channel = channel
        self.payloads = payloads

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        say("subscribed", channel=self.channel, recovering=ctx.was_recovering, recovered=ctx.recovered)

    async def on_subscribing(self, ctx: centrifuge.SubscribingContext) -> None:
        say("subscribing", channel=self.channel, code=ctx.code, reason=ctx.reason)

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        say("unsubscribed", channel=self.channel, code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        say("publication", channel=self.channel, data=self.payloads.decoded(ctx.pub.data), tags=ctx.pub.tags or None)


async def answer(client: centrifuge.Client, payloads: Payloads, message: dict[str, Any]) -> None:
    """Ask the gateway, and say what it answered."""
    match message:
        case {"publish": channel, "data": data}:
            await client.publish(channel, payloads.encoded(data))
            say("published", channel=channel, data=data)
        case {"rpc": method, "data": data}:
            result = await client.rpc(method, payloads.encoded(data))
            say("rpc", data=payloads.decoded(result.data))
        case {"presence": channel}:
            found = (await client.presence(channel)).clients.values()
            stats = await client.presence_stats(channel)
            info = [{"user": each.user, "info": payloads.decoded(each.conn_info)} for each in found]
            say("presence", clients=info, count=stats.num_clients)
        case {"history": channel}:
            page = await client.history(channel, limit=100)
            say("history", data=[payloads.decoded(each.data) for each in page.publications], offset=int(page.offset))


async def main(url: str, token: str, *options: str) -> None:
    is_protobuf = "protobuf" in options
    payloads = Payloads(is_protobuf=is_protobuf)
    tokens: asyncio.Queue[str] = asyncio.Queue()

    async def get_token() -> str:
        say("token")
        return await tokens.get()

    client = centrifuge.Client(
        url,
        token=token,
        get_token=get_token if "refresh" in options else None,
        events=ClientEvents(),
        use_protobuf=is_protobuf,
        min_reconnect_delay=0.05,
        max_reconnect_delay=0.5,
    )
    await client.connect()
    loop = asyncio.get_running_loop()
    positions: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def state(channel: str) -> centrifuge.StreamPosition:
        say("state", channel=channel)
        return centrifuge.StreamPosition(**await positions.get())

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        message = json.loads(line)
        match message:
            case {"subscribe": channel}:
                events = SubscriptionEvents(channel, payloads)
                delta = centrifuge.DeltaType.FOSSIL if message.get("delta") else None
                asked = state if message.get("state") else None
                await client.new_subscription(channel, events=events, delta=delta, get_state=asked).subscribe()
            case {"position": position}:
                await positions.put(position)
            case {"token": fresh}:
                await tokens.put(fresh)
            case {"close": True}:
                break
            case _:
                try:
                    await answer(client, payloads, message)
                except centrifuge.ReplyError as error:
                    say("error", code=error.code, message=error.message)
                except centrifuge.CentrifugeError as error:
                    say("error", message=str(error))
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
