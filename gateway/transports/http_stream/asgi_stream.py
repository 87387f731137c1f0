"""An HTTP response that does not end, over plain ASGI."""

import asyncio
from typing import Any

from gateway.errors import CloseCode
from gateway.transports.asgi_transport import AsgiTransport
from gateway.transports.socket_transport import ABNORMAL


class AsgiStream(AsgiTransport):
    """Writes the body; the head is sent already."""

    async def _receive_all(self, receive: Any) -> tuple[int, str]:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._open = False
        return ABNORMAL, ""

    async def _await_end(self, receiver: "asyncio.Task[tuple[int, str]]") -> None:
        """Clients do not answer the end of a response."""

    async def _send_block(self, block: bytes) -> None:
        await self._send({"type": "http.response.body", "body": block, "more_body": True})

    async def _send_end(self, code: CloseCode) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
