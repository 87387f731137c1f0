"""The client's address behind proxies."""

from ipaddress import ip_network

import pytest

from gateway.transports.client_addresses import client_address

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


def address(peer: str, headers: dict[str, str]) -> str:
    return client_address(peer, lambda name: headers.get(name, ""), TRUSTED)


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("10.0.0.1", {"x-forwarded-for": "203.0.113.7"}, "203.0.113.7"),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.1, 203.0.113.7, 10.1.1.1"}, "203.0.113.7"),
        ("10.0.0.1", {"x-forwarded-for": "10.9.9.9,10.1.1.1"}, "10.9.9.9"),
        ("10.0.0.1", {"x-forwarded-for": "203.0.113.7:55555"}, "203.0.113.7"),
        ("10.0.0.1", {"x-forwarded-for": "[2001:dead::7]:443"}, "2001:dead::7"),
        ("10.0.0.1", {"x-forwarded-for": "2001:DEAD:0:0::7"}, "2001:dead::7"),
        ("10.0.0.1", {"x-forwarded-for": "::ffff:203.0.113.7"}, "203.0.113.7"),
        ("::ffff:10.0.0.1", {"x-forwarded-for": "203.0.113.7"}, "203.0.113.7"),
        ("2001:db8::1", {"x-forwarded-for": "203.0.113.7"}, "203.0.113.7"),
        ("10.0.0.1", {"forwarded": 'for=198.51.100.1, for="[2001:dead::7]:80";proto=https'}, "2001:dead::7"),
        ("10.0.0.1", {"forwarded": "proto=https; For=203.0.113.7"}, "203.0.113.7"),
        ("10.0.0.1", {"x-real-ip": "203.0.113.7"}, "203.0.113.7"),
        ("10.0.0.1", {"x-forwarded-for": "203.0.113.7", "x-real-ip": "203.0.113.8"}, "203.0.113.7"),
        ("", {"x-forwarded-for": "203.0.113.7"}, "203.0.113.7"),
        ("10.0.0.1", {}, "10.0.0.1"),
    ],
)
def test_trusted_proxies_tell_the_address(peer: str, headers: dict[str, str], expected: str) -> None:
    """Read from the right, past the proxies themselves; a Unix socket's peer is a proxy."""
    assert address(peer, headers) == expected


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("203.0.113.9", {"x-forwarded-for": "198.51.100.1"}, "203.0.113.9"),
        ("203.0.113.9", {"forwarded": "for=198.51.100.1", "x-real-ip": "198.51.100.1"}, "203.0.113.9"),
        ("10.0.0.1", {"x-forwarded-for": "10.0.0.2, 203.0.113.7"}, "203.0.113.7"),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.1, garbage"}, "10.0.0.1"),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.1, garbage, 10.0.0.2"}, "10.0.0.2"),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.1,"}, "10.0.0.1"),
        ("10.0.0.1", {"forwarded": "for=unknown"}, "10.0.0.1"),
        ("10.0.0.1", {"forwarded": "by=203.0.113.43"}, "10.0.0.1"),
        ("10.0.0.1", {"x-real-ip": "'; drop table"}, "10.0.0.1"),
        ("10.0.0.1", {"x-forwarded-for": "198.51.100.1" + ",10.0.0.2" * 10_000}, "10.0.0.2"),
        ("not an address", {"x-forwarded-for": "198.51.100.1"}, "not an address"),
    ],
)
def test_what_a_client_may_have_written_does_not_count(peer: str, headers: dict[str, str], expected: str) -> None:
    """Headers of strangers, anything left of the first stranger, garbage and what stands left of it."""
    assert address(peer, headers) == expected


def test_no_header_counts_without_trusted_proxies() -> None:
    """The default."""
    assert client_address("127.0.0.1", lambda name: "203.0.113.7", []) == "127.0.0.1"
    assert client_address("", lambda name: "203.0.113.7", []) == ""


def test_an_ipv4_client_of_a_socket_for_both_families() -> None:
    """Is the same client, with and without trusted proxies."""
    for trusted in ([], TRUSTED):
        assert client_address("::ffff:192.0.2.7", lambda name: "", trusted) == "192.0.2.7"
        assert client_address("2001:db8::ffff", lambda name: "", trusted) == "2001:db8::ffff"
