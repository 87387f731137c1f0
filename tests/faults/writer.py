"""Publishes what a fault wants to have published, and asks where streams end."""

import asyncio

import msgspec

from tests.faults.checker import Checker
from tests.faults.processes import ProcessError
from tests.faults.publishers import Answer, payload
from tests.faults.verdicts import Top
from tests.faults.wire import HttpConnection, WireError

SECONDS = 5.0
PATIENCE = 20.0
PAUSE = 0.1

_decode = msgspec.json.Decoder(Answer).decode


class Writer:
    """Over HTTP, one request after the other, through the node that is named."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._loop = asyncio.get_running_loop()
        self._connections: dict[int, HttpConnection] = {}
        # Why there was no answer, the last time.
        self._trouble = ""

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    async def publish(self, port: int, channel: str, size: int = 100) -> bool:
        """Once. Returns whether it was acknowledged; otherwise its outcome is unknown."""
        id = self._checker.attempt(channel, self._loop.time(), size)
        answer = await self._ask(port, "publish", b'{"channel":"%b","data":%b}' % (channel.encode(), payload(id, size)))
        if answer is None or answer.result is None:
            return False
        self._checker.acknowledge(id, self._loop.time(), Top(answer.result.epoch, answer.result.offset))
        return True

    async def top(self, port: int, channel: str) -> Top:
        """Raises ProcessError when there is no answer for too long."""
        answer = None
        deadline = self._loop.time() + PATIENCE
        while self._loop.time() < deadline:
            answer = await self._ask(port, "history", b'{"channel":"%b","limit":0}' % channel.encode())
            if answer is not None and answer.result is not None:
                return Top(answer.result.epoch, answer.result.offset)
            await asyncio.sleep(PAUSE)
        raise ProcessError(f"port {port} does not tell the top of {channel}: {answer or self._trouble}")

    async def _ask(self, port: int, method: str, body: bytes) -> Answer | None:
        try:
            connection = self._connections.get(port)
            if connection is None or connection.closed:
                connection = self._connections[port] = await HttpConnection.connect(port)
            _, text = await connection.ask("POST", f"/api/{method}", body, SECONDS)
        except WireError as error:
            self._trouble = str(error) or repr(error)
            return None
        return _decode(text)
