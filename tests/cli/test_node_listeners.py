"""The ports of several nodes: shared, in a row, and never somebody else's."""

import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from gateway.cli.node_listeners import Block, SharedListener, free_block
from gateway.config.hosts import HIGHEST_PORT
from gateway.errors import ConfigError
from gateway.listeners import AddressInUse

HOST = "127.0.0.1"
# As the kernel spreads connections (Linux), and from one queue (everywhere).
WAYS = [False, *([True] if sys.platform == "linux" else [])]

Listen = Callable[..., SharedListener]


@pytest.fixture(params=WAYS, ids=lambda reuse_port: "SO_REUSEPORT" if reuse_port else "one socket")
def listen(request: pytest.FixtureRequest) -> Iterator[Listen]:
    """`listen(port)` on loopback."""
    with ExitStack() as stack:
        yield lambda port=0: stack.enter_context(closing(SharedListener([f"{HOST}:{port}"], reuse_port=request.param)))


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), 5)


def free_row(ports: int) -> int:
    """The first of so many free ports in a row."""
    with closing(free_block(HOST, ports, range(20_000, 30_000, 16))) as block:
        return block.port


def test_every_node_gets_connections_of_the_shared_port(listen: Listen) -> None:
    """Each through a descriptor of its own."""
    shared = listen()
    with shared.sockets()[0] as first, shared.sockets()[0] as second, ExitStack() as stack:
        assert first.getsockname() == second.getsockname() == (HOST, shared.port)
        assert first.fileno() != second.fileno()
        # Where the kernel spreads them, all go to one node once in 2^63 runs.
        for _ in range(64):
            stack.enter_context(connect(shared.port))
        assert set(select.select([first, second], [], [], 5)[0]) == {first, second}


def test_a_node_that_starts_again_joins(listen: Listen) -> None:
    """After all others died as well, and although their connections linger in TIME_WAIT."""
    shared = listen()
    with shared.sockets()[0] as first:
        client = connect(shared.port)
        first.accept()[0].close()
        client.close()
    with shared.sockets()[0] as again, connect(shared.port):
        again.accept()[0].close()


def test_a_port_of_another_process_is_refused(listen: Listen) -> None:
    """One of another gateway of this user too, which shares it among its own nodes."""
    with socket.create_server((HOST, 0)) as taken, pytest.raises(AddressInUse, match="in use by another process"):
        listen(taken.getsockname()[1])
    shared = listen()
    with shared.sockets()[0], shared.sockets()[0], pytest.raises(AddressInUse):
        listen(shared.port)


def test_a_port_that_is_bound_and_not_listened_on_is_refused() -> None:
    """Two sockets can be bound to one address; the second that listens is refused."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, 0))
        port = bound.getsockname()[1]
        with closing(SharedListener([f"{HOST}:{port}"])), pytest.raises(OSError, match="in use"):
            bound.listen()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((HOST, port))
            other.listen()
            with pytest.raises(AddressInUse):
                SharedListener([f"{HOST}:{port}"])


@pytest.mark.parametrize(("host", "text"), [("192.0.2.1", "192.0.2.1:0 cannot be listened on"), ("[::1%x]", "listen")])
def test_an_address_of_another_machine_is_refused(host: str, text: str) -> None:
    """With the name of the setting."""
    with pytest.raises(ConfigError, match=text) as caught:
        SharedListener([f"{host}:0"])
    assert "(setting listen)" in str(caught.value)


def test_a_block_is_held_as_a_whole() -> None:
    """The shared port, the nodes' own after it, and any that are free for internal ones; all of them listen."""
    port = free_row(4)
    with closing(Block(HOST, port, 2)) as block:
        assert (block.port, [place.port for place in block.places]) == (port, [port + 1, port + 2])
        internal = [place.internal_port for place in block.places]
        for place in block.places:
            assert [each.getsockname()[1] for each in place.public] == [port, place.port]
            assert place.internal.getsockname() == (HOST, place.internal_port)
        for each in (port, port + 1, port + 2, *internal):
            connect(each).close()
            with pytest.raises(AddressInUse):
                SharedListener([f"{HOST}:{each}"])
    connect_refused(port, port + 1, *internal)


def connect_refused(*ports: int) -> None:
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            connect(port)


@pytest.mark.parametrize("taken", range(3))
def test_a_block_with_a_port_of_somebody_else_is_given_up(taken: int) -> None:
    """Nothing of it stays open; and the next that is free is found."""
    port = free_row(8)
    with socket.create_server((HOST, port + taken)):
        with pytest.raises(AddressInUse, match=f"{HOST}:{port + taken} is in use"):
            Block(HOST, port, 2)
        connect_refused(*(port + each for each in range(3) if each != taken))
        with closing(free_block(HOST, 2, (port, port + 4))) as block:
            assert block.port == port + 4
        with pytest.raises(AddressInUse, match="found no 3 free ports in a row"):
            free_block(HOST, 2, (port,))


def test_a_block_ends_before_the_last_port() -> None:
    """There is nothing after 65535."""
    with pytest.raises(ConfigError, match="2 nodes from port 65534 on need ports above 65535"):
        Block(HOST, HIGHEST_PORT - 1, 2)


def test_ipv6_is_written_in_brackets() -> None:
    """In errors as in addresses."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"\[::1\]:{port} is in use"):
            SharedListener([f"[::1]:{port}"])
