"""examples/fastapi_chat on three worker processes, with unmodified SDK clients."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import centrifuge
import httpx
import pytest

from tests.python_sdk import disconnect
from tests.servers import free_port, valkey_server

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "fastapi_chat"
KEY = "the API key of this test with 32 bytes"
# Seconds within which what is expected has to happen.
PATIENCE = 30
CLIENTS = 12


@contextmanager
def chat() -> Iterator[str]:
    """HOST:PORT of the application, once it serves."""
    address = f"127.0.0.1:{free_port()}"
    with valkey_server() as server:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gateway", "serve", "--app", "app:app", "--workers", "3"),
                *("--redis-url", server.unix_url, "--listen", address, "--internal-listen", "127.0.0.1:0"),
            ],
            cwd=FOLDER,
            env={**os.environ, "GATEWAY_API__KEYS": KEY, "GATEWAY_DRAIN__WINDOW": "0", "GATEWAY_DRAIN__DELAY": "0"},
            start_new_session=True,
        )
        try:
            await_serving(f"http://{address}/realtime/health/ready", process)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()


def await_serving(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when three answers in a row say that a worker is ready."""
    ends, ready = time.monotonic() + PATIENCE, 0
    while ready < 3:
        assert process.poll() is None
        assert time.monotonic() < ends
        try:
            ready = ready + 1 if httpx.get(url, trust_env=False, timeout=1).status_code == 200 else 0
        except httpx.TransportError:
            ready = 0
        time.sleep(0.1)


class Watched(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]  # the package has no types
    """Keeps what happens to a subscription."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        await self.events.put("recovered" if ctx.recovered else "subscribed")

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        await self.events.put(ctx.pub.data)

    async def on_error(self, ctx: centrifuge.SubscriptionErrorContext) -> None:
        await self.events.put(ctx.code)

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        await self.events.put(ctx.code)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.events.get(), PATIENCE)


class Person:
    """A client who has logged in with the form of the application."""

    def __init__(self, address: str, name: str) -> None:
        headers = {}
        if name:
            with httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
                http.post("/login", data={"name": name}).raise_for_status()
                headers["Cookie"] = "; ".join(f"{key}={value}" for key, value in http.cookies.items())
        self.errors: asyncio.Queue[int] = asyncio.Queue()
        self.client = centrifuge.Client(
            f"ws://{address}/realtime/connection/websocket", headers=headers, events=self.events(), proxy=None
        )

    def events(self) -> Any:
        errors = self.errors

        class Events(centrifuge.ClientEventHandler):  # type: ignore[misc]
            async def on_error(self, ctx: centrifuge.ErrorContext) -> None:
                await errors.put(ctx.code)

            async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
                await errors.put(ctx.code)

        return Events()

    async def enter(self, room: str) -> Watched:
        """Subscribe, without waiting for it."""
        await self.client.connect()
        watched = Watched()
        await self.client.new_subscription(room, events=watched).subscribe()
        return watched


async def spread(address: str) -> None:
    """Return when the cluster says that more than one worker has clients; nodes report every few seconds."""
    async with httpx.AsyncClient(trust_env=False, headers={"X-API-Key": KEY}) as http, asyncio.timeout(PATIENCE):
        while True:
            answer = await http.post(f"http://{address}/realtime/api/info", json={})
            if sum(node["num_clients"] > 0 for node in answer.json()["result"]["nodes"]) > 1:
                return
            await asyncio.sleep(0.2)


async def everybody_hears(address: str) -> None:
    people = [Person(address, ("ann", "bob")[number % 2]) for number in range(CLIENTS)]
    rooms = [await person.enter("room:cats") for person in people]
    for room in rooms:
        assert await room.next() == "subscribed"
    await spread(address)
    await people[1].client.publish("room:cats", {"text": "hi"})
    for room in rooms:
        assert await room.next() == {"text": "hi"}
    # What is said while somebody is away is there when they come back, to whichever worker.
    await disconnect(people[0].client)
    for number in range(5):
        await people[1].client.publish("room:cats", number)
    await people[0].client.connect()
    assert await rooms[0].next() == "recovered"
    assert [await rooms[0].next() for _ in range(5)] == [0, 1, 2, 3, 4]
    for person in people:
        await disconnect(person.client)


async def others_stay_outside(address: str) -> None:
    ann, nobody = Person(address, "ann"), Person(address, "")
    dogs = await ann.enter("room:dogs")
    assert await dogs.next() == 103
    with pytest.raises(centrifuge.CentrifugeError):
        await ann.client.publish("room:dogs", "let me in")
    await nobody.client.connect()
    assert await asyncio.wait_for(nobody.errors.get(), PATIENCE) == 103
    for person in (ann, nobody):
        await disconnect(person.client)


def test_rooms_over_three_workers() -> None:
    """Members hear each other, whichever worker they are on, and miss nothing; nobody else gets in."""

    async def test(address: str) -> None:
        await everybody_hears(address)
        await others_stay_outside(address)

    with chat() as address:
        asyncio.run(test(address))
