"""The port of a wire protocol, the language on the socket: what all its connections share, and what one has alone."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from gateway.errors import CloseCode, ErrorCode, UnsubscribeCode
from gateway.messages import (
    ClientInfo,
    ConnectResult,
    Event,
    HistoryPage,
    MemberCounts,
    Publication,
    RefreshResult,
    Request,
    SubscribeResult,
)

# Bytes of payload for which differences are computed in one call: 3 ms at most, where texts are made to take long.
DIFFERENCE_BYTES = 16 * 1024


class Message(NamedTuple):
    """One message of the socket before it is framed."""

    data: bytes
    binary: bool = False


class Codec(Protocol):
    """One connection's side of a wire protocol: its requests, and the replies to them.

    A protocol whose requests and replies are told by one message each needs no state, and one codec serves all its
    connections. One with acknowledgement numbers of its own, or with messages in several parts, makes a new codec for
    each connection.

    An empty reply means that the protocol has no such message; nothing is sent then.
    """

    def count(self, data: bytes) -> int:
        """How many commands one message may hold: what it costs to read it, told at next to no cost.

        1 only for a message that is one command as a whole. Raises Disconnect, as `cut` may.
        """

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        """The command that begins at `start` of a message, and where the next one begins.

        The second is the end of the message behind its last command. To take all commands one after another reads the
        message once.
        """

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        """The requests in one command, nearly always one; none where parts are still to come in other messages.

        Raises Disconnect for anything that is not of the protocol.
        """

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        """The reply to a connect."""

    def subscribed(self, id: int, channel: str, result: SubscribeResult) -> Sequence[Message]:
        """The reply to a subscribe."""

    def refreshed(self, id: int, result: RefreshResult) -> Sequence[Message]:
        """The reply to a refresh."""

    def sub_refreshed(self, id: int, result: SubscribeResult) -> Sequence[Message]:
        """The reply to a refresh of a subscription."""

    def unsubscribed(self, id: int) -> Sequence[Message]:
        """The reply to an unsubscribe."""

    def published(self, id: int) -> Sequence[Message]:
        """The reply to a publish that the broker accepted."""

    def history(self, id: int, page: HistoryPage) -> Sequence[Message]:
        """The reply to a read of the history."""

    def presence(self, id: int, members: Sequence[ClientInfo]) -> Sequence[Message]:
        """The reply to who is in a channel."""

    def presence_stats(self, id: int, counts: MemberCounts) -> Sequence[Message]:
        """The reply to how many are in a channel."""

    def answered(self, id: int, data: bytes) -> Sequence[Message]:
        """The application's answer to a call; `data` is JSON."""

    def failed(self, id: int, error: ErrorCode) -> Sequence[Message]:
        """The reply to any request that was refused. Raises Disconnect where the protocol has no such reply."""

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        """The last message, before the gateway closes the connection. `is_told`: the transport tells the code."""


class WireProtocol(Protocol):
    """What all connections of a kind have in common: one instance serves them all, and holds no state of any.

    An empty answer means that the protocol has no such message; nothing is sent then.
    """

    def open(self) -> Codec:
        """The codec of a new connection."""

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """What came to one channel, in order, in as few messages as the protocol allows."""

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        """The server subscribed the connection to a channel."""

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        """The server ended a subscription. Raises Disconnect where that ends the connection."""

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        """The server changed when the connection expires: in `ttl` seconds, 0 for never."""

    def ping(self) -> Sequence[Message]:
        """The server's ping."""

    def batch(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The same messages, replies and pushes, in as few as the protocol allows."""


@runtime_checkable
class DeltaProtocol(WireProtocol, Protocol):
    """A wire protocol that can write a publication as its difference from another one."""

    def events_after(self, base: Publication | None, events: Sequence[Event]) -> Sequence[Message]:
        """As `events`, for clients that got `base` last; None for those who got nothing yet.

        At most DIFFERENCE_BYTES of the publications are compared with the one before; those that follow are whole.
        """
