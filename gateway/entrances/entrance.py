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
    """WebSocket messages (RFC 6455) in both directions."""


class OverHttpStream(NamedTuple):
    """Messages form the body of an HTTP response that does not end."""

    # What hooks are told.
    name: str
    content_type: str
    delimit: Delimit
    # Text that clients skip. It keeps proxies and clients from closing a silent connection.
    keep_alive: bytes
    # HTTP methods of the request.
    methods: Sequence[str] = ("GET",)
    # Whether the client sends more, in requests to /emulation. Else it sends only its request.
    is_emulated: bool = False


class Welcome(NamedTuple):
    """How a client's session begins."""

    # The channel of publishes without a channel name, for clients with a single channel.
    home: str = ""
    # Requests implied by the handshake.
    initial: Sequence[Request] = ()
    # What an emulated client has sent with its request already: a message, and whether its messages are binary.
    first: bytes = b""
    is_binary: bool = False
    # Of an HTTP response, if it is another one than that of the carrier.
    content_type: str = ""
    # The WebSocket subprotocol to accept, one that the client offers.
    subprotocol: str | None = None
    # A variant of the entrance's protocol, the same object for all its clients; None for the protocol itself.
    variant: WireProtocol | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """One way in."""

    # What hooks are told.
    name: str
    # As in a Starlette route.
    path: str
    carrier: OverWebSocket | OverHttpStream
    protocol: WireProtocol
    welcome: Callable[[Handshake, str], Welcome]
    """Reads the handshake. Its second argument names the cookie that may hold a token; empty for none.

    Raises HandshakeRefused.
    """
