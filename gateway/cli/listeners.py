"""The ports of several nodes on one machine."""

import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

from gateway.errors import ConfigError
from gateway.listeners import BACKLOG, AddressInUse, bind, refused

LAST_PORT = 65535


class SharedListener:
    """One TCP address for the nodes of a machine.

    On Linux every node gets a socket of its own, between which the kernel spreads the connections (SO_REUSEPORT).
    The port of a dead node's socket goes to the others. Elsewhere all nodes accept from one socket, since there
    SO_REUSEPORT gives every connection to the last node.
    """

    def __init__(self, host: str, port: int, *, reuse_port: bool = sys.platform == "linux") -> None:
        """Raises AddressInUse, ConfigError."""
        # Bound without SO_REUSEPORT, or it would join a port of another gateway of this user instead of failing.
        self._first = _listen(host, port)
        self._reuse_port = reuse_port
        self._host = host
        self._taken = False
        self.port = _port(self._first)
        if reuse_port:
            self._first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def socket(self) -> socket.socket:
        """A socket for one more node; the caller closes it."""
        if not self._reuse_port:
            return self._first.dup()
        if not self._taken:
            self._taken = True
            return self._first
        return _listen(self._host, self.port, share=True)

    def close(self) -> None:
        self._first.close()


def _listen(host: str, port: int, *, share: bool = False) -> socket.socket:
    """Raises AddressInUse, ConfigError."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    listener = bind(address, "listen", reuse_port=share)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        # Of two sockets that are bound to one address, the second that listens is refused.
        listener.close()
        raise refused(address, "listen", error) from error
    return listener


class Place(NamedTuple):
    """Where one node of a cluster listens: the shared port, its own, and its internal one on loopback."""

    port: int
    internal_port: int
    public: tuple[socket.socket, socket.socket]
    internal: socket.socket


class Block:
    """The ports of a cluster, all listened on from here.

    One is for all nodes, the next ones are for a node each, the first free ones after those for internal listeners.
    """

    def __init__(self, host: str, port: int, nodes: int) -> None:
        """Raises AddressInUse, ConfigError."""
        if port + 2 * nodes > LAST_PORT:
            raise ConfigError(f"{nodes} nodes from port {port} on need ports above {LAST_PORT}")
        self.port = port
        self.places: list[Place] = []
        with ExitStack() as unless_complete:
            shared = SharedListener(host, port)
            unless_complete.callback(shared.close)
            own = [unless_complete.enter_context(_listen(host, port + 1 + index)) for index in range(nodes)]
            internal = _listen_from(port + 1 + nodes)
            for listener in own:
                private = unless_complete.enter_context(next(internal))
                public = (unless_complete.enter_context(shared.socket()), listener)
                self.places.append(Place(_port(listener), _port(private), public, private))
            self._held = unless_complete.pop_all()

    def close(self) -> None:
        """Close the sockets of this process; those that nodes inherited stay open."""
        self._held.close()


def free_block(host: str, nodes: int, ports: Iterable[int]) -> Block:
    """The first block that is free, of those that start at the given ports. Raises AddressInUse, ConfigError."""
    for port in ports:
        with suppress(AddressInUse):
            return Block(host, port, nodes)
    raise AddressInUse(f"{host} has no {nodes + 1} free ports in a row where they were looked for")


def _listen_from(first: int) -> Iterator[socket.socket]:
    """Listen on the ports of loopback that are free, from the first on. Raises AddressInUse after the last."""
    for port in range(first, LAST_PORT + 1):
        with suppress(AddressInUse):
            yield _listen("127.0.0.1", port)
    raise AddressInUse(f"127.0.0.1 has too few free ports from {first} on")


def _port(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port
