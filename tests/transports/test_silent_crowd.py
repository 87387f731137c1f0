"""Silent connections keep nobody out, and those of an API do not count between its requests."""

import http.client
from contextlib import ExitStack

import pytest
from websockets.sync.client import connect

from gateway.transports import admission
from tests.transports.conftest import Site, fast_site, settings_of
from tests.transports.raw import RawClient


def test_silent_connections_of_one_address_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is dropped without an answer, whatever has become of it: HTTP, or a WebSocket that says nothing."""
    monkeypatch.setattr(admission, "PATIENCE", 0.0)
    with fast_site(settings_of(unauthenticated=3, unauthenticated_per_address=0)) as site:
        with RawClient(site.address) as silent, RawClient(site.address) as upgraded, RawClient(site.address) as half:
            upgraded.upgrade()
            half.send(b"GET / HTTP/1.1\r\n")
            with ExitStack() as clients:
                for number in range(3):
                    client = clients.enter_context(connect(f"ws://{site.url}/record", compression=None))
                    client.send(str(number))
                    assert client.recv(10) == str(number)
            assert silent.rest() == b""
            assert upgraded.frame() is None
            assert half.rest() == b""
        assert site.metrics.refused.values == {"unauthenticated": 3}


def test_a_connection_of_the_api_does_not_wait_between_its_requests() -> None:
    """Once the application has said who it is; any other one does."""
    with fast_site(settings_of()) as site:
        for path, waiting in (("/hello", 1), ("/known", 0)):
            client = http.client.HTTPConnection(*site.address, timeout=10)
            for _ in range(2):
                client.request("GET", path)
                assert client.getresponse().read() == b"hello"
                assert counted(site) == waiting
            client.close()
            while counted(site):
                pass


def counted(site: Site) -> int:
    number: int = site.call(lambda: site.admission.unauthenticated)
    return number
