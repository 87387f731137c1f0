"""A real server, a node on it, and either publisher."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.config.reloading import Source
from gateway.config.settings import ServerSettings
from tests.api.site import OPEN, Site, running, settings_of
from tests.callers import KINDS
from tests.publisher.callers import Caller
from tests.servers import ValkeyServer, valkey_server

NAMESPACES: dict[str, Any] = {
    "chat": OPEN,
    "kept": {**OPEN, "delivery": "recoverable"},
    "last": {**OPEN, "delivery": "latest", "latest_keys": 2},
}


def node_settings(url: str, **sections: Any) -> ServerSettings:
    """Of a node on the server at a URL."""
    given: dict[str, Any] = {
        "redis": {"url": url},
        "node_name": "one",
        "namespaces": NAMESPACES,
        "personal": {"enabled": True},
        "limits": {"message_size": 1000},
        "api": {"insecure": True, "max_batch": 300},
    }
    return settings_of(**{**given, **sections})


class Again:
    """What a node reads at its start, and when it reloads."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.source = Source(lambda: self.settings, settings)


def until(condition: Callable[[], bool]) -> bool:
    """Wait for something that happens in another process."""
    for _ in range(6000):
        if condition():
            return True
        threading.Event().wait(0.01)
    return False


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with valkey_server() as found:
        yield found


@pytest.fixture(scope="module")
def again(server: ValkeyServer) -> Again:
    """Settings of the node; tests that change them set them back."""
    return Again(node_settings(server.url))


@pytest.fixture(scope="module")
def site(again: Again) -> Iterator[Site]:
    """A node shared by the tests of a module."""
    with running(again.settings, again.source) as found:
        yield found


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each test runs with both publishers."""
    found: str = request.param
    return found


@pytest.fixture
def gateway(kind: str, server: ValkeyServer, site: Site) -> Iterator[Caller]:
    """A publisher beside the node."""
    with Caller(kind, server.url, timeout=60) as caller:
        yield caller
