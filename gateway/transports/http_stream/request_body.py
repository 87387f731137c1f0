"""The body of a request over ASGI."""

from typing import Any


class TooLarge(ValueError):
    """The body is larger than the limit; its text says so."""


async def body_of(receive: Any, limit: int) -> bytes | None:
    """The whole body; None if the client has left. Raises TooLarge above `limit` bytes, before it has all of them."""
    pieces = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes")
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
