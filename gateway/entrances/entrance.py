"""What an entrance is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.messages import Request
from gateway.protocols.wire_protocol import WireProtocol
from gateway.transports.handshake import Handshake
from gateway.transports.http_stream.stream_framing import Delimit


@dataclass(frozen=True)
class OverWebSocket:
    """Messages are those of a WebSocket (RFC 6455), in both directions."""


class OverHttpStream(NamedTuple):
    """Messages are the body of an HTTP response that does not end; the client says nothing but its request."""

    content_type: str
    delimit: Delimit
    # What clients skip, to keep proxies and clients from taking silence for the end.
    keep_alive: bytes


class Welcome(NamedTuple):
    """How the session of a client begins."""

    # The channel of publishes that name none, for clients that have one channel.
    home: str = ""
    # Requests that the client made by coming in.
    initial: Sequence[Request] = ()
    # The WebSocket subprotocol to accept, of those that the client offers.
    subprotocol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """One way in."""

    # Of a Starlette route.
    path: str
    carrier: OverWebSocket | OverHttpStream
    protocol: WireProtocol
    welcome: Callable[[Handshake, str], Welcome]
    """Reads what the client said; gets the name of the cookie that may hold a token, empty for none.

    Raises HandshakeRefused.
    """
