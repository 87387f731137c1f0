"""What a token proves: who a connection is (Identity), or that a user may enter a channel (Grant)."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from gateway.control import RevokeTokens
from gateway.errors import Disconnect, RequestError


class ServerSub(msgspec.Struct, frozen=True, gc=False):
    """A channel that the token subscribes the connection to. JSON texts, empty for none."""

    # The chan_info of the client's publications.
    info: bytes = b""
    # Goes to the client with the subscription.
    data: bytes = b""


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a connection is."""

    app: str
    # Empty for an anonymous client.
    user: str
    jti: str = ""
    # Unix time in whole seconds, 0 if the token does not say. By the clock of the signer, which may be ahead.
    issued_at: int = 0
    # Unix time in seconds at which the connection must be refreshed, 0 for never.
    expire_at: int = 0
    # A JSON text: the conn_info of the client's publications.
    info: bytes = b""
    subs: dict[str, ServerSub] | None = None
    # `expire_at` is the application's: it is asked to extend the connection, and the client is not told.
    extended: bool = False


class Grant(msgspec.Struct, frozen=True, gc=False):
    """Permission for a user to enter a channel."""

    app: str
    user: str
    channel: str
    # Only this connection, when not empty.
    client: str = ""
    # A JSON text: the chan_info of the client's publications.
    info: bytes = b""
    # Unix time in seconds at which the subscription must be refreshed, 0 for never.
    expire_at: int = 0
    jti: str = ""
    issued_at: int = 0
    # With latest values: seconds between two publications of a key; None: as configured.
    latest_interval: float | None = None


T = TypeVar("T", Identity, Grant, Identity | Grant)
TokenDone = Callable[[T | RequestError | Disconnect], None]


def is_meant(revoked: RevokeTokens, token: Identity | Grant) -> bool:
    """Whether a token is among the revoked ones."""
    if token.app != revoked.app:
        return False
    if revoked.jti:
        return token.jti == revoked.jti
    return bool(revoked.user) and token.user == revoked.user and token.issued_at < revoked.issued_before
