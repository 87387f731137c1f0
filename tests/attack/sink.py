"""`python -m tests.attack.sink BYTES_PER_SECOND`: takes what attackers send and throws it away. Prints its port.

It answers a handshake with 101 and a request with 401, so that an attacker goes on as it does against a node. Its pace
is that of the node it stands for: at full speed it would cost the machine more than the attack does.
"""

import asyncio
import sys
from functools import partial
from typing import cast

import uvloop

_UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
_REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"
_REQUEST = b"POST /"


class Pace:
    """Bytes per second of all connections together."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    def delay(self, size: int) -> float:
        """Seconds after which so many bytes are taken."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self._rate
        return self._free_at - now


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._head = b""
        self._upgraded = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(self._pace.delay(len(data)), self._take, data)

    def _take(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._upgraded:
            return
        self._head += data
        if self._head.startswith(b"GET "):
            if b"\r\n\r\n" in self._head:
                self._upgraded = True
                self._transport.write(_UPGRADED)
        else:
            self._transport.write(_REFUSED * self._head.count(_REQUEST))
            self._head = self._head[1 - len(_REQUEST) :]


async def main(rate: float) -> None:
    server = await asyncio.get_running_loop().create_server(partial(Sink, Pace(rate)), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1])))
