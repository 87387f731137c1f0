"""What is left of Socket.IO clients that connect, poll, upgrade and leave in random order, at two nodes: nothing."""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.transports.long_polling.polling_transport import PollingTransport
from gateway.transports.websocket.websocket_transport import WebSocketTransport
from tests.api.site import Site, settings_of
from tests.entrances.engine_client import POLLING
from tests.entrances.test_socketio import SETTINGS
from tests.entrances.two_nodes import directory_of, two_nodes

SCENARIOS = 300
AT_ONCE = 20
TASKS = frozenset(("EngineEndpoint._ask", "EngineUpgrade._run", "_left"))
# What clients send, and how often.
PACKETS = {
    "40": 9,
    "41": 2,
    "3": 2,
    "2": 1,
    "9": 1,
    "1": 1,
    "": 1,
    "40/admin,": 2,
    "40/a,": 2,
    '42["message",1]': 5,
    '421["join","chat:x"]': 5,
    "b!": 1,
    '451-["m",{"_placeholder":true,"num":0}]': 2,
    "bAQ==": 2,
}
MESSAGES = ("2probe", "5", "40", "3", "41", b"x", '42["message",1]')


class Wild:
    """One client, whose next step is as likely as any other."""

    def __init__(self, urls: list[str], clients: list[httpx.AsyncClient], number: int) -> None:
        self._random = random.Random(number)
        self._urls = urls
        self._clients = clients
        self._sid = ""
        self._websocket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        if self._random.random() < 0.9:
            answer = await self._http.get("/socket.io/", params=POLLING)
            self._sid = json.loads(answer.text[1:])["sid"]
        steps: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.poll,
            self.poll,
            self.leave_poll,
            self.post,
            self.post,
            self.post,
            self.open,
            self.open,
            self.say,
            self.say,
            self.upgrade,
            self.drop,
        ]
        for _ in range(self._random.randrange(1, 9)):
            await self._random.choice(steps)()
        for task in self._tasks:
            if self._random.random() < 0.5:
                task.cancel()
        await self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _http(self) -> httpx.AsyncClient:
        return self._random.choice(self._clients)

    async def poll(self) -> None:
        self._tasks.append(asyncio.create_task(self._poll(self._http, 20)))

    async def leave_poll(self) -> None:
        await self._poll(self._http, self._random.choice((0.001, 0.01, 0.05)))

    async def _poll(self, http: httpx.AsyncClient, seconds: float) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await http.get("/socket.io/", params={**POLLING, "sid": self._sid}, timeout=seconds)

    async def post(self) -> None:
        count = self._random.randrange(1, 4)
        content = "\x1e".join(self._random.choices(list(PACKETS), list(PACKETS.values()), k=count))
        sending = self._send(self._http, content)
        if self._random.random() < 0.5:
            await sending
        else:
            self._tasks.append(asyncio.create_task(sending))

    async def _send(self, http: httpx.AsyncClient, content: str) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await http.post("/socket.io/", params={**POLLING, "sid": self._sid}, content=content)

    async def open(self) -> None:
        await self.drop()
        suffix = f"&sid={self._sid}" if self._sid else ""
        url = f"ws://{self._random.choice(self._urls)}/socket.io/?EIO=4&transport=websocket{suffix}"
        self._websocket = await connect(url, proxy=None)

    async def say(self) -> None:
        if self._websocket is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._websocket.send(self._random.choice(MESSAGES))

    async def upgrade(self) -> None:
        """As clients do, but for what they wait for."""
        if self._websocket is None:
            await self.open()
        assert self._websocket is not None
        try:
            await self._websocket.send("2probe")
            if self._random.random() < 0.8:
                async with asyncio.timeout(1):
                    await self._websocket.recv()
            await self._websocket.send("5")
        except (ConnectionClosed, TimeoutError):
            pass

    async def drop(self) -> None:
        websocket, self._websocket = self._websocket, None
        if websocket is None:
            return
        if self._random.random() < 0.5:
            websocket.transport.abort()
        else:
            await websocket.close()


def left_of(site: Site) -> dict[str, int]:
    doors, services = site.gateway._doors, site.gateway._services
    connections = site.server.server_state.connections
    return {
        "directory": len(directory_of(site)._open),
        "unjoined": len(doors.unjoined),
        "opening": len(services.opening),
        "sessions": len(site.gateway.clients),
        "congested": len(doors._socketio.polling.polling_congested),
        "polling": sum(isinstance(each, PollingTransport) for each in connections),
        "websockets": sum(isinstance(each, WebSocketTransport) for each in connections),
        "clients": site.gateway.admission.clients,
        "places": site.gateway.admission.total,
        "unauthenticated": site.gateway.admission.unauthenticated,
        "addresses": len(site.gateway.admission._by_address),
        "inboxes": len(services.inboxes),
        "deadlines": sum(map(len, services.wheel._slots.values())),
        "tasks": sum(getattr(each.get_coro(), "__qualname__", "") in TASKS for each in asyncio.all_tasks()),
    }


@pytest.mark.parametrize("seed", [1])
def test_nothing_is_left(seed: int) -> None:
    """Abandoned connections end with their heartbeats."""
    heartbeat = {"ping_interval": 1, "pong_timeout": 0.5, "connect_timeout": 1}
    limits = {**SETTINGS["limits"], "connections_per_address": 10_000}
    settings = settings_of(**{**SETTINGS, "heartbeat": heartbeat, "limits": limits})
    with two_nodes(settings) as nodes:
        asyncio.run(_all_scenarios([each.public for each in nodes], seed * SCENARIOS))
        for site in nodes:
            left = _left_in_the_end(site)
            assert not any(left.values()), left
            assert site.metric("gateway_faults_total", part="drain") == 0


async def _all_scenarios(urls: list[str], first: int) -> None:
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=f"http://{urls[0]}", trust_env=False, timeout=20, limits=limits) as one,
        httpx.AsyncClient(base_url=f"http://{urls[1]}", trust_env=False, timeout=20, limits=limits) as other,
    ):
        numbers = iter(range(first, first + SCENARIOS))

        async def some() -> None:
            for number in numbers:
                await Wild(urls, [one, other], number).run()

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def _left_in_the_end(site: Site) -> dict[str, int]:
    """Once the heartbeats have had time to end what was abandoned."""

    async def wait() -> dict[str, int]:
        left = left_of(site)
        for _ in range(150):
            if not any(left.values()):
                break
            await asyncio.sleep(0.1)
            left = left_of(site)
        return left

    found: dict[str, int] = asyncio.run_coroutine_threadsafe(wait(), site.loop).result(60)
    return found
