"""The base of protocols with one channel per connection. They have no replies, so an error closes the connection."""

from collections.abc import Sequence
from typing import NoReturn

from gateway import errors
from gateway.errors import CloseCode, Disconnect, ErrorCode, UnsubscribeCode
from gateway.messages import (
    ClientInfo,
    ConnectResult,
    Event,
    HistoryPage,
    MemberCounts,
    RefreshResult,
    Request,
    SubscribeResult,
)
from gateway.protocols.wire_protocol import Heartbeat, Message

# The code that closes the connection in place of an error reply. Clients reconnect on codes below 3500.
CLOSE_CODES: dict[ErrorCode, CloseCode] = {
    errors.INTERNAL: errors.SERVER_ERROR,
    errors.TOO_MANY_REQUESTS: errors.TOO_MANY_COMMANDS,
    errors.TOKEN_EXPIRED: errors.CONNECTION_EXPIRED,
    errors.TOKEN_TOO_EARLY: errors.CONNECTION_EXPIRED,
    errors.EXPIRED: errors.CONNECTION_EXPIRED,
    errors.PERMISSION_DENIED: errors.NOT_PERMITTED,
    errors.NOT_AVAILABLE: errors.NO_HANDLER,
    errors.LIMIT_EXCEEDED: errors.CHANNEL_LIMIT,
    errors.UNRECOVERABLE: errors.POSITION_GONE,
}

# For the log: why a position cannot be continued from.
NO_HISTORY = "a position was given, and the channel has no history"
GONE = "what was missed is not in the history any more"


class OneChannel:
    """Everything but `events`, for clients that only listen. Stateless, so it is also its own codec."""

    heartbeat = Heartbeat.ONE_WAY

    def open(self) -> "OneChannel":
        """As in WireProtocol."""
        return self

    def count(self, data: bytes) -> int:
        return 1

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        return data, len(data)

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        """Raises Disconnect."""
        raise Disconnect(errors.BAD_COMMAND, "this client can only listen")

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """As in WireProtocol."""
        raise NotImplementedError

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        """The missed publications of the one channel, if the token subscribed the connection to it."""
        return [message for name, sub in (result.subs or {}).items() for message in self.subscribed(id, name, sub)]

    def subscribed(self, id: int, channel: str, result: SubscribeResult) -> Sequence[Message]:
        """The missed publications. Raises Disconnect if they are gone: the client must not believe it has them all."""
        if result.recovered is False:
            raise Disconnect(errors.POSITION_GONE, NO_HISTORY if result.position is None else GONE)
        return self.events(result.publications)

    def refreshed(self, id: int, result: RefreshResult) -> Sequence[Message]:
        return ()

    def sub_refreshed(self, id: int, result: SubscribeResult) -> Sequence[Message]:
        return ()

    def unsubscribed(self, id: int) -> Sequence[Message]:
        return ()

    def published(self, id: int) -> Sequence[Message]:
        return ()

    def history(self, id: int, page: HistoryPage) -> Sequence[Message]:
        return ()

    def presence(self, id: int, members: Sequence[ClientInfo]) -> Sequence[Message]:
        return ()

    def presence_stats(self, id: int, counts: MemberCounts) -> Sequence[Message]:
        return ()

    def answered(self, id: int, data: bytes) -> Sequence[Message]:
        return ()

    def failed(self, id: int, error: ErrorCode) -> NoReturn:
        """Raises Disconnect: the client must not believe that its request succeeded. The reason is the error's."""
        raise Disconnect(CLOSE_CODES.get(error, errors.BAD_COMMAND)._replace(reason=error.message))

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        return self.subscribed(0, channel, result)

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> NoReturn:
        """Raises Disconnect: without its one channel the connection has no purpose."""
        if code == errors.UNSUBSCRIBED_BY_SERVER:
            raise Disconnect(errors.FORCE_DISCONNECT)
        if code == errors.UNSUBSCRIBED_EXPIRED:
            raise Disconnect(errors.SUBSCRIPTION_EXPIRED)
        raise Disconnect(errors.INSUFFICIENT_STATE)

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        return ()

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        return ()

    def ping(self) -> Sequence[Message]:
        return ()

    def batch(self, messages: Sequence[Message]) -> Sequence[Message]:
        return messages
