"""Addresses of listeners: HOST:PORT, an IPv6 host in brackets, *:PORT for all of IPv4 and IPv6, or unix:PATH."""

import ipaddress
from typing import NamedTuple

from gateway.config import hosts
from gateway.config.hosts import HIGHEST_PORT

ALL = "*"
ALL_IPV4, ALL_IPV6 = "0.0.0.0", "::"  # noqa: S104  # told apart; who listens there was told to
# The address at which this machine reaches a listener on all addresses.
_REACHED = {ALL: "127.0.0.1", ALL_IPV4: "127.0.0.1", ALL_IPV6: "::1"}
_EXPECTED = "expected HOST:PORT, for example 127.0.0.1:8000, [::1]:8000 or *:8000, or unix:PATH"


class Endpoint(NamedTuple):
    """An address taken apart: either `path`, or `host` (without brackets) and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""


def parse(address: str) -> Endpoint:
    """Take a valid address apart (addresses in the settings are valid)."""
    if address.startswith("unix:"):
        return Endpoint(path=address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


def checked(address: str) -> str:
    """The address, if it is one. Raises ValueError."""
    if address.startswith("unix:"):
        if address == "unix:" or not address.isprintable():
            raise ValueError(f"{_EXPECTED}, of printable characters")
        return address
    if "://" in address:
        raise ValueError(f"this is a URL; {_EXPECTED}")
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= HIGHEST_PORT):
        raise ValueError(_EXPECTED)
    if host != ALL:
        try:
            hosts.bare(host)
        except ValueError as error:
            raise ValueError(f"{error}; {_EXPECTED}") from None
    return address


def overlap(one: Endpoint, other: Endpoint) -> bool:
    """Whether two sockets cannot listen on both. 0.0.0.0 and [::] can: each is then for its own address family."""
    if one == other:
        # Port 0 is a different port each time.
        return bool(one.path or one.port)
    if one.path or other.path or not one.port or one.port != other.port:
        return False
    named = {one.host, other.host}
    if ALL in named:
        return True
    if ALL_IPV6 in named:
        return ALL_IPV4 not in named
    return ALL_IPV4 in named and not any(":" in host for host in named)


def joined(host: str, port: int) -> str:
    """The address of a host, which is without brackets, and a port."""
    return f"{hosts.bracketed(host)}:{port}"


def reached(host: str) -> str:
    """The host at which this machine reaches a listener on `host`."""
    return _REACHED.get(host, host)


def is_local(address: str) -> bool:
    """Whether only this machine reaches the address. Among host names, only localhost is known to be local."""
    endpoint = parse(address)
    if endpoint.path or endpoint.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        return False
