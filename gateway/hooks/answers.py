"""What hooks answer: results, and exceptions that refuse."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import PERMISSION_DENIED, ErrorCode

# Codes of errors that applications choose: below are those of the protocol, above is no room for them.
LEAST_ERROR, MOST_ERROR = 400, 1999
# Codes of the protocol's transports and of applications. Clients reconnect on 3000-3499 and 4000-4499.
LEAST_CLOSE, MOST_CLOSE = 3000, 4999
# RFC 6455 section 5.5: a control frame carries 125 bytes, two of them are the code.
REASON_BYTES = 123

# Checked when a hook returns.
UserId = Annotated[str, Meta(max_length=255)]
UnixTime = Annotated[int, Meta(ge=0, le=2**53)]
Tags = Annotated[dict[str, str], Meta(max_length=64)]
IdempotencyKey = Annotated[str, Meta(max_length=256)]


class Denied(Exception):
    """Raise this to refuse: the client is answered with an error, by default 103 (permission denied).

    `code` is 400 to 1999 for an error of your own. `temporary` tells the client to try again.
    """

    def __init__(self, message: str = "", *, code: int = PERMISSION_DENIED.code, temporary: bool = False) -> None:
        super().__init__(message)
        if code != PERMISSION_DENIED.code and not LEAST_ERROR <= code <= MOST_ERROR:
            raise ValueError(f"Denied: code {code}, expected {PERMISSION_DENIED.code} or {LEAST_ERROR} to {MOST_ERROR}")
        self.error = ErrorCode(code, message or PERMISSION_DENIED.message, temporary)


class Disconnect(Exception):
    """Raise this to close the connection. Clients reconnect on 4000 to 4499 and stay away on 4500 to 4999."""

    def __init__(self, code: int = 4500, reason: str = "disconnected") -> None:
        super().__init__(reason)
        if not LEAST_CLOSE <= code <= MOST_CLOSE:
            raise ValueError(f"Disconnect: code {code}, expected {LEAST_CLOSE} to {MOST_CLOSE}")
        if len(reason.encode()) > REASON_BYTES:
            raise ValueError(f"Disconnect: the reason has more than {REASON_BYTES} bytes")
        self.code = code
        self.reason = reason


class ServerSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that the connect hook subscribes the client to. JSON values."""

    # Shown with the client's publications and presence in the channel (chan_info).
    info: Any = None
    # Goes to the client with the subscription.
    data: Any = None


class ConnectResult(msgspec.Struct, frozen=True, kw_only=True):
    """Lets the client in."""

    # None: the user of the client's token; without a token, as `auth.anonymous` says. Empty: anonymous.
    user: UserId | None = None
    # A JSON value, shown with the client's publications and presence (conn_info). None: that of the token.
    info: Any = None
    # A JSON value that goes to the client with the reply.
    data: Any = None
    # Unix time in seconds at which the refresh hook is asked, or else the connection ends. 0: never; None: as in the
    # client's token.
    expire_at: UnixTime | None = None
    # Channels to subscribe the client to: names, or what goes with each.
    channels: Sequence[str] | Mapping[str, ServerSubscription] = ()
    # Later hooks get it as `request.meta`. It stays on this node, unless a disconnect or unsubscribe hook is declared:
    # then it is kept as JSON in Redis, too.
    meta: Any = None


class RefreshResult(msgspec.Struct, frozen=True, kw_only=True):
    """Lets the connection live on. (To end it, raise Denied or Disconnect.)"""

    # As in ConnectResult.
    expire_at: UnixTime = 0
    # As in ConnectResult, for what comes from now on. None: as before.
    info: Any = None


class SubscribeResult(msgspec.Struct, frozen=True, kw_only=True):
    """Lets the client subscribe."""

    # A JSON value, shown with the client's publications and presence in the channel (chan_info).
    info: Any = None
    # A JSON value that goes to the client with the reply.
    data: Any = None
    # Unix time in seconds at which the sub_refresh hook is asked, or else the subscription ends. 0: never.
    expire_at: UnixTime = 0


class SubRefreshResult(msgspec.Struct, frozen=True, kw_only=True):
    """Lets the subscription live on. (To end it, raise Denied or Disconnect.)"""

    # As in SubscribeResult.
    expire_at: UnixTime = 0
    # As in SubscribeResult, for what comes from now on. None: as before.
    info: Any = None


class PublishResult(msgspec.Struct, frozen=True, kw_only=True):
    """Lets the client publish, with what the hook makes of it."""

    # What is published in place of what the client sent: a JSON value, or bytes. UNSET: what it sent.
    data: Any = msgspec.UNSET
    # Delivered with it.
    tags: Tags | None = None
    # Publishing again with the same key within five minutes changes nothing.
    idempotency_key: IdempotencyKey = ""
    # Deliver it now, without storing it.
    skip_history: bool = False
