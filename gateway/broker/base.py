"""The two ports between the nodes: the broker carries messages, the registry holds what the cluster knows of itself.

Every implementation passes the contract suite in tests/broker/.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway.control import Answer, ChannelPage, Control, ControlResult, NodeInfo, Revocation
from gateway.errors import RequestError
from gateway.messages import (
    Channel,
    ClientId,
    ClientInfo,
    Event,
    HistoryPage,
    HistoryQuery,
    Latest,
    MemberCounts,
    Position,
    PresenceRules,
    Publication,
    PublishOptions,
    PublishResult,
    Retention,
)

# An outcome is the result or an error; a completion is called on the event loop, exactly
# once. Each method says whether that may happen before it returns.
PublishDone = Callable[[PublishResult | RequestError], None]
SubscribeDone = Callable[[RequestError | None], None]
MembersDone = Callable[[list[ClientInfo] | RequestError], None]
CountsDone = Callable[[MemberCounts | RequestError], None]
HistoryDone = Callable[[HistoryPage | RequestError], None]


class Health(NamedTuple):
    """Whether messages pass through the broker right now; `reason` says why not."""

    ok: bool
    reason: str = ""


class Receiver(Protocol):
    """What a broker calls, on the event loop. None of these may block, and none may raise but `catch_up`."""

    def on_events(self, channel: Channel, events: Sequence[Event]) -> None:
        """What came to one subscribed channel in the order of the broker, all that arrived together at once."""

    def on_control(self, message: Control) -> Answer:
        """A control message for this node, its own included."""

    async def catch_up(self) -> None:
        """The link stands, for the first time or again; nothing is delivered before this returns.

        Raises BrokerUnavailable: the link is then given up, and made anew.
        """

    def on_control_lost(self) -> None:
        """The node was cut off for so long that control messages were dropped which it has not seen."""

    def on_gap(self, channels: Sequence[Channel]) -> None:
        """Publications of these subscribed channels may have been missed. They are subscribed again by now."""

    def on_unreadable(self, channels: Sequence[Channel]) -> None:
        """Publications that this version cannot read came to these channels; they lie in their streams."""


class Standing(NamedTuple):
    """Where the subscribers of a stream stand."""

    channel: Channel
    history: Retention
    position: Position


class Broker(Protocol):
    """Carries publications and control messages between nodes.

    Order: all nodes see the publications of a channel in one order. Publishes of one node to one channel keep
    the order of their calls.

    Streams: publications with history get the offsets 1, 2, 3... of an epoch (epochs.py), in the order in which they
    are delivered. Where the broker cannot be sure that the stream is whole (its server was restarted, or another
    one took over), the stream begins anew with another epoch.
    """

    async def start(self, receiver: Receiver) -> None:
        """Connect. Returns when the broker is usable; raises BrokerUnavailable with the reason after a few seconds."""

    async def stop(self) -> None:
        """Disconnect. Operations under way complete with an error first. Safe to call twice, and before start."""

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        """Publish; `done` gets the result once the broker has accepted it, and only then.

        Errors: BrokerUnavailable (not taken; may be called before `publish` returns), OutcomeUnknown (the link
        broke or the time limit passed while it was under way; never sent again by the broker).
        """

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        """Read a channel's stream. Nothing is kept of one that nobody published to; its position is offset 0.

        What was published before the call is in it. `done` may be called before `read` returns, with
        BrokerUnavailable.
        """

    def compare(self, standings: Sequence[Standing], elsewhere: Callable[[Standing], None]) -> None:
        """Call `elsewhere` for each stream that does not stand where it is said to; for none while that is unknown.

        Much cheaper than to read them; it keeps their positions alive, as reading does.
        """

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        """Read the newest values of a channel, in no order. As `read`."""

    async def clear(self, channel: Channel) -> None:
        """Forget the publications of the stream, not its position. Raises BrokerUnavailable or OutcomeUnknown."""

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        """Let publications of the channel reach the receiver from (at the latest) the moment `done` is called.

        Reference counting is the caller's: one call per channel until `unsubscribe`. A channel still lingering
        from an earlier unsubscribe completes at once, without a round trip. `done` may be called before
        `subscribe` returns. Errors: BrokerUnavailable; the channel is then not subscribed.
        After a cut the broker subscribes to all its channels again by itself and then calls `on_gap`.
        """

    def unsubscribe(self, channel: Channel) -> None:
        """The channel is no longer wanted. Publications may still arrive for a while."""

    async def control(self, message: Control) -> ControlResult:
        """Deliver a control message to every node, this one included, and count the answers.

        Waits for all live nodes or a time limit of a few seconds. A node whose link is cut is no live node after some
        seconds, and acts on the message before it delivers anything again. Raises BrokerUnavailable or OutcomeUnknown.
        """

    def health(self) -> Health:
        """Whether this node hears itself through the broker (not merely whether a socket is open)."""


class Presence(Protocol):
    """Who is in a channel, in the whole cluster. Members of a node count while its lease lives.

    What one node does happens in the order of its calls. An interruption delays it: the node repeats what it knows.
    """

    def enter(self, channel: Channel, member: ClientInfo, rules: PresenceRules) -> None:
        """A client of this node is in the channel from now on; subscribers are told as the rules say."""

    def leave(self, channel: Channel, client: ClientId) -> None:
        """It is not any more; one that was never entered is ignored."""

    def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
        """Who is in the channel, unless that is more than `limit` members or `room` bytes: then LIMIT_EXCEEDED.

        0: any number. How many bytes a member takes is for the engine to say, about what it takes in an answer.
        `done` may be called before `members` returns, with BrokerUnavailable.
        """

    def counts(self, channel: Channel, done: CountsDone) -> None:
        """How many are in the channel; costs the same for one as for a million."""


class Registry(Protocol):
    """What the cluster knows of itself. Entries of a node count while its lease lives."""

    async def announce(self, info: NodeInfo) -> bool:
        """Renew this node's lease and what it says of itself. Called every few seconds by the node.

        False when the lease had run out: the registry may have forgotten what it knew.
        """

    async def withdraw(self) -> None:
        """End the lease of this node at once (orderly shutdown)."""

    async def nodes(self) -> list[NodeInfo]:
        """All nodes whose lease lives, ordered by name."""

    def set_occupancy(self, channel: Channel, subscriptions: int) -> None:
        """This node now has so many subscriptions to the channel. Written in batches, within about a second."""

    async def channels(self, app: str, pattern: str, limit: int, cursor: str) -> ChannelPage:
        """Occupied channels of an app whose names match the glob `pattern` (empty for all), a page at a time.

        A page may hold fewer than `limit` channels (even none) and still have a cursor. A cursor that no page
        can have had raises RequestError(BAD_REQUEST).
        """

    async def revoke(self, revocation: Revocation, *, now: bool = False) -> Revocation:
        """Store a revocation for every node, now and later, and return what is in force. Raises BrokerUnavailable.

        With `now` it is of what was issued by now at least, by the clock of the registry. Nodes learn of it through
        `revocations`.
        """

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        """Store what the registry has forgotten. Raises BrokerUnavailable."""

    async def revocations(self) -> list[Revocation]:
        """All revocations in force. Raises BrokerUnavailable."""
