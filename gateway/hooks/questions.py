"""What hooks are asked."""

import re
from collections.abc import Collection, Iterable
from typing import Any, Protocol, TypeAlias

import msgspec

from gateway.messages import Kind

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

# RFC 9110 section 5.5. Servers let other characters pass, and HTTP clients refuse to send them.
_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


def chosen(headers: Iterable[tuple[bytes, bytes]], names: Collection[bytes]) -> Headers:
    """The headers of these names (in lower case), each once: its values joined, unless one is malformed."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in names:
            # RFC 6265 section 5.4, RFC 9110 section 5.3.
            separator = b"; " if name == b"cookie" else b", "
            found[name] = found[name] + separator + value if name in found else value
    return tuple((name, value) for name, value in found.items() if _FIELD_VALUE.fullmatch(value))


class Handshake(Protocol):
    """The HTTP request that a client opened its connection with."""

    @property
    def scope(self) -> dict[str, Any]:
        """The ASGI scope."""

    def header(self, name: str) -> str:
        """The value of a header; joined by commas if it was sent more than once, empty if it was not sent."""

    def cookie(self, name: str) -> str:
        """The value of a cookie, without its quotes; empty if it was not sent."""

    def parameter(self, name: str) -> str:
        """The last value of a name in the query string; empty if there is none."""


class Peer:
    """What a session knows of its client for the sake of hooks."""

    __slots__ = ("address", "forwarded", "handshake", "meta", "protocol", "transport")

    def __init__(
        self,
        handshake: Handshake | None,
        *,
        address: str,
        protocol: str,
        transport: str,
        forwarded: Headers = (),
    ) -> None:
        """`handshake` is for the connect hook; None without one. `forwarded`: what later hooks get of it."""
        self.address = address
        self.protocol = protocol
        self.transport = transport
        self.forwarded = forwarded
        # It holds the whole request, so it is kept until the client has connected.
        self.handshake = handshake
        # What the connect hook wants to find again.
        self.meta: Any = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests have."""

    # The id of the connection. Other clients may see it.
    client: str
    # The id of the user; empty for an anonymous client. In `connect`, whom the client's token names.
    user: str
    # The client's address as far as trusted proxies vouch for it; empty on a Unix socket.
    address: str
    # "centrifuge", "centrifuge_uni", "plain", "socketio" or "sse".
    protocol: str
    # "websocket", "polling", "http_stream" or "sse": that of the first request.
    transport: str
    # What `ConnectResult.meta` was.
    meta: Any = None
    # Headers of the handshake that hooks over HTTP get (`hooks.http.headers`).
    forwarded: Headers = ()

    @property
    def whose(self) -> str:
        """Whose turn it takes: clients take turns."""
        return self.client

    @property
    def blamed(self) -> str:
        """Whom its failures count for."""
        return self.user or self.address or self.client


def _decoded(raw: bytes, kind: Kind = Kind.JSON) -> Any:
    if kind is Kind.JSON:
        return msgspec.json.decode(raw) if raw else None
    return raw.decode() if kind is Kind.TEXT else raw


class ConnectRequest(Request, frozen=True, kw_only=True):
    """A client connects. With a token, that token has been verified."""

    # The HTTP request that it opened its connection with.
    handshake: Handshake
    # What the client says about itself: its payload (JSON; empty for none), and its name and version.
    raw: bytes = b""
    name: str = ""
    version: str = ""
    # Channels that the server had subscribed it to, in which it wants to recover.
    channels: tuple[str, ...] = ()

    @property
    def data(self) -> Any:
        """The payload that the client sent with its connect command; None without one."""
        return _decoded(self.raw)

    @property
    def scope(self) -> dict[str, Any]:
        """The ASGI scope of the handshake, for libraries that read it. (`starlette.requests.HTTPConnection(scope)`)"""
        return self.handshake.scope

    def header(self, name: str) -> str:
        """The value of a header; joined by commas if it was sent more than once, empty if it was not sent."""
        return self.handshake.header(name)

    def cookie(self, name: str) -> str:
        """The value of a cookie, without its quotes; empty if it was not sent."""
        return self.handshake.cookie(name)

    def parameter(self, name: str) -> str:
        """The last value of a name in the query string; empty if there is none."""
        return self.handshake.parameter(name)


class RefreshRequest(Request, frozen=True, kw_only=True):
    """A connection that a connect hook let in is about to expire."""


class SubscribeRequest(Request, frozen=True, kw_only=True):
    """A client subscribes without a token."""

    # The name of the channel.
    channel: str
    # The payload that the client sent with it: JSON, empty for none.
    raw: bytes = b""

    @property
    def data(self) -> Any:
        """The payload that the client sent with its subscribe command; None without one."""
        return _decoded(self.raw)


class SubRefreshRequest(Request, frozen=True, kw_only=True):
    """A subscription that a subscribe hook allowed is about to expire."""

    # The name of the channel.
    channel: str


class PublishRequest(Request, frozen=True, kw_only=True):
    """A client publishes."""

    # The name of the channel.
    channel: str
    # The payload as bytes, and what they are.
    raw: bytes
    kind: Kind = Kind.JSON
    # The payload as the model of the namespace has it (`hooks.payload`); None without a model.
    payload: Any = None

    @property
    def data(self) -> Any:
        """The payload: a JSON value, a text or bytes."""
        return _decoded(self.raw, self.kind)


class RpcRequest(Request, frozen=True, kw_only=True):
    """A client calls the application."""

    # The name that the client calls.
    method: str
    # The payload: JSON, empty for none.
    raw: bytes = b""
    # Whether the client waits for an answer.
    is_answered: bool = True

    @property
    def data(self) -> Any:
        """The payload; None without one."""
        return _decoded(self.raw)
