"""Fixtures for pytest, which finds them by itself. A test suite overrides those whose names begin with
`gateway_`."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from starlette.applications import Starlette

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
def gateway_app() -> "Starlette | None":
    """The application that has mounted the Gateway, whose middleware clients of `sync_gateway` pass; None for none."""
    return None


@pytest.fixture
def sync_gateway(
    gateway_settings: "Mapping[str, Any] | Gateway", gateway_hooks: "Hooks | None", gateway_app: "Starlette | None"
) -> "Iterator[SyncTestGateway]":
    """A node in this process, for tests that are no coroutines; others write `async with TestGateway(...)`."""
    # Imported here: every run of pytest loads this plugin.
    from gateway.testing import SyncTestGateway

    with SyncTestGateway(gateway_settings, hooks=gateway_hooks, app=gateway_app) as gateway:
        yield gateway
