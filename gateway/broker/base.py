"""The ports of an engine: Broker carries messages, Presence tells who is in a channel, Registry holds cluster state,
Ledger and EventLog keep what an application is to be told, Emitters hear services that emit.

Every implementation passes the contract suites in tests/broker/.
"""

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway.control import Answer, ChannelPage, Control, ControlResult, NodeId, NodeInfo, Revocation
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

# An outcome is the result or an error. A completion is called exactly once, on the event loop; each method says whether
# that may happen before it returns.
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
    """Called by a broker, on the event loop. None of these may block, and only `catch_up` may raise."""

    def on_events(self, channel: Channel, events: Sequence[Event]) -> None:
        """Events of one subscribed channel, in the order of the broker; all that arrived together in one call."""

    def on_control(self, message: Control) -> Answer:
        """A control message for this node, which may be its own."""

    async def catch_up(self) -> None:
        """The link is up, for the first time or again; nothing is delivered before this returns.

        If it raises BrokerUnavailable, the link is dropped and opened again.
        """

    def on_relayed(self, request: bytes, answer: Callable[[bytes], None]) -> None:
        """Another node passes on the request of a client whose session is here. Call `answer` once, now or soon."""

    def on_control_lost(self) -> None:
        """The node was cut off for so long that it missed control messages that are no longer kept."""

    def on_gap(self, channels: Sequence[Channel]) -> None:
        """Publications of these subscribed channels may have been missed. The channels are subscribed again by now."""

    def on_unreadable(self, channels: Sequence[Channel]) -> None:
        """Publications that this version cannot read came to these channels; they are in the streams."""


class Standing(NamedTuple):
    """The position of the subscribers of a stream."""

    channel: Channel
    history: Retention
    position: Position


class Broker(Protocol):
    """Carries publications and control messages between nodes.

    Order: all nodes see the publications of a channel in one order. Publishes of one node to one channel keep
    the order of their calls.

    Streams: publications with history get the offsets 1, 2, 3... of an epoch (epochs.py), in the order of delivery. If
    the broker cannot be sure that a stream is complete (its server was restarted, or another one took over), the stream
    begins anew with another epoch.
    """

    async def start(self, receiver: Receiver) -> None:
        """Connect. Returns when the broker is usable; raises BrokerUnavailable with the reason after a few seconds."""

    async def stop(self) -> None:
        """Disconnect. Operations in flight complete with an error first. Safe to call twice, and before start."""

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        """Publish; `done` gets the result once the broker has accepted it, and only then.

        Errors: BrokerUnavailable (not accepted; may be reported before `publish` returns), OutcomeUnknown (the link
        broke or the time limit passed while it was in flight; the broker never sends it again).
        """

    def read(self, channel: Channel, history: Retention, query: HistoryQuery, done: HistoryDone) -> None:
        """Read a channel's stream. A channel that was never published to has offset 0, and nothing of it is stored.

        The result includes everything that was published before the call. `done` may be called before `read` returns,
        with BrokerUnavailable.
        """

    def compare(self, standings: Sequence[Standing], elsewhere: Callable[[Standing], None]) -> None:
        """Call `elsewhere` for each stream whose position is another one; for none while that is unknown.

        Much cheaper than reading, and keeps the positions alive as reading does.
        """

    def values(self, channel: Channel, latest: Latest, done: HistoryDone) -> None:
        """Read the newest values of a channel, in no order. As `read`."""

    async def clear(self, channel: Channel) -> None:
        """Forget the publications of the stream, not its position. Raises BrokerUnavailable or OutcomeUnknown."""

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        """Deliver publications of the channel to the receiver, at the latest from the moment `done` is called.

        The caller counts references: one call per channel until `unsubscribe`. If the channel still lingers from an
        earlier unsubscribe, this completes at once, without a round trip. `done` may be called before `subscribe`
        returns. Errors: BrokerUnavailable; the channel is then not subscribed.
        After a cut, the broker subscribes to all its channels again by itself and then calls `on_gap`.
        """

    def unsubscribe(self, channel: Channel) -> None:
        """End a subscription. Publications may still arrive for a while."""

    async def control(self, message: Control) -> ControlResult:
        """Deliver a control message to every node, this one included, and count the answers.

        Waits for all live nodes, at most a few seconds. A node whose link is cut stops counting as live after some
        seconds; it acts on the message before it delivers anything again. Raises BrokerUnavailable or OutcomeUnknown.
        """

    async def relay(self, node: NodeId, request: bytes, seconds: float) -> bytes | None:
        """Pass the request of a client to the node that holds its session; requests keep the order of the calls.

        Returns the answer, or None if there is no such node. At most once: raises BrokerUnavailable if the request was
        not passed on, OutcomeUnknown if no answer came within `seconds`.
        """

    def health(self) -> Health:
        """Whether this node hears itself through the broker (not merely whether a socket is open)."""


class Ending(NamedTuple):
    """How a connection or subscription ended: a code and its reason."""

    code: int
    reason: str


