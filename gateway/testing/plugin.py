"""Fixtures for pytest, which finds them by itself. A test suite overrides `gateway_settings` and `gateway_hooks`."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gateway.embedding import Gateway
    from gateway.hooks import Hooks
    from gateway.testing import SyncTestGateway


@pytest.fixture
def gateway_settings() -> "Mapping[str, Any] | Gateway":
    """The settings of `sync_gateway`, by section, or the Gateway of the application."""
    return {}


@pytest.fixture
def gateway_hooks() -> "Hooks | None":
    """The hooks of `sync_gateway`; None for those of the Gateway, or none."""
    return None


@pytest.fixture
def sync_gateway(
    gateway_settings: "Mapping[str, Any] | Gateway", gateway_hooks: "Hooks | None"
) -> "Iterator[SyncTestGateway]":
    """A node in this process, for tests that are no coroutines; others write `async with TestGateway(...)`."""
    # Imported here: every run of pytest loads this plugin.
    from gateway.testing import SyncTestGateway

    with SyncTestGateway(gateway_settings, hooks=gateway_hooks) as gateway:
        yield gateway
