"""What the others notice: well-behaved clients whose times are fixed beforehand (open model)."""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self

from tests.attack.attacker import Address
from tests.attack.client import Client

RATE = 20.0
# Seconds after which nothing is waited for any more.
PATIENCE = 5.0
_USER = "alice"
_CHANNEL = "probe"


class Probe(ABC):
    """Does something `RATE` times a second, and says how long after the time it was due each was done."""

    def __init__(self, address: Address) -> None:
        self.address = address

    async def __aenter__(self) -> Self:
        """Before the attack."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """After it."""
        return

    async def run(self, seconds: float) -> list[float]:
        """Seconds of each time, infinity where it was not done."""
        start = time.monotonic()
        tasks = []
        for number in range(int(seconds * RATE)):
            due = start + number / RATE
            await asyncio.sleep(due - time.monotonic())
            tasks.append(asyncio.create_task(self._once(number, due)))
        return list(await asyncio.gather(*tasks))

    async def _once(self, number: int, due: float) -> float:
        with suppress(OSError):
            async with asyncio.timeout(PATIENCE):
                await self.do(number)
                return time.monotonic() - due
        return math.inf

    @abstractmethod
    async def do(self, number: int) -> None:
        """Raises OSError when it is not possible."""


class Publications(Probe):
    """Publishes to a channel, and gets its own publication."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._client: Client
        self._reader: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._client = await Client.connect(self.address, _USER)
        await self._client.ask(subscribe={"channel": _CHANNEL})
        self._reader = asyncio.create_task(self._read())
        return self

    async def do(self, number: int) -> None:
        if self._reader.done():
            raise ConnectionError("closed")
        arrived = self._waiting[number] = asyncio.get_running_loop().create_future()
        # 1 is the command that subscribed.
        self._client.send(number + 2, publish={"channel": _CHANNEL, "data": number})
        await arrived

    async def __aexit__(self, *exc: object) -> None:
        self._reader.cancel()
        self._client.close()

    async def _read(self) -> None:
        with suppress(OSError):
            while True:
                for line in await self._client.receive():
                    if "push" in line and "pub" in line["push"]:
                        arrived = self._waiting.pop(line["push"]["pub"]["data"])
                        if not arrived.done():
                            arrived.set_result(None)


class Connects(Probe):
    """Comes from another address than the attacker, authenticates and leaves, each time anew."""

    source = "127.0.0.2"

    async def do(self, number: int) -> None:
        (await Client.connect(self.address, _USER, self.source)).close()
