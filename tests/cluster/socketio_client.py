"""The asyncio client of python-socketio as a process; speaks on stdin and stdout as tests/sdk/socketio.mjs does.

usage: python -m tests.cluster.socketio_client URL TOKEN [polling | websocket]

Those who are refused stay away.
"""

import asyncio
import base64
import json
import sys
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import socketio


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def decoded(data: Any) -> Any:
    return {"base64": base64.b64encode(data).decode()} if isinstance(data, bytes) else data


def encoded(data: Any) -> Any:
    match data:
        case {"base64": str(text)}:
            return base64.b64decode(text)
    return data


def acknowledged(name: str, answer: Any) -> None:
    say("acknowledged", name=name, answer=answer)


async def main(url: str, token: str, *transports: str) -> None:
    # The package wants them apart.
    parts = urlsplit(url)
    namespace = parts.path or "/"
    client = socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.5)

    def on_event(name: str, *data: Any) -> None:
        say("publication", name=name, data=decoded(data[0]), count=len(data))

    client.on("connect", lambda: say("connected", transport=client.transport()), namespace)
    client.on("connect_error", lambda data: say("refused", **data), namespace)
    client.on("disconnect", lambda reason: say("disconnected", reason=reason), namespace)
    client.on("*", on_event, namespace)
    with suppress(socketio.exceptions.ConnectionError):
        await client.connect(
            f"{parts.scheme}://{parts.netloc}",
            auth={"token": token},
            transports=transports or None,
            namespaces=[namespace],
        )
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        match json.loads(line):
            case {"emit": name, "data": data}:
                await client.emit(name, encoded(data), namespace, partial(acknowledged, name))
            case {"close": True}:
                break
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
