"""Hosts: a name, an IPv4 address, or an IPv6 address in brackets."""

import re
from ipaddress import IPv4Address, IPv6Address

HIGHEST_PORT = 65_535

# RFC 1035 section 2.3.4: labels of at most 63 octets, 253 with the dots between them. Python's resolver raises
# UnicodeError for others. Host names have no underscores (RFC 952), but names of containers do.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_LONGEST = 254
# A host that ends in a number has to be an IPv4 address (URL standard of WHATWG, "ends in a number").
_NUMERIC = re.compile(r"(.*\.)?[0-9]+\.?")


def bare(host: str) -> str:
    """The host without brackets. Raises ValueError, whose text does not quote the host, since it may be a secret."""
    if host.startswith("[") and host.endswith("]"):
        return _address(host[1:-1], IPv6Address, "the host in brackets is not an IPv6 address")
    if not host:
        raise ValueError("the host is missing")
    if ":" in host:
        raise ValueError("there is a : in the host; write IPv6 addresses in brackets, as in [::1]")
    if _NUMERIC.fullmatch(host):
        return _address(host, IPv4Address, "the host ends in a number and is not an IPv4 address")
    if len(host) > _LONGEST or not _NAME.fullmatch(host):
        raise ValueError("the host is not a name (letters, digits, - and _; 1 to 63 between dots) and not an address")
    return host


def bracketed(host: str) -> str:
    """As in a URL, in front of a port."""
    return f"[{host}]" if ":" in host else host


def _address(text: str, kind: type[IPv4Address] | type[IPv6Address], problem: str) -> str:
    try:
        kind(text)
    except ValueError:
        raise ValueError(problem) from None
    return text
