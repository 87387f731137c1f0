"""A server to do harm to."""

from collections.abc import Iterator

import pytest

from tests.servers import ValkeyServer, valkey_server


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server of one's own, to do it harm."""
    with valkey_server() as running:
        yield running
