"""A server of the protocol `centrifuge` that does not keep what it says, in one way or another."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

# Seconds until a late publication comes.
LATE = 0.5


class Site:
    """The server's clients by channel; how it lies is up to those that inherit."""

    def __init__(self) -> None:
        self.subscribers: dict[str, list[Client]] = {}
        self.numbers: dict[str, int] = {}
        # How often each channel was subscribed to.
        self.subscribed: dict[str, int] = {}

    def opened(self, client: "Client") -> None:
        """It has connected."""

    def subscribe(self, client: "Client", channel: str) -> None:
        self.subscribed[channel] = self.subscribed.get(channel, 0) + 1
        self.subscribers.setdefault(channel, []).append(client)

    def publish(self, client: "Client", number: int, channel: str, data: str) -> None:
        """Honest: deliver to all, and say so."""
        self.deliver(channel, data)
        client.say({"id": number, "publish": {}})

    def deliver(self, channel: str, data: str, name: str = "") -> None:
        for each in self.subscribers.get(channel, ()):
            each.push(name or channel, data)


class Client(WSListener):
    """One connection."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for members in self._site.subscribers.values():
            if self in members:
                members.remove(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        for line in frame.get_payload_as_bytes().split(b"\n"):
            self._command(json.loads(line))

    def say(self, message: dict[str, Any]) -> None:
        self.transport.send(WSMsgType.TEXT, json.dumps(message, separators=(",", ":")).encode())

    def push(self, channel: str, data: str) -> None:
        self.say({"push": {"channel": channel, "pub": {"data": data}}})

    def refuse(self, number: int, text: str = "internal") -> None:
        self.say({"id": number, "error": {"code": 100, "message": text}})

    def end(self, channel: str) -> None:
        self.say({"push": {"channel": channel, "unsubscribe": {"code": 2500, "reason": "insufficient state"}}})

    def close(self, code: int) -> None:
        # Codes above 4000 are for applications (RFC 6455, section 7.4.2); the enum has none of them.
        self.transport.send_close(code)  # type: ignore[arg-type]
        self.transport.disconnect()

    def _command(self, command: dict[str, Any]) -> None:
        number = command.get("id", 0)
        if "connect" in command:
            self.say({"id": number, "connect": {"client": "c"}})
            self._site.opened(self)
        elif "subscribe" in command:
            channel = command["subscribe"]["channel"]
            self._site.subscribe(self, channel)
            self.say({"id": number, "subscribe": {}})
        elif "publish" in command:
            publish = command["publish"]
            self._site.publish(self, number, publish["channel"], publish["data"])


@contextmanager
def serving(site: Site) -> Iterator[str]:
    """Its URL; in a thread of its own."""
    loop = asyncio.new_event_loop()

    def accept(request: WSUpgradeRequest) -> WSListener:
        return Client(site)

    async def start() -> asyncio.Server:
        return await ws_create_server(accept, "127.0.0.1", 0)

    async def stop(server: asyncio.Server) -> None:
        server.close()
        for members in list(site.subscribers.values()):
            for each in list(members):
                each.transport.disconnect()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
