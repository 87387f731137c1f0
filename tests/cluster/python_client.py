"""The unmodified PyPI SDK as a process; speaks on stdin and stdout as tests/sdk/client.mjs does.

usage: python -m tests.cluster.python_client URL TOKEN
"""

import asyncio
import json
import sys
from typing import Any

import centrifuge


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class ClientEvents(centrifuge.ClientEventHandler):  # type: ignore[misc]  # the package has no types
    async def on_connected(self, ctx: centrifuge.ConnectedContext) -> None:
        say("connected", id=ctx.client)

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        say("connecting", code=ctx.code, reason=ctx.reason)

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        say("disconnected", code=ctx.code, reason=ctx.reason)


class SubscriptionEvents(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]
    def __init__(self, channel: str) -> None:
        self.channel = channel

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        say("subscribed", channel=self.channel, recovering=ctx.was_recovering, recovered=ctx.recovered)

    async def on_subscribing(self, ctx: centrifuge.SubscribingContext) -> None:
        say("subscribing", channel=self.channel, code=ctx.code, reason=ctx.reason)

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        say("unsubscribed", channel=self.channel, code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        say("publication", channel=self.channel, data=ctx.pub.data, tags=ctx.pub.tags or None)


async def main(url: str, token: str) -> None:
    client = centrifuge.Client(
        url, token=token, events=ClientEvents(), min_reconnect_delay=0.05, max_reconnect_delay=0.5
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
            case {"subscribe": channel, "state": True}:
                subscription = client.new_subscription(channel, events=SubscriptionEvents(channel), get_state=state)
                await subscription.subscribe()
            case {"position": position}:
                await positions.put(position)
            case {"subscribe": channel}:
                delta = centrifuge.DeltaType.FOSSIL if message.get("delta") else None
                await client.new_subscription(channel, events=SubscriptionEvents(channel), delta=delta).subscribe()
            case {"publish": channel, "data": data}:
                try:
                    await client.publish(channel, data)
                    say("published", channel=channel, data=data)
                except centrifuge.CentrifugeError as error:
                    say("error", channel=channel, message=str(error))
            case {"close": True}:
                break
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
