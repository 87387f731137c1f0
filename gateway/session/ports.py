"""A session's ports to its node, to the verification of tokens and to the application."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from gateway.auth.identity import Grant, Identity, TokenDone
from gateway.auth.rate_limits import Share
from gateway.broker.base import CountsDone, HistoryDone, MembersDone, PublishDone, SubscribeDone
from gateway.channels import ChannelSpec
from gateway.errors import RequestError
from gateway.hub.encoder import Encoder
from gateway.messages import (
    Channel,
    Destination,
    HistoryQuery,
    Joined,
    Position,
    Publication,
    PublishOptions,
    Retention,
    User,
)
from gateway.session.transport import Write

# The sessions.
C = TypeVar("C", contravariant=True)


class ClientBook(Protocol[C]):
    """The node's authenticated clients."""

    def add(self, client: C) -> None:
        """Make a client known to the node."""

    def remove(self, client: C) -> None:
        """Forget a client; one that was never added is ignored."""

    def connections(self, user: User) -> int:
        """Connections of a user on this node."""

    def channels(self, user: User) -> int:
        """Channels of a user on this node, over all its connections."""

    def share(self, user: User, *, subscribes: int, publishes: int) -> Share:
        """The rate limits that a user's connections share, set to these (per second, 0: unlimited) from now on."""


class Joiner(Protocol):
    """A subscription that is joining a channel, and first has to be told where it begins."""

    @property
    def ready(self) -> bool:
        """Whether `finish` can be called now; may change until it is."""

    @property
    def lane(self) -> Destination:
        """What to join."""

    def start(self) -> None:
        """Read what is needed. May call `changed` at once."""

    def finish(self) -> Joined:
        """Where the subscription begins. Only when `ready`; the caller joins the lane at once."""

    def cancel(self) -> None:
        """Stop joining; nobody waits for it any more."""


class PubSub(Protocol[C]):
    """Publishing, subscribing and reading for sessions. Completions are called once, possibly at once."""

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        """`done` gets the result once the broker has accepted it; BrokerUnavailable or OutcomeUnknown otherwise."""

    def acquire(self, channel: Channel, done: SubscribeDone) -> None:
        """Let publications of the channel reach this node. Pairs with `release`, unless it fails."""

    def release(self, channel: Channel) -> None:
        """Undo a successful `acquire` of a channel that was not joined."""

    def prepare_join(
        self,
        spec: ChannelSpec,
        since: Position | None,
        changed: Callable[[RequestError | None], None],
        *,
        interval: float | None,
    ) -> Joiner | None:
        """A joiner for an acquired channel, or None if it can be joined right away.

        `since` is the position up to which the client has seen everything, if it says so. On a channel with latest
        values it gets at most one publication per key and `interval` (seconds; None: as configured). `changed` is
        called whenever the joiner becomes ready, or with the error that ends it.
        """

    def join(self, channel: Channel, lane: Destination, client: C, encoder: Encoder, write: Write) -> None:
        """Deliver the acquired channel to a client from now on; `lane` is its joiner's, or the channel without one."""

    def redirect(self, lane: Destination, client: C, encoder: Encoder, write: Write) -> None:
        """Replace the `write` of a joined client, even in the middle of a delivery."""

    def move(self, lane: Destination, client: C, old: Encoder, new: Encoder, write: Write) -> None:
        """Replace a joined client's encoder and `write`; what it has not got yet comes in the new encoding."""

    def position(self, channel: Channel) -> Position | None:
        """Where those are who have got all publications; None on a channel without history."""

    def leave(self, channel: Channel, lane: Destination, client: C, encoder: Encoder) -> None:
        """Undo `join` and its `acquire`."""

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        """Read the history of a channel."""

    def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
        """Read the members of a channel, unless these are more than `limit` members or `room` bytes."""

    def member_counts(self, channel: Channel, done: CountsDone) -> None:
        """How many are in a channel."""


class Verifier(Protocol):
    """Checks tokens; `done` is called once, possibly at once.

    Errors are Disconnect(INVALID_TOKEN) for a bad token, RequestError(TOKEN_EXPIRED), and RequestError(INTERNAL),
    which is temporary, when the token's key cannot be fetched.
    """

    def connection(self, token: str, done: TokenDone[Identity]) -> None:
        """Verify a connection token: who connects."""

    def subscription(self, token: str, done: TokenDone[Grant]) -> None:
        """Verify a subscription token: what it grants. A bad one is a RequestError(PERMISSION_DENIED) here."""

    def either(self, token: str, done: TokenDone[Identity | Grant]) -> None:
        """Verify either kind: who connects by a connection token, or what a subscription token grants."""

    def is_surely_revoked(self, token: Identity | Grant) -> bool:
        """Whether it would be INVALID_TOKEN now: it is revoked, and was not issued after the revocation by a clock that
        is behind."""

    def check_revocation(self, token: Identity | Grant) -> None:
        """Raises Disconnect or RequestError for a token that was revoked, or whose user was kicked, since it was
        verified."""

    def opens(self, token: Identity, channel: str) -> bool:
        """Whether a connection token may still open a channel that it names: not if its user was kicked since."""

    @property
    def revocations(self) -> int:
        """How often something was revoked, or somebody was kicked, as far as this node knows."""

    def is_revoked_since(self, revocations: int, user: str, channel: str = "") -> bool:
        """Whether this node has heard, since `revocations` was this, that the user was revoked, or kicked from the
        channel."""
