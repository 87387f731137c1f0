"""A running node, and either client of its API."""

from collections.abc import Iterator

import pytest

from tests.api.site import KEY, OPEN, Site, running, settings_of
from tests.callers import KINDS
from tests.client.callers import Caller
from tests.client.way import Way, way_to

NAMESPACES = {
    "chat": OPEN,
    "kept": {**OPEN, "delivery": "recoverable", "presence": True},
    "last": {**OPEN, "delivery": "latest"},
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A node shared by the tests of a module."""
    with running(settings_of(namespaces=NAMESPACES)) as node:
        yield node


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each test runs with both clients."""
    found: str = request.param
    return found


@pytest.fixture
def gateway(kind: str, site: Site) -> Iterator[Caller]:
    """A client of the node."""
    with Caller(kind, f"http://{site.public}", KEY, timeout=60) as caller:
        yield caller


@pytest.fixture
def way(site: Site) -> Iterator[Way]:
    """To the node."""
    with way_to(site.public) as found:
        yield found
