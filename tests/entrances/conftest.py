"""A whole node for the tests of a file, with its SETTINGS, on our own server and under a standard uvicorn."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest

from gateway.config.settings import ServerSettings
from tests.api.site import KEY, settings_of
from tests.entrances import ways

Make = Callable[[ServerSettings], AbstractContextManager[str]]


@pytest.fixture(scope="module", params=[ways.detached, ways.plain_asgi], ids=["detached", "asgi"])
def make(request: pytest.FixtureRequest) -> Make:
    """Starts a node, of which it gives HOST:PORT."""
    found: Make = request.param
    return found


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, make: Make) -> Iterator[str]:
    """Of a node with the SETTINGS of the file."""
    with make(settings_of(**request.module.SETTINGS)) as address:
        yield f"http://{address}"


@pytest.fixture
def http(request: pytest.FixtureRequest, url: str) -> Iterator[httpx.Client]:
    """A client of that node, which may use the API, with the HEADERS of the file if there are any."""
    headers = {"X-API-Key": KEY, **getattr(request.module, "HEADERS", {})}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10) as client:
        yield client
