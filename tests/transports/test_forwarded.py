"""What an application behind proxies sees of its clients."""

import asyncio
import ipaddress
from typing import Any

import pytest

from gateway.transports.forwarded import Forwarded

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"),)


def seen(kind: str, peer: tuple[str, int] | None, headers: dict[str, str], trusted: Any = TRUSTED) -> tuple[Any, str]:
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append((scope["client"], scope["scheme"]))

    scope = {
        "type": kind,
        "path": "/",
        "client": peer,
        "scheme": "ws" if kind == "websocket" else "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(Forwarded(app, trusted)(scope, None, None))  # type: ignore[arg-type]  # not called
    client, scheme = found[0]
    return client, scheme


@pytest.mark.parametrize(
    ("kind", "peer", "headers", "client", "scheme"),
    [
        ("http", ("10.1.1.1", 5), {}, ("10.1.1.1", 5), "http"),
        ("http", ("10.1.1.1", 5), {"x-forwarded-for": "192.0.2.1"}, ("192.0.2.1", 0), "http"),
        ("http", ("10.1.1.1", 5), {"x-forwarded-proto": "https"}, ("10.1.1.1", 5), "https"),
        ("websocket", ("10.1.1.1", 5), {"x-forwarded-proto": "https"}, ("10.1.1.1", 5), "wss"),
        # The last one is what the nearest proxy says; a client may have sent the others.
        ("http", ("10.1.1.1", 5), {"x-forwarded-proto": "https, http"}, ("10.1.1.1", 5), "http"),
        ("http", ("10.1.1.1", 5), {"x-forwarded-proto": "gopher"}, ("10.1.1.1", 5), "http"),
        ("http", ("10.1.1.1", 5), {"x-forwarded-for": "6.6.6.6, 192.0.2.1, 10.2.2.2"}, ("192.0.2.1", 0), "http"),
        (
            "http",
            ("192.0.2.9", 5),
            {"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https"},
            ("192.0.2.9", 5),
            "http",
        ),
        ("http", None, {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https"}, ("192.0.2.1", 0), "https"),
        ("http", None, {}, None, "http"),
    ],
)
def test_trusted_proxies_are_believed(
    kind: str, peer: tuple[str, int] | None, headers: dict[str, str], client: Any, scheme: str
) -> None:
    assert seen(kind, peer, headers) == (client, scheme)


def test_without_trusted_proxies_nobody_is_believed() -> None:
    headers = {"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https"}
    assert seen("http", ("10.1.1.1", 5), headers, ()) == (("10.1.1.1", 5), "http")
    assert seen("http", None, headers, ()) == (None, "http")


def test_the_lifespan_passes() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope == {"type": "lifespan"}

    asyncio.run(Forwarded(app, TRUSTED)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]  # not called
