"""What can go wrong, as data: the errors a client is answered with, and the codes a connection is closed with.

The numbers are those of the Centrifuge client protocol, so that its SDKs react as their authors intended.
Other wire protocols map them in one place each.
"""

from typing import NamedTuple, Self


class ErrorCode(NamedTuple):
    """An error in a reply. `temporary` tells the client that the same request may succeed later."""

    code: int
    message: str
    temporary: bool = False


INTERNAL = ErrorCode(100, "internal server error", temporary=True)
UNKNOWN_CHANNEL = ErrorCode(102, "unknown channel")
PERMISSION_DENIED = ErrorCode(103, "permission denied")
METHOD_NOT_FOUND = ErrorCode(104, "method not found")
ALREADY_SUBSCRIBED = ErrorCode(105, "already subscribed")
LIMIT_EXCEEDED = ErrorCode(106, "limit exceeded")
BAD_REQUEST = ErrorCode(107, "bad request")
NOT_AVAILABLE = ErrorCode(108, "not available")
TOKEN_EXPIRED = ErrorCode(109, "token expired")
# SDKs fetch a fresh token after 109. Being temporary, it also makes them do so where an error to a refresh is final.
TOKEN_TOO_EARLY = ErrorCode(109, "token not valid yet", temporary=True)
EXPIRED = ErrorCode(110, "expired")
TOO_MANY_REQUESTS = ErrorCode(111, "too many requests", temporary=True)
UNRECOVERABLE = ErrorCode(112, "unrecoverable position")


class CloseCode(NamedTuple):
    """Why a connection ends. Clients reconnect on codes below 3500 and 4000-4499, and stay away on the others."""

    code: int
    reason: str

    @property
    def is_final(self) -> bool:
        """Whether clients stay away."""
        return not (3000 <= self.code < 3500 or 4000 <= self.code < 4500)


# RFC 6455 section 7.4.1: clients do not come back with the same message.
MESSAGE_TOO_BIG = CloseCode(1009, "message too big")
CONNECTION_CLOSED = CloseCode(3000, "connection closed")
SHUTDOWN = CloseCode(3001, "shutdown")
SERVER_ERROR = CloseCode(3004, "internal server error")
CONNECTION_EXPIRED = CloseCode(3005, "connection expired")
SUBSCRIPTION_EXPIRED = CloseCode(3006, "subscription expired")
SLOW = CloseCode(3008, "slow")
INSUFFICIENT_STATE = CloseCode(3010, "insufficient state")
NO_PONG = CloseCode(3012, "no pong")
TOO_MANY_COMMANDS = CloseCode(3013, "too many requests")
INVALID_TOKEN = CloseCode(3500, "invalid token")
BAD_COMMAND = CloseCode(3501, "bad request")
FORCE_DISCONNECT = CloseCode(3503, "force disconnect")
CONNECTION_LIMIT = CloseCode(3504, "connection limit")
CHANNEL_LIMIT = CloseCode(3505, "channel limit")
NOT_PERMITTED = CloseCode(3507, "permission denied")
NO_HANDLER = CloseCode(3508, "not available")
# The protocol's own code for a connection that never authenticates (3502) is final: a client that was merely slow would
# stay away for good. This one is from the range of custom codes after which SDKs reconnect.
STALE = CloseCode(4000, "connect timeout")
# For protocols without replies, instead of error 112: asking again with the same position would fail again.
POSITION_GONE = CloseCode(4500, "unrecoverable position")


class UnsubscribeCode(NamedTuple):
    """Why a subscription ends while its connection stays. Clients subscribe again on codes from 2500."""

    code: int
    reason: str


UNSUBSCRIBED_BY_SERVER = UnsubscribeCode(2000, "server unsubscribe")
UNSUBSCRIBED_INSUFFICIENT = UnsubscribeCode(2500, "insufficient state")
UNSUBSCRIBED_EXPIRED = UnsubscribeCode(2501, "expired")


# In events only, since nobody is there to be told: the code of an unsubscribe that the client asked for, or that came
# with the end of its connection; and that of connections whose node has died.
UNSUBSCRIBED_BY_CLIENT = UnsubscribeCode(0, "client unsubscribed")
UNSUBSCRIBED_BY_DISCONNECT = UnsubscribeCode(1, "client disconnected")
NODE_LOST = CloseCode(3014, "node lost")


class GatewayError(Exception):
    """The root of everything the gateway raises on purpose."""

    def detach(self) -> Self:
        """Itself, without the stack frames it was raised in: for code that keeps it or passes it on as a value.

        The frames refer to their local variables (a token, a session) and often to the error itself. Such a cycle stays
        in memory until the garbage collector finds it.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self


class ConfigError(GatewayError):
    """A setting is unknown or wrong. The text names the key, the value and what is allowed."""


class RequestError(GatewayError):
    """The request is answered with an error; the connection stays."""

    def __init__(self, error: ErrorCode, detail: str = "", setting: str = "") -> None:
        """`detail` is for the log and, where the caller is a backend, for the answer. `setting` would allow it."""
        super().__init__(f"{error.message}: {detail}" if detail else error.message)
        self.error = error
        self.detail = detail
        self.setting = setting


class Disconnect(GatewayError):
    """The connection is closed with `code`."""

    def __init__(self, code: CloseCode, detail: str = "") -> None:
        super().__init__(f"{code.reason}: {detail}" if detail else code.reason)
        self.code = code
        self.detail = detail


class BrokerUnavailable(RequestError):
    """The broker did not take the operation, and will not do so later: it may be repeated."""

    def __init__(self, detail: str) -> None:
        super().__init__(INTERNAL, detail)


class OutcomeUnknown(RequestError):
    """The link to the broker broke while the operation was in flight: it may or may not have taken effect.

    Repeating a publish that carries an idempotency key is safe; without one it may arrive twice.
    """

    def __init__(self, detail: str, reason: str = "") -> None:
        """`reason` is the detail without what it means for the operation."""
        super().__init__(INTERNAL, detail)
        self.reason = reason or detail
