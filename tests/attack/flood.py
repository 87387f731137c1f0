"""Connections that send without end."""

import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.attack.attacker import WEBSOCKET_PATH, Address, Tally
from tests.transports.raw import RawClient

_READ = 256 * 1024
# Seconds between attempts to open a connection that was refused.
_RETRY = 0.01


class Piece(NamedTuple):
    """One write, and how many messages are in it."""

    data: bytes
    messages: int


class Line:
    """A connection that writes pieces as fast as they are taken, and begins anew when it is closed."""

    def __init__(
        self,
        opening: Callable[[], socket.socket],
        pieces: Iterator[Piece],
        tally: Tally,
        *,
        reads: bool = True,
    ) -> None:
        """`reads`: whether it hears the server, closes included."""
        self.events = selectors.EVENT_WRITE | (selectors.EVENT_READ if reads else 0)
        self.socket: socket.socket
        self._opening = opening
        self._pieces = pieces
        self._tally = tally
        self._piece = Piece(b"", 0)
        self._rest = memoryview(b"")

    def open(self) -> bool:
        """Whether there is a connection now."""
        try:
            self.socket = self._opening()
        except OSError:
            self._tally.refused += 1
            time.sleep(_RETRY)
            return False
        self.socket.setblocking(False)
        self._tally.connections += 1
        self._rest = memoryview(b"")
        return True

    def step(self, events: int) -> bool:
        """Read and write what is possible; False when the connection is over."""
        try:
            if events & selectors.EVENT_READ and not self.socket.recv(_READ):
                return False
            if events & selectors.EVENT_WRITE:
                self._write()
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _write(self) -> None:
        if not self._rest:
            self._piece = next(self._pieces)
            self._rest = memoryview(self._piece.data)
        sent = self.socket.send(self._rest)
        self._tally.bytes += sent
        self._rest = self._rest[sent:]
        if not self._rest:
            self._tally.messages += self._piece.messages


def flood(lines: Sequence[Line], deadline: float) -> None:
    """Drive these lines until the deadline."""
    with selectors.DefaultSelector() as selector:
        for line in lines:
            _register(selector, line, deadline)
        while (left := deadline - time.monotonic()) > 0:
            for key, events in selector.select(left):
                line = key.data
                if not line.step(events):
                    selector.unregister(line.socket)
                    line.socket.close()
                    _register(selector, line, deadline)
        for key in list(selector.get_map().values()):
            key.data.socket.close()


def _register(selector: selectors.BaseSelector, line: Line, deadline: float) -> None:
    while time.monotonic() < deadline:
        if line.open():
            selector.register(line.socket, line.events, line)
            return


def websocket(address: Address, first: bytes) -> socket.socket:
    """A WebSocket on which `first` is sent. Raises OSError."""
    client = RawClient(address)
    try:
        if b" 101 " not in client.upgrade(WEBSOCKET_PATH):
            raise ConnectionRefusedError("no upgrade")
        client.send(first)
    except OSError:
        client.socket.close()
        raise
    return client.socket
