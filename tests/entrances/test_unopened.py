"""Emulated sessions whose clients are gone before their response begins: nothing may be kept of them."""

import asyncio
import gc
import json
import socket
from contextlib import suppress
from typing import Any

from gateway.app import Composition
from gateway.entrances.emulation import Emulated
from tests.api.site import running, settings_of

BODY = json.dumps({"id": 1, "connect": {}}).encode()
HEAD = b"POST /connection/http_stream HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def _kept() -> int:
    """Emulated connections that something still refers to."""
    gc.collect()
    # isinstance() asks objects for their class, and so would set up what is lazy.
    return sum(type(each) is Emulated for each in gc.get_objects())


def _connected(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def test_a_request_that_garbage_follows() -> None:
    """The garbage closes the socket before the application answers the request."""
    with running(settings_of()) as site:
        before = site.call(_kept)
        for _ in range(5):
            with _connected(site.public) as client:
                client.sendall(HEAD + BODY + b"\0garbage\r\n\r\n")
                while client.recv(65_536):
                    pass
        assert site.call(_kept) == before


def test_a_server_that_cannot_send_the_head() -> None:
    """ASGI: `send` raises OSError once the client is gone."""

    async def scenario() -> None:
        public: Any = Composition(settings_of()).public
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/connection/http_stream",
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 1),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": BODY}

        async def send(message: dict[str, Any]) -> None:
            raise OSError("the client is gone")

        before = _kept()
        with suppress(OSError):
            await public(scope, receive, send)
        assert _kept() == before

    asyncio.run(scenario())
