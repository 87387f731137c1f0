"""The ports of several nodes on one machine."""

import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice

from gateway.errors import GatewayError
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
        self.port: int = self._first.getsockname()[1]
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


class Block:
    """The ports of a cluster, all listened on from here: one for all nodes, and the next ones for a node each.

    `internal` are the first free ports after them; nobody holds these.
    """

    def __init__(self, host: str, port: int, nodes: int) -> None:
        """Raises AddressInUse, ConfigError."""
        if port + 2 * nodes > LAST_PORT:
            raise GatewayError(f"{nodes} nodes from port {port} on need ports above {LAST_PORT}")
        with ExitStack() as unless_complete:
            shared = SharedListener(host, port)
            unless_complete.callback(shared.close)
            self.port = shared.port
            self.own = range(self.port + 1, self.port + 1 + nodes)
            # What each node listens on.
            self.sockets: list[tuple[socket.socket, socket.socket]] = []
            for own in self.own:
                private = unless_complete.enter_context(_listen(host, own))
                self.sockets.append((unless_complete.enter_context(shared.socket()), private))
            self.internal = list(islice(_free_ports(self.own.stop), nodes))
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


def _free_ports(first: int) -> Iterator[int]:
    for port in range(first, LAST_PORT + 1):
        with suppress(AddressInUse):
            _listen("127.0.0.1", port).close()
            yield port
