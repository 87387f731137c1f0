"""A node to test."""

import pytest

from tests.node.site import Site


@pytest.fixture
def site() -> Site:
    return Site()
