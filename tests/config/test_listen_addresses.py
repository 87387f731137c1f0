"""Addresses of listeners, taken apart."""

from gateway.config.listen_addresses import Endpoint, is_local, parse


def test_addresses_come_apart() -> None:
    """Brackets belong to the notation, not to the host."""
    assert parse("[::1]:80") == Endpoint("::1", 80)
    assert parse("example.com:0") == Endpoint("example.com", 0)
    assert parse("unix:/run/a.sock") == Endpoint(path="/run/a.sock")


def test_what_only_this_machine_reaches_is_local() -> None:
    local = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:a"]
    remote = ["0.0.0.0:1", "[::]:1", "*:1", "10.0.0.1:1", "localhost.example.com:1"]
    assert [is_local(address) for address in local + remote] == [True] * 5 + [False] * 5
