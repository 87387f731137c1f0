"""Listening sockets: bound before anything else starts, so that a taken address is told at once."""

import errno
import os
import socket
import stat
from contextlib import suppress

from gateway.config.addresses import Endpoint, parse
from gateway.errors import ConfigError

BACKLOG = 2048
# Bytes that the kernel keeps for a client that does not read; it counts twice as many, for its own needs. Left to
# itself it lets a buffer grow to 4 MiB. Enough for 20 Mbit/s over 100 ms.
SEND_BUFFER = 128 * 1024


class AddressInUse(ConfigError):
    """Another process holds the address."""


def bind(address: str, setting: str, *, reuse_port: bool = False) -> socket.socket:
    """A socket on `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`, bound and not listening yet.

    `setting` is named in errors. `reuse_port` shares the port with other processes of this user (SO_REUSEPORT).
    Raises AddressInUse, ConfigError.
    """
    endpoint = parse(address)
    try:
        return _bind_unix(endpoint.path) if endpoint.path else _bind_tcp(endpoint, reuse_port=reuse_port)
    except socket.gaierror as error:
        raise ConfigError(f"{address} cannot be listened on: {error.strerror} (setting {setting})") from error
    except OSError as error:
        raise refused(address, setting, error) from error


def refused(address: str, setting: str, error: OSError) -> ConfigError:
    """What to tell the operator when an address cannot be had."""
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(f"{address} is in use by another process (setting {setting})")
    return ConfigError(f"{address} cannot be listened on: {os.strerror(error.errno or 0)} (setting {setting})")


def shown(listener: socket.socket, scheme: str) -> str:
    """The address as an URL."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"


def _bind_tcp(endpoint: Endpoint, *, reuse_port: bool) -> socket.socket:
    # A name may stand for several addresses (localhost); the system's first choice counts.
    family, kind, protocol, _, name = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections of the process before, in TIME_WAIT, do not block a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # What it accepts has the same.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind(name)
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
        # A proxy runs as another user; what the socket gives access to has its own keys.
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


def remove_file(listener: socket.socket) -> None:
    """Remove the file of a Unix socket that is still open."""
    if listener.family == socket.AF_UNIX and listener.fileno() != -1:
        with suppress(OSError):
            os.unlink(listener.getsockname())
