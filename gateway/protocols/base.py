"""The port of a wire protocol: the language on the socket."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gateway.errors import ErrorCode, UnsubscribeCode
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


class WireProtocol(Protocol):
    """Turns what a client sent into requests, and replies and publications into messages.

    An empty answer means that the protocol has no such message; nothing is sent then.
    Instances hold no state of a connection: one serves all connections of its kind.
    """

    name: str
    """Short name for logs and metrics."""

    def decode(self, data: bytes, *, binary: bool) -> Sequence[Request]:
        """The requests in one message, in order. Raises Disconnect for what is not the protocol's."""

    def count(self, data: bytes) -> int:
        """How many commands one message may hold: what it costs to read it, told at next to no cost."""

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        """The command that begins at `start` of a message, to be decoded by itself, and where the next one begins.

        That is the end of the message behind the last. Whoever takes one after another reads the message once.
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

    def failed(self, id: int, error: ErrorCode) -> Sequence[Message]:
        """The reply to any request that was refused."""

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """What came to one channel, in order, in as few messages as the protocol allows."""

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        """The server subscribed the connection to a channel."""

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        """The server ended a subscription."""

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        """The server changed when the connection expires: in `ttl` seconds, 0 for never."""

    def ping(self) -> Sequence[Message]:
        """The server's ping."""


class DeltaProtocol(WireProtocol, Protocol):
    """A wire protocol that can write a publication as its difference from another one."""

    def events_after(self, base: Publication | None, events: Sequence[Event]) -> Sequence[Message]:
        """As `events`, for clients that got `base` last; None for those who got nothing yet.

        At most DIFFERENCE_BYTES of the publications are compared with the one before; those that follow are whole.
        """
