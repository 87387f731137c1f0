"""The ports of a wire protocol, the language on the socket: WireProtocol for all connections, Codec for one."""

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from gateway.errors import CloseCode, ErrorCode, UnsubscribeCode
from gateway.messages import (
    ClientInfo,
    ConnectResult,
    Event,
    HistoryPage,
    MemberCounts,
    Position,
    Publication,
    RefreshResult,
    Request,
    SubscribeResult,
)

# Bytes of payload for which deltas are computed in one call: at most 3 ms, even for texts built to be slow.
DIFFERENCE_BYTES = 16 * 1024


class Message(NamedTuple):
    """One message for the socket, before framing."""

    data: bytes
    binary: bool = False


class Codec(Protocol):
    """One connection's side of a wire protocol: its requests, and the replies to them.

    A protocol with one message per request and reply needs no state, and one codec serves all its connections. One with
    its own acknowledgement numbers, or with messages in several parts, makes a new codec for each connection.

    An empty reply means that the protocol has no such message, and nothing is sent.
    """

    def count(self, data: bytes) -> int:
        """An upper bound of the commands in one message, found cheaply: it tells what decoding will cost.

        Returns 1 only if the whole message is one command. Raises Disconnect, as `cut` may.
        """

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        """The command that begins at `start` of a message, and where the next one begins.

        After the last command that is the end of the message. Cutting all commands in turn reads the message only once.
        """

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        """The requests in one command: nearly always one; none if more parts are to come in later messages.

        Raises Disconnect for anything that violates the protocol.
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
        """The reply to a history request."""

    def presence(self, id: int, members: Sequence[ClientInfo]) -> Sequence[Message]:
        """The reply to a presence request: who is in a channel."""

    def presence_stats(self, id: int, counts: MemberCounts) -> Sequence[Message]:
        """The reply to a presence stats request: how many are in a channel."""

    def answered(self, id: int, data: bytes) -> Sequence[Message]:
        """The application's answer to a call; `data` is JSON."""

    def failed(self, id: int, error: ErrorCode) -> Sequence[Message]:
        """The reply to any request that was refused. Raises Disconnect where the protocol has no such reply."""

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        """The last message before the gateway closes the connection. `is_told`: the transport sends the code itself."""


class Heartbeat(enum.Enum):
    """How a protocol finds out that a client is gone."""

    ANSWERED = "clients answer its pings"
    ONE_WAY = "clients do not answer its pings"
    BELOW = "several sessions share a connection, which has pings of its own"


class WireProtocol(Protocol):
    """The part that all connections share: one instance serves them all, and holds no state of any connection.

    An empty answer means that the protocol has no such message, and nothing is sent.
    """

    heartbeat: Heartbeat
    """Who pings, and whether clients answer."""

    def open(self) -> Codec:
        """The codec of a new connection."""

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """Events of one channel, in order, in as few messages as the protocol allows."""

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        """The server subscribed the connection to a channel."""

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        """The server ended a subscription. Raises Disconnect where that ends the connection."""

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        """The server changed the expiry of the connection: in `ttl` seconds, 0 for never."""

    def ping(self) -> Sequence[Message]:
        """The server's ping."""

    def batch(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Replies and pushes merged into as few messages as the protocol allows."""


class StandingProtocol(WireProtocol, Protocol):
    """A wire protocol of a single connection, which tells with each publication where the client stands."""

    def stand(self, channel: str, position: Position | None) -> None:
        """The client is in a channel, and has got everything up to this position."""

    def left(self, channel: str) -> None:
        """It is not any more."""


@runtime_checkable
class DeltaProtocol(WireProtocol, Protocol):
    """A wire protocol that can write a publication as its difference from another one."""

    def events_after(self, base: Publication | None, events: Sequence[Event]) -> Sequence[Message]:
        """As `events`, for clients whose latest publication is `base`; None if they have none yet.

        Up to DIFFERENCE_BYTES of payload are compared with the previous publication; the rest is sent in full.
        """
