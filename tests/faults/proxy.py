"""The network between a node and its Redis, failing on demand."""

import asyncio
import socket
from collections import deque
from typing import cast

# Bytes that the system may keep of a connection: it would swallow tens of megabytes for somebody who does not read.
BUFFER = 128 * 1024


class Proxy:
    """Forwards TCP connections to a server on the loopback, and does harm when it is told to.

    One in front of each node, so that the links of a single node can fail.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        # Seconds by which everything comes late.
        self.delay = 0.0
        # Whether new connections are broken at once.
        self.refusing = False
        # Whether nothing gets to the server, or from it. Kept and not thrown away: TCP repeats what was not confirmed,
        # so that all of it arrives late once packets pass again, also from a sender that has given up.
        self.to_server_held = False
        self.from_server_held = False
        self.pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pair(self).near, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection."""
        for pair in list(self.pairs):
            pair.abort()

    def truncate(self) -> None:
        """Let half of the next piece from the server pass on each connection, then break it."""
        for pair in self.pairs:
            pair.far.truncating = True

    def hold(self, *, to_server: bool, from_server: bool) -> None:
        """Swallow packets; connections stay."""
        self.to_server_held = to_server
        self.from_server_held = from_server
        for pair in self.pairs:
            pair.steer()

    def lead(self, target: int) -> None:
        """To another server from now on; its connections are made anew."""
        self.target = target
        self.cut()

    def heal(self) -> None:
        """No harm any more."""
        self.delay = 0.0
        self.refusing = False
        for pair in self.pairs:
            pair.far.truncating = False
        self.hold(to_server=False, from_server=False)


class _Pair:
    """A connection of the node (near) and the one to the server (far)."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.near = _End(self)
        self.far = _End(self)
        self.near.peer, self.far.peer = self.far, self.near
        self._connecting: asyncio.Task[None] | None = None

    def opened(self) -> None:
        """The node has connected."""
        self.proxy.pairs.add(self)
        if self.proxy.refusing:
            self.abort()
            return
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self.far, "127.0.0.1", self.proxy.target)
        except OSError:
            self.abort()
        else:
            self.steer()

    def steer(self) -> None:
        """Read where what is read may pass on."""
        both = self.near.transport is not None and self.far.transport is not None
        self.near.read(both and not self.proxy.to_server_held)
        self.far.read(both and not self.proxy.from_server_held)

    def abort(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        self.proxy.pairs.discard(self)
        for end in (self.near, self.far):
            if end.transport is not None:
                end.transport.abort()


class _End(asyncio.Protocol):
    """One of the two connections; what it reads is written to its peer."""

    peer: "_End"

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self.transport: asyncio.Transport | None = None
        self.truncating = False
        self._full = False
        # What came before the peer was there.
        self._early: list[bytes] = []
        self._late: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        if self is self._pair.near:
            self._pair.opened()

    def read(self, wanted: bool) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        wanted = wanted and not self.peer._full
        while wanted and self._early:
            self._pass(self._early.pop(0))
        if wanted and not transport.is_reading():
            transport.resume_reading()
        elif not wanted and transport.is_reading():
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self.peer.transport is None or self._early:
            self._early.append(data)
        else:
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        if self.truncating:
            self._write(data[: len(data) // 2])
            self._end()
        elif self._late or self._pair.proxy.delay:
            loop = asyncio.get_running_loop()
            self._late.append((loop.time() + self._pair.proxy.delay, data))
            if self._timer is None:
                self._timer = loop.call_at(self._late[0][0], self._send_late)
        else:
            self._write(data)

    def pause_writing(self) -> None:
        self._full = True
        self._pair.steer()

    def resume_writing(self) -> None:
        self._full = False
        self._pair.steer()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._late:
            self._end()

    def _send_late(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._late and (self._late[0][0] <= now or not self._pair.proxy.delay):
            self._write(self._late.popleft()[1])
        if self._late:
            self._timer = asyncio.get_running_loop().call_at(self._late[0][0], self._send_late)
        elif self.transport is None or self.transport.is_closing():
            self._end()

    def _write(self, data: bytes) -> None:
        if self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.write(data)

    def _end(self) -> None:
        """Close both; what was written to the peer still arrives."""
        self._pair.proxy.pairs.discard(self._pair)
        for end in (self, self.peer):
            if end.transport is not None:
                end.transport.close()
