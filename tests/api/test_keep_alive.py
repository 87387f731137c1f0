"""Connections of HTTP clients between two requests: a pool must not find them closed by the node first."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from gateway.config.reloading import Source
from gateway.config.settings import LimitSettings
from tests.api.site import KEY, Site, running, settings_of

# Seconds; the test waits for as long, or for ever.
SHORT, LONG = 0.05, 1e6


@pytest.fixture
def limits() -> dict[str, float]:
    """What the node reads when it is told to read its settings again."""
    return {"keep_alive": LONG}


@pytest.fixture
def site(limits: dict[str, float]) -> Iterator[Site]:
    first = settings_of(limits=limits)
    with running(first, Source(lambda: settings_of(limits=limits), first)) as node:
        yield node


def port_of(response: httpx.Response) -> int:
    """The client's, which tells the connections of a pool apart."""
    port: int = response.extensions["network_stream"].get_extra_info("client_addr")[1]
    return port


@pytest.mark.parametrize("internal", [False, True])
def test_a_pooled_connection_outlives_those_that_the_node_ends(
    site: Site, limits: dict[str, float], internal: bool
) -> None:
    """limits.keep_alive decides after each answer, also when it was read again; on both listeners."""
    address = site.internal if internal else site.public
    publish = {"channel": "news", "data": 1}
    with httpx.Client(base_url=f"http://{address}", headers={"X-API-Key": KEY}, trust_env=False) as pool:
        port = port_of(pool.post("/api/publish", json=publish))
        limits["keep_alive"] = SHORT
        site.call(site.gateway.reload)
        host, _, number = address.rpartition(":")
        with closing(socket.create_connection((host, int(number)), 10)) as other:
            body = json.dumps(publish)
            head = f"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
            other.sendall(f"{head}{body}".encode())
            assert b"200 OK" in b"".join(iter(lambda: other.recv(65536), b""))
        # The node has ended a younger one by now, and counts from the answer before for this one.
        assert port_of(pool.post("/api/publish", json=publish)) == port


def test_the_default_is_longer_than_balancers_wait() -> None:
    """nginx (keepalive_timeout of upstreams) and AWS ALB keep connections for 60 s."""
    assert LimitSettings().keep_alive == 75
