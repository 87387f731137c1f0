"""The ports through which a session reaches its node and the keys of tokens; transport.py has that to the socket."""

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
    ClientInfo,
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
    """The clients of the node that have authenticated."""

    def add(self, client: C) -> None:
        """From now on the node finds it."""

    def remove(self, client: C) -> None:
        """One that was never added is ignored."""

    def connections(self, user: User) -> int:
        """Connections of a user on this node."""

    def channels(self, user: User) -> int:
        """Channels of a user on this node, over all its connections."""

    def share(self, user: User, *, subscribes: int, publishes: int) -> Share:
        """What the connections of a user have together, with these limits (a second, 0 for any number) from now on."""


class Joiner(Protocol):
    """A subscription on its way into a channel where it has to be told first where it stands."""

    @property
    def ready(self) -> bool:
        """Whether `finish` can be called now; may change until it is."""

    @property
    def lane(self) -> Destination:
        """What to join."""

    def start(self) -> None:
        """Read what is needed. May call `changed` at once."""

    def finish(self) -> Joined:
        """Where the subscription begins. Whoever calls this joins the lane at once. Only when `ready`."""

    def cancel(self) -> None:
        """Nobody waits any more."""


class PubSub(Protocol[C]):
    """What a session publishes, subscribes to and reads. Completions are called once, possibly at once."""

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        """`done` gets the result once the broker has accepted it; BrokerUnavailable or OutcomeUnknown otherwise."""

    def acquire(self, channel: Channel, done: SubscribeDone) -> None:
        """Let publications of the channel reach this node. Pairs with `release`, but for an error."""

    def release(self, channel: Channel) -> None:
        """End what `acquire` began successfully, of a channel that was not joined."""

    def prepare_join(
        self,
        spec: ChannelSpec,
        since: Position | None,
        changed: Callable[[RequestError | None], None],
        *,
        interval: float | None,
    ) -> Joiner | None:
        """What has to happen before an acquired channel can be joined; None for nothing.

        The client has seen all until `since`, if it says so. Of a channel with latest values it gets at most one
        publication per key and `interval` (seconds; None: as configured). `changed` is called whenever the joiner has
        become ready, or with the error that ends it.
        """

    def join(self, channel: Channel, lane: Destination, client: C, encoder: Encoder, write: Write) -> None:
        """Deliver the acquired channel to a client from now on; `lane` as its joiner says, else the channel."""

    def redirect(self, lane: Destination, client: C, encoder: Encoder, write: Write) -> None:
        """Exchange the write of a client that has joined, also in the middle of a delivery."""

    def move(self, lane: Destination, client: C, old: Encoder, new: Encoder, write: Write) -> None:
        """Exchange the encoder of a client that has joined, and its write; what it lacks comes in the new form."""

    def leave(self, channel: Channel, lane: Destination, client: C, encoder: Encoder) -> None:
        """End what `join` and its `acquire` began."""

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        """Read the history of a channel."""

    def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
        """Who is in a channel, unless that is more than `limit` members or `room` bytes."""

    def member_counts(self, channel: Channel, done: CountsDone) -> None:
        """How many are in a channel."""


class Application(Protocol):
    """The team's own code, for what is neither published nor subscribed to."""

    def call(self, client: ClientInfo, event: str, data: bytes, done: "Callable[[bytes | RequestError], None]") -> None:
        """A client has a message for the application; `done` gets the answer (JSON), once, possibly at once."""


class Verifier(Protocol):
    """Checks tokens; `done` is called once, possibly at once.

    With Disconnect(INVALID_TOKEN) for what is wrong with one, with RequestError(TOKEN_EXPIRED), or with
    RequestError(INTERNAL), which is temporary, where its key cannot be fetched.
    """

    def connection(self, token: str, done: TokenDone[Identity]) -> None:
        """Who connects."""

    def subscription(self, token: str, done: TokenDone[Grant]) -> None:
        """What it grants; what is wrong with it is a RequestError(PERMISSION_DENIED) here."""

    def either(self, token: str, done: TokenDone[Identity | Grant]) -> None:
        """Who connects by a connection token, what it grants of a subscription token."""
