"""Listening sockets: bound before anything else starts, so that an address in use is reported at once."""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from gateway.config.listen_addresses import ALL, ALL_IPV4, ALL_IPV6, Endpoint, joined, parse
from gateway.errors import ConfigError

BACKLOG = 2048
# Bytes that the kernel keeps for a client that does not read; it doubles the number for its own needs. By default it
# lets a buffer grow to 4 MiB. This is enough for 20 Mbit/s over 100 ms.
SEND_BUFFER = 128 * 1024
# This machine does not have the address, or its address family.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class AddressInUse(ConfigError):
    """Another process holds the address."""


def bind(addresses: Sequence[str], setting: str) -> list[socket.socket]:
    """Sockets on all the addresses, bound and not listening yet. A name with several addresses has one for each.

    `setting` is named in errors. Raises AddressInUse, ConfigError; then none is bound.
    """
    endpoints = [parse(address) for address in addresses]
    with ExitStack() as unless_all:
        bound: list[socket.socket] = []
        for address, endpoint in zip(addresses, endpoints, strict=True):
            try:
                sockets = _bind(endpoint, endpoints)
            except socket.gaierror as error:
                raise ConfigError(f"{address} cannot be listened on: {error.strerror} (setting {setting})") from error
            except OSError as error:
                raise refused(address, setting, error) from error
            for each in sockets:
                unless_all.callback(discard, each)
            bound += sockets
        unless_all.pop_all()
    return bound


class Bound(NamedTuple):
    """Where a TCP socket is bound, for one more."""

    family: int
    # As `socket.bind` takes it.
    address: Any
    # Whether an IPv6 socket takes IPv4 connections too.
    both: bool

    @staticmethod
    def of(listener: socket.socket) -> "Bound":
        is_ipv6 = listener.family == socket.AF_INET6
        both = is_ipv6 and not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return Bound(listener.family, listener.getsockname(), both)

    def again(self) -> socket.socket:
        """One more socket, on a port that is shared (SO_REUSEPORT). Raises OSError."""
        return _bind_to(self.family, self.address, reuse_port=True, both=self.both)


def refused(address: str, setting: str, error: OSError) -> ConfigError:
    """The error for an operator whose address cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(f"{address} is in use by another process (setting {setting})")
    return ConfigError(f"{address} cannot be listened on: {error.strerror or error} (setting {setting})")


def name(listener: socket.socket) -> str:
    """The address, as the settings have it."""
    address = listener.getsockname()
    return f"unix:{address}" if listener.family == socket.AF_UNIX else joined(address[0], address[1])


def shown(listener: socket.socket, scheme: str) -> str:
    """The address as a URL."""
    return name(listener) if listener.family == socket.AF_UNIX else f"{scheme}://{name(listener)}"


def _bind(endpoint: Endpoint, others: Sequence[Endpoint]) -> list[socket.socket]:
    """Raises OSError."""
    if endpoint.path:
        return [_bind_unix(endpoint.path)]
    if endpoint.host == ALL:
        try:
            return [_bind_to(socket.AF_INET6, (ALL_IPV6, endpoint.port), both=True)]
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            return [_bind_to(socket.AF_INET, (ALL_IPV4, endpoint.port))]
    if endpoint.host == ALL_IPV6:
        # Both families, as people expect; IPv6 alone where they name IPv4 beside it.
        both = endpoint._replace(host=ALL_IPV4) not in others
        return [_bind_to(socket.AF_INET6, (ALL_IPV6, endpoint.port), both=both)]
    return _bind_name(endpoint)


def _bind_name(endpoint: Endpoint) -> list[socket.socket]:
    """All addresses of a name that this machine has: localhost may be ::1 where there is no IPv6."""
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    bound: list[socket.socket] = []
    missing: OSError | None = None
    with ExitStack() as unless_all:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            try:
                bound.append(unless_all.enter_context(_bind_to(family, address)))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        if missing is not None and not bound:
            raise missing
        unless_all.pop_all()
    return bound


def _bind_to(family: int, address: Any, *, reuse_port: bool = False, both: bool = False) -> socket.socket:
    """`both`: an IPv6 socket that takes IPv4 connections too. Raises OSError."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of the process before, in TIME_WAIT, do not block a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        # Accepted sockets inherit it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind(path)
        # A proxy runs as another user; access is controlled by tokens and keys.
        os.chmod(path, 0o666)  # noqa: S103
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket that a killed process left behind. Raises OSError (EADDRINUSE) when somebody listens on it."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


def discard(listener: socket.socket) -> None:
    """Close a socket that nobody serves."""
    remove_file(listener)
    listener.close()


def remove_file(listener: socket.socket) -> None:
    """Remove the file of a Unix socket that is still open."""
    if listener.family == socket.AF_UNIX and listener.fileno() != -1:
        with suppress(OSError):
            os.unlink(listener.getsockname())
