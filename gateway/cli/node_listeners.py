"""The ports of several nodes on one machine."""

import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from gateway import listeners
from gateway.config.hosts import HIGHEST_PORT
from gateway.config.listen_addresses import joined
from gateway.errors import ConfigError
from gateway.listeners import BACKLOG, AddressInUse, Bound


class SharedListener:
    """TCP addresses for the nodes of a machine.

    On Linux every node gets sockets of its own, and the kernel spreads the connections over them (SO_REUSEPORT). When a
    node dies, the others get its share. On other systems SO_REUSEPORT gives every connection to the last node, so there
    all nodes accept from one socket.
    """

    def __init__(self, addresses: Sequence[str], *, reuse_port: bool = sys.platform == "linux") -> None:
        """Raises AddressInUse, ConfigError."""
        # Bound without SO_REUSEPORT, or they would join a port of another gateway of this user instead of failing.
        self._first = _listen(addresses)
        self._bound = [Bound.of(each) for each in self._first]
        self._reuse_port = reuse_port
        self._taken = False
        # Of the first address.
        self.port = _port(self._first[0])
        if reuse_port:
            for each in self._first:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def sockets(self) -> list[socket.socket]:
        """A socket on each address for one more node; the caller closes them. Raises AddressInUse, ConfigError."""
        if not self._reuse_port:
            return [each.dup() for each in self._first]
        if not self._taken:
            self._taken = True
            return self._first
        with ExitStack() as unless_all:
            more = [unless_all.enter_context(_again(each)) for each in self._bound]
            unless_all.pop_all()
        return more

    def close(self) -> None:
        for each in self._first:
            each.close()


def _again(first: Bound) -> socket.socket:
    try:
        with ExitStack() as unless_listening:
            more = unless_listening.enter_context(first.again())
            more.listen(BACKLOG)
            unless_listening.pop_all()
    except OSError as error:
        raise listeners.refused(joined(*first.address[:2]), "listen", error) from error
    return more


def _listen(addresses: Sequence[str]) -> list[socket.socket]:
    """Raises AddressInUse, ConfigError."""
    bound = listeners.bind(addresses, "listen")
    with ExitStack() as unless_all:
        for each in bound:
            unless_all.enter_context(each)
        for each in bound:
            try:
                each.listen(BACKLOG)
            except OSError as error:
                # Of two sockets that are bound to one address, the second that listens is refused.
                raise listeners.refused(listeners.name(each), "listen", error) from error
        unless_all.pop_all()
    return bound


class Place(NamedTuple):
    """Where one node of a cluster listens: on the shared port, on its own, and on its internal one on loopback."""

    port: int
    internal_port: int
    public: tuple[socket.socket, ...]
    internal: socket.socket

    def close(self) -> None:
        for each in (*self.public, self.internal):
            each.close()


class Block:
    """The ports of a cluster, all listened on from here.

    The first port is for all nodes, each of the next ones for one node. Internal listeners get any free ports.
    """

    def __init__(self, host: str, port: int, nodes: int) -> None:
        """Raises AddressInUse, ConfigError."""
        if port + nodes > HIGHEST_PORT:
            raise ConfigError(f"{nodes} nodes from port {port} on need ports above {HIGHEST_PORT}")
        self.port = port
        self._host = host
        self.places: list[Place] = []
        with ExitStack() as unless_complete:
            self._shared = SharedListener([joined(host, port)])
            unless_complete.callback(self._shared.close)
            own = [_entered(unless_complete, _listen([joined(host, port + 1 + index)])) for index in range(nodes)]
            for each in own:
                private = unless_complete.enter_context(_listen(["127.0.0.1:0"])[0])
                public = (*_entered(unless_complete, self._shared.sockets()), *each)
                self.places.append(Place(_port(each[0]), _port(private), public, private))
            unless_complete.pop_all()

    def hand_over(self) -> None:
        """Close what the nodes have inherited, so that nothing is accepted in the name of a node that has ended."""
        for place in self.places:
            place.close()

    def again(self, place: Place) -> Place:
        """Listen once more where a node has ended, for the next one. Raises AddressInUse, ConfigError."""
        with ExitStack() as unless_complete:
            own = _entered(unless_complete, _listen([joined(self._host, place.port)]))
            private = unless_complete.enter_context(_listen([joined("127.0.0.1", place.internal_port)])[0])
            public = (*_entered(unless_complete, self._shared.sockets()), *own)
            unless_complete.pop_all()
        return place._replace(public=public, internal=private)

    def close(self) -> None:
        """Close the sockets of this process; those that nodes inherited stay open."""
        self.hand_over()
        self._shared.close()


def _entered(stack: ExitStack, sockets: list[socket.socket]) -> list[socket.socket]:
    return [stack.enter_context(each) for each in sockets]


def free_block(host: str, nodes: int, ports: Iterable[int]) -> Block:
    """The first free block among those that start at the given ports. Raises AddressInUse, ConfigError."""
    for port in ports:
        with suppress(AddressInUse):
            return Block(host, port, nodes)
    raise AddressInUse(f"found no {nodes + 1} free ports in a row on {host}")


def _port(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port
