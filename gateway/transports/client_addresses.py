"""The address of a client behind proxies, whose headers count only if they are trusted."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Hops read from the right; no chain of proxies is longer.
_MOST_HOPS = 32


# IPv6 subscribers get at least a /64 (RFC 6177), and with it every address in it.
_SUBSCRIBER_BITS = 64


def counted_as(address: str) -> str:
    """What an address counts under: IPv4 as itself, even where a socket shows it as IPv6; IPv6 as its /64."""
    if ":" not in address:
        return address
    try:
        parsed = _unmapped(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((int(parsed) >> _SUBSCRIBER_BITS << _SUBSCRIBER_BITS, _SUBSCRIBER_BITS)))


def client_address(peer: str, header: Callable[[str], str], trusted: Sequence[Network]) -> str:
    """The address nearest to the client that a trusted peer vouches for, in its usual notation.

    `peer` is the other end of the socket; empty for a Unix socket, whose peers are trusted if any network is.
    `header` returns the values of all headers of a name, joined by commas, or an empty string.

    A proxy appends the address it was called from, so the list is read from the right (RFC 7239 section 5.2): the
    first address that is not a trusted proxy's is the client's. Anything to the left of it, or to the left of an
    invalid address, may have been made up by the client.
    """
    if peer.startswith("::ffff:"):
        peer = str(_unmapped(ipaddress.ip_address(peer)))
    if not is_trusted(peer, trusted):
        return peer
    nearest = peer
    for hop in _hops(header):
        address = _parse(hop)
        if address is None:
            break
        nearest = str(address)
        if not is_trusted(nearest, trusted):
            break
    return nearest


def _hops(header: Callable[[str], str]) -> Iterator[str]:
    """The addresses that proxies report, nearest first, from X-Forwarded-For, else Forwarded, else X-Real-IP.

    Hops are parsed lazily: those that no trusted proxy vouches for may be long.
    """
    if listed := header("x-forwarded-for"):
        return map(str.strip, reversed(listed.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]))
    if listed := header("forwarded"):
        return map(_forwarded_for, reversed(listed.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]))
    listed = header("x-real-ip")
    return iter([listed.strip()] if listed else [])


def _forwarded_for(element: str) -> str:
    """The `for` of one element of Forwarded (RFC 7239 section 4)."""
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "for":
            return value.strip('"')
    return ""


def _parse(hop: str) -> Address | None:
    """An address with or without a port; IPv6 with a port, or in Forwarded, stands in brackets."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        address = ipaddress.ip_address(hop)
    except ValueError:
        return None
    return _unmapped(address)


def _unmapped(address: Address) -> Address:
    """A socket for both families shows an IPv4 peer as ::ffff:192.0.2.1."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether a peer is a proxy whose headers count. The peer of a Unix socket is, if any network is trusted."""
    if not trusted or not peer:
        return bool(trusted)
    try:
        address = _unmapped(ipaddress.ip_address(peer))
    except ValueError:
        return False
    return any(address in network for network in trusted)
