"""Listening sockets, bound before a node starts, so that a taken address is told at once."""

import errno
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice

from gateway.errors import GatewayError

BACKLOG = 2048
LAST_PORT = 65535


class AddressInUse(GatewayError):
    """Another process holds the address."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that shares its port with nobody. Raises AddressInUse, GatewayError."""
    return _bound(host, port, share=False)


class SharedListener:
    """One TCP address for the nodes of a machine.

    On Linux every node gets a socket of its own, between which the kernel spreads the connections (SO_REUSEPORT).
    The port of a dead node's socket goes to the others. Elsewhere all nodes accept from one socket, since there
    SO_REUSEPORT gives every connection to the last node.
    """

    def __init__(self, host: str, port: int, *, reuse_port: bool = sys.platform == "linux") -> None:
        """Raises AddressInUse, GatewayError."""
        # Bound without SO_REUSEPORT, or it would join a port of another gateway of this user instead of failing.
        self._first = listen(host, port)
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
        return _bound(self._host, self.port, share=True)

    def close(self) -> None:
        self._first.close()


def _bound(host: str, port: int, *, share: bool) -> socket.socket:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        # A name may stand for several addresses (localhost); the system's first choice counts.
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as unless_bound:
            listener = unless_bound.enter_context(socket.socket(family, kind, protocol))
            _prepare(listener, share=share)
            listener.bind(address)
            listener.listen(BACKLOG)
            unless_bound.pop_all()
            return listener
    except socket.gaierror as error:
        raise GatewayError(f"{shown} cannot be listened on: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(f"{shown} is in use by another process") from error
        raise GatewayError(f"{shown} cannot be listened on: {error.strerror}") from error


def _prepare(listener: socket.socket, *, share: bool) -> None:
    # Old connections in TIME_WAIT do not block a restart.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


class Block:
    """The ports of a cluster, all listened on from here: one for all nodes, and the next ones for a node each.

    `internal` are the first free ports after them; nobody holds these.
    """

    def __init__(self, host: str, port: int, nodes: int) -> None:
        """Raises AddressInUse, GatewayError."""
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
                private = unless_complete.enter_context(listen(host, own))
                self.sockets.append((unless_complete.enter_context(shared.socket()), private))
            self.internal = list(islice(_free_ports(self.own.stop), nodes))
            self._held = unless_complete.pop_all()

    def close(self) -> None:
        """Close the sockets of this process; those that nodes inherited stay open."""
        self._held.close()


def free_block(host: str, nodes: int, ports: Iterable[int]) -> Block:
    """The first block that is free, of those that start at the given ports. Raises AddressInUse, GatewayError."""
    for port in ports:
        with suppress(AddressInUse):
            return Block(host, port, nodes)
    raise AddressInUse(f"{host} has no {nodes + 1} free ports in a row where they were looked for")


def _free_ports(first: int) -> Iterator[int]:
    for port in range(first, LAST_PORT + 1):
        with suppress(AddressInUse):
            listen("127.0.0.1", port).close()
            yield port
