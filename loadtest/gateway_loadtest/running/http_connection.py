"""TCP connections for HTTP, with TLS or without."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import cache
from typing import TypeVar
from urllib.parse import urlsplit

P = TypeVar("P", bound=asyncio.Protocol)
Source = Callable[[object], socket.socket] | None


async def connect_to(url: str, make: Callable[[], P], source: Source) -> P:
    """To the host of a URL. `source` makes the socket, or the system does. Raises OSError (also of TLS)."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    host, tls = parts.hostname or "", _tls() if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    if source is None:
        return (await loop.create_connection(make, host, port, ssl=tls))[1]
    made = source(None)
    try:
        await loop.sock_connect(made, (host, port))
        name = host if tls else None
        return (await loop.create_connection(make, sock=made, ssl=tls, server_hostname=name))[1]
    except BaseException:
        made.close()
        raise


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
