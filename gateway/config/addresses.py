"""Addresses of listeners: HOST:PORT, an IPv6 host in brackets, or unix:PATH."""

import ipaddress
from typing import NamedTuple


class Endpoint(NamedTuple):
    """An address taken apart: either `path`, or `host` (without brackets) and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""


def parse(address: str) -> Endpoint:
    """Take a valid address apart (the settings hold no other)."""
    if address.startswith("unix:"):
        return Endpoint(path=address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


def is_local(address: str) -> bool:
    """Whether only this machine reaches the address. Of host names this is known of localhost alone."""
    endpoint = parse(address)
    if endpoint.path or endpoint.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(endpoint.host).is_loopback
    except ValueError:
        return False
