"""A thermometer: publishes over a plain WebSocket, takes orders over the same one, and comes back after any cut.

It needs a WebSocket client and JSON, nothing of the gateway: `python thermometer.py NAME TOKEN [URL]`.
"""

import asyncio
import json
import random
import sys

from websockets.asyncio.client import ClientConnection, connect


async def measure(socket: ClientConnection, name: str, pace: list[float]) -> None:
    while True:
        reading = {"device": name, "celsius": round(random.gauss(21, 0.5), 1)}
        await socket.send(json.dumps(reading))
        await asyncio.sleep(pace[0])


async def main(name: str, token: str, url: str = "ws://127.0.0.1:8000") -> None:
    pace = [1.0]
    # Begins again after each cut, with a growing pause.
    async for socket in connect(f"{url}/ws/device:{name}", additional_headers={"Authorization": f"Bearer {token}"}):
        measuring = asyncio.create_task(measure(socket, name, pace))
        try:
            async for message in socket:
                # Its own readings come back, too: the channel is for all who watch it.
                if seconds := json.loads(message).get("every"):
                    pace[0] = float(seconds)
        finally:
            measuring.cancel()


asyncio.run(main(*sys.argv[1:]))
