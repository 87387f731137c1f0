"""Which addresses a node listens on: what people expect of *, [::], 0.0.0.0, names and lists."""

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from gateway import listeners
from gateway.cli.node_listeners import SharedListener
from gateway.errors import ConfigError
from tests.servers import free_port

IPV4, IPV6 = "127.0.0.1", "::1"

AddressInfo = list[tuple[Any, ...]]


@contextmanager
def listening(*addresses: str) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        bound = [stack.enter_context(each) for each in listeners.bind(addresses, "listen")]
        for each in bound:
            each.listen()
        yield bound


def reached(port: int, *hosts: str) -> list[bool]:
    """Whether somebody accepts there."""
    return [connects(host, port) for host in hosts]


def connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("hosts", "shown", "expected"),
    [
        (["*"], ["[::]"], [True, True]),
        (["[::]"], ["[::]"], [True, True]),
        (["0.0.0.0"], ["0.0.0.0"], [True, False]),
        (["127.0.0.1"], ["127.0.0.1"], [True, False]),
        (["[::1]"], ["[::1]"], [False, True]),
        (["127.0.0.1", "[::1]"], ["127.0.0.1", "[::1]"], [True, True]),
        (["0.0.0.0", "[::]"], ["0.0.0.0", "[::]"], [True, True]),
        (["[::]", "0.0.0.0"], ["[::]", "0.0.0.0"], [True, True]),
    ],
)
def test_who_is_let_in(hosts: list[str], shown: list[str], expected: list[bool]) -> None:
    """* and [::] are for both families, unless 0.0.0.0 stands beside; the rest for one."""
    port = free_port()
    with listening(*(f"{host}:{port}" for host in hosts)) as bound:
        assert [listeners.name(each) for each in bound] == [f"{host}:{port}" for host in shown]
        assert reached(port, IPV4, IPV6) == expected
    assert reached(port, IPV4, IPV6) == [False, False]


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """* is what there is; [::] cannot be had, and is refused by name."""
    without_ipv6(monkeypatch, code)
    port = free_port()
    with listening(f"*:{port}") as bound:
        assert [listeners.name(each) for each in bound] == [f"0.0.0.0:{port}"]
        assert reached(port, IPV4) == [True]
    with pytest.raises(ConfigError, match=r"\[::\]:\d+ cannot be listened on: .*setting listen"):
        listeners.bind([f"[::]:{port}"], "listen")


def without_ipv6(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = socket.socket

    def make(family: int = socket.AF_INET, *args: Any, **kwargs: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, "no IPv6")
        return real(family, *args, **kwargs)

    monkeypatch.setattr(socket, "socket", make)


def resolving(*addresses: str) -> Callable[..., AddressInfo]:
    """A resolver to which every name stands for these addresses."""

    def resolve(host: str, port: int, **_: Any) -> AddressInfo:
        families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (each, port, 0, 0) if ":" in each else (each, port))
            for family, each in zip(families, addresses, strict=True)
        ]

    return resolve


@pytest.mark.parametrize(
    ("addresses", "bound"),
    [
        ((IPV4, IPV6), ["127.0.0.1", "[::1]"]),
        ((IPV6, IPV4), ["[::1]", "127.0.0.1"]),
        # Twice in /etc/hosts.
        ((IPV4, IPV4), ["127.0.0.1"]),
        # Not of this machine (192.0.2.0/24 is for examples, RFC 5737).
        (("192.0.2.1", IPV4), ["127.0.0.1"]),
        ((IPV4, "192.0.2.1"), ["127.0.0.1"]),
    ],
)
def test_a_name_is_all_its_addresses(
    monkeypatch: pytest.MonkeyPatch, addresses: Sequence[str], bound: list[str]
) -> None:
    """Those that this machine has."""
    port = free_port()
    monkeypatch.setattr(socket, "getaddrinfo", resolving(*addresses))
    with closing_all(listeners.bind([f"here.example:{port}"], "listen")) as found:
        assert [listeners.name(each) for each in found] == [f"{host}:{port}" for host in bound]


@contextmanager
def closing_all(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(each) for each in sockets]


def test_a_name_that_is_nowhere_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when only one of its addresses is taken: half of it is not what was asked for."""
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolving("192.0.2.1", "198.51.100.1"))
        with pytest.raises(ConfigError, match="Cannot assign requested address"):
            listeners.bind(["here.example:0"], "listen")
    port = free_port()
    with socket.create_server((IPV6, port), family=socket.AF_INET6):
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", resolving(IPV4, IPV6))
            with pytest.raises(listeners.AddressInUse):
                listeners.bind([f"here.example:{port}"], "listen")
        with listening(f"{IPV4}:{port}"):
            pass


def test_all_addresses_or_none(tmp_path: Any) -> None:
    """Nothing stays bound of a list that cannot be had, and no file of a Unix socket."""
    port, path = free_port(), tmp_path / "a.sock"
    with socket.create_server((IPV4, 0)) as taken:
        last = f"{IPV4}:{taken.getsockname()[1]}"
        with pytest.raises(listeners.AddressInUse, match=f"{last} is in use"):
            listeners.bind([f"{IPV4}:{port}", f"unix:{path}", last], "listen")
    assert not path.exists()
    with listening(f"{IPV4}:{port}"):
        pass


def test_port_0_is_another_one_for_each_address() -> None:
    with listening("127.0.0.1:0", "[::1]:0") as (first, second):
        assert 0 not in (first.getsockname()[1], second.getsockname()[1])


@pytest.mark.parametrize("reuse_port", [True, False])
def test_workers_share_all_addresses(reuse_port: bool) -> None:
    """Every worker has a socket on each; one on * takes both families from each of them."""
    port = free_port(1)
    addresses = [f"*:{port}", f"127.0.0.1:{port + 1}"]
    with closing(SharedListener(addresses, reuse_port=reuse_port)) as shared, ExitStack() as stack:
        workers = [[stack.enter_context(each) for each in shared.sockets()] for _ in range(3)]
        names = [[listeners.name(each) for each in sockets] for sockets in workers]
        assert names == [[f"[::]:{port}", f"127.0.0.1:{port + 1}"]] * 3
        assert reached(port, IPV4, IPV6) == [True, True]
        assert reached(port + 1, IPV4, IPV6) == [True, False]
        # The first worker dies: the others have the addresses still.
        for each in workers[0]:
            each.close()
        assert reached(port, IPV4, IPV6) == [True, True]