class Happening(NamedTuple):
    """Something that the application is to be told. `id` is the same whenever it is read again."""

    id: str
    # Unix ms, by the clock of the engine.
    time: int
    # What ended, as it was noted, and how; or the channel that became occupied or vacated.
    about: bytes = b""
    ending: Ending | None = None
    channel: Channel | None = None
    is_occupied: bool = False


class Ledger(Protocol):
    """What has begun on this node and not ended; what has ended becomes a happening, exactly one.

    Notes are written at once, without waiting. If the node dies, another one ends what it had noted, with the code
    NODE_LOST. After an interruption the node repeats what may not have been written.
    """

    # Called with keys that another node has ended although this one lives: it was suspended.
    on_closed: Callable[[Sequence[str]], None]

    def begin(self, key: str, about: bytes) -> None:
        """Note what has begun. A key is never used again."""

    def end(self, key: str, ending: Ending) -> None:
        """It has ended; ignored if it was never noted, or has ended."""

    async def settle(self) -> None:
        """Return when all ends are written, or after some seconds."""


class EventLog(Protocol):
    """Happenings of the cluster, kept until they are finished. One node at a time reads them."""

    # Whether other nodes read what this one has not finished when it stops.
    lasting: bool
    # Called when there may be more to take; an engine may also never call it.
    on_news: Callable[[], object]

    async def take(self, ends: int, changes: int) -> Sequence[Happening] | None:
        """Happenings in their order, at most about so many ends and changes of channels; None if it is another node's
        turn to read.

        Each comes once, until it has been the turn of another node. Then all that are not finished come again. Raises
        BrokerUnavailable.
        """

    async def finish(self, ids: Sequence[str]) -> None:
        """The application has heard of these. Raises BrokerUnavailable."""


class Dialect(enum.Enum):
    """How a service that emits writes its messages."""

    # `@socket.io/redis-emitter`, and the Pub/Sub adapter of Socket.IO servers.
    EMITTER = enum.auto()
    # A manager of python-socketio.
    MANAGER = enum.auto()


class Emitters(Protocol):
    """What services emit, to clients of any node. One node at a time hears it: all of it, in its order, each once.

    While no node listens it is lost. A node that begins says in the log and in a metric for how long none did.
    """

    def start(self, heard: Callable[[Dialect, bytes], None]) -> None:
        """Take part from now on. `heard` gets each message while it is the turn of this node."""

    async def stop(self) -> None:
        """Let another node listen, before this one stops. Safe to call twice, and before start."""


class Presence(Protocol):
    """Who is in a channel, in the whole cluster. Members of a node count while its lease lives.

    Calls of one node take effect in their order. After an interruption the node repeats its members.
    """

    def enter(self, channel: Channel, member: ClientInfo, rules: PresenceRules) -> None:
        """A client of this node is in the channel from now on; subscribers are told according to the rules."""

    def leave(self, channel: Channel, client: ClientId) -> None:
        """The client is no longer in the channel; ignored if it was never entered."""

    def members(self, channel: Channel, limit: int, room: int, done: MembersDone) -> None:
        """The members of the channel; LIMIT_EXCEEDED if these are more than `limit` members or `room` bytes.

        0 stands for no limit. The engine decides how many bytes a member counts, roughly its size in an answer. `done`
        may be called before `members` returns, with BrokerUnavailable.
        """

    def counts(self, channel: Channel, done: CountsDone) -> None:
        """The number of members and users; costs the same for any number of members."""


class Registry(Protocol):
    """The state of the cluster. Entries of a node count while its lease lives."""

    async def announce(self, info: NodeInfo) -> bool:
        """Renew this node's lease and its description. Called every few seconds by the node.

        False if the lease had expired: the registry may have lost its data.
        """

    async def withdraw(self) -> None:
        """End the lease of this node at once (orderly shutdown)."""

    async def nodes(self) -> list[NodeInfo]:
        """All nodes whose lease lives, ordered by name."""

    # Channels whose occupancy is a happening when it begins and ends; by default none.
    watches: Callable[[Channel], bool]

    def set_occupancy(self, channel: Channel, subscriptions: int) -> None:
        """Set the number of this node's subscriptions to the channel. Written in batches, within about a second."""

    async def channels(self, app: str, pattern: str, limit: int, cursor: str) -> ChannelPage:
        """Occupied channels of an app whose names match the glob `pattern` (empty for all), a page at a time.

        A page may hold fewer than `limit` channels (even none) and still have a cursor. A cursor that never came from a
        page raises RequestError(BAD_REQUEST).
        """

    async def revoke(self, revocation: Revocation, *, ahead: int | None = None) -> Revocation:
        """Store a revocation and return the one in force. Raises BrokerUnavailable.

        With `ahead` it covers at least all tokens issued until so many seconds from now, by the clock of the registry,
        and those whose `iat` is the `issued_before` in force so far. Nodes read it with `revocations`.
        """

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        """Store revocations again that the registry has lost. Raises BrokerUnavailable."""

    async def revocations(self) -> list[Revocation]:
        """All revocations in force. Raises BrokerUnavailable."""
