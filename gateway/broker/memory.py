"""The engine of one process: nothing leaves it, nothing outlives it. For development and single nodes."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from fnmatch import translate
from re import compile as compile_pattern

from gateway.broker.base import Health, PublishDone, Receiver, SubscribeDone
from gateway.errors import BrokerUnavailable
from gateway.messages import (
    PUBLISHED,
    Channel,
    ChannelCount,
    ChannelPage,
    Control,
    ControlResult,
    NodeId,
    NodeInfo,
    Publication,
    PublishOptions,
    Revocation,
)
from gateway.metrics import Metrics

# Results of idempotent publishes that are remembered at most; the oldest go first.
REMEMBERED = 100_000


class MemoryBroker:
    """Delivers on the next turn of the loop, all that was published in one turn together."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._receiver: Receiver | None = None
        self._subscribed: set[Channel] = set()
        self._waiting: dict[Channel, list[Publication]] = {}
        self._unanswered: deque[PublishDone] = deque()
        # (channel, idempotency key) -> when it is forgotten; in the order of publishing.
        self._seen: dict[tuple[Channel, str], float] = {}
        metrics.broker_up.read = lambda: float(self._receiver is not None)

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def stop(self) -> None:
        self._receiver = None
        self._waiting.clear()
        # Some of these keys belong to what is not delivered any more.
        self._seen.clear()
        while self._unanswered:
            self._unanswered.popleft()(BrokerUnavailable("the broker is stopped"))

    def publish(self, publication: Publication, options: PublishOptions, done: PublishDone) -> None:
        if self._receiver is None:
            self._metrics.publish_errors.add("stopped")
            done(BrokerUnavailable("the broker is stopped"))
            return
        self._metrics.published.add()
        if not (options.idempotency_key and self._is_repeated(publication.channel, options)):
            if not self._waiting:
                asyncio.get_running_loop().call_soon(self._deliver)
            self._waiting.setdefault(publication.channel, []).append(publication)
        self._unanswered.append(done)
        asyncio.get_running_loop().call_soon(self._answer)

    def subscribe(self, channel: Channel, done: SubscribeDone) -> None:
        if self._receiver is None:
            done(BrokerUnavailable("the broker is stopped"))
            return
        self._subscribed.add(channel)
        done(None)

    def unsubscribe(self, channel: Channel) -> None:
        self._subscribed.discard(channel)

    async def control(self, message: Control) -> ControlResult:
        if self._receiver is None:
            raise BrokerUnavailable("the broker is stopped")
        return ControlResult(1, 1, self._receiver.on_control(message))

    def health(self) -> Health:
        return Health(True) if self._receiver is not None else Health(False, "the broker is stopped")

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for channel, publications in waiting.items():
            self._metrics.broker_messages.add(len(publications))
            if self._receiver is not None and channel in self._subscribed:
                self._receiver.on_publications(channel, publications)

    def _answer(self) -> None:
        """One completion a callback, so that the fault of one caller does not harm the others."""
        if self._unanswered:
            self._unanswered.popleft()(PUBLISHED)

    def _is_repeated(self, channel: Channel, options: PublishOptions) -> bool:
        """Whether the key was used within its time; if not, it is from now on."""
        now = self._clock()
        key = (channel, options.idempotency_key)
        if self._seen.get(key, now) > now:
            return True
        self._seen.pop(key, None)
        self._seen[key] = now + options.idempotency_ttl
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return False


class MemoryRegistry:
    """A cluster of one node."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives Unix seconds."""
        self._clock = clock
        self._nodes: dict[NodeId, NodeInfo] = {}
        self._occupied: dict[Channel, int] = {}
        self._revocations: dict[tuple[str, str, str], Revocation] = {}

    async def announce(self, info: NodeInfo) -> None:
        self._nodes[info.uid] = info

    async def withdraw(self, uid: NodeId) -> None:
        self._nodes.pop(uid, None)

    async def nodes(self) -> list[NodeInfo]:
        return sorted(self._nodes.values(), key=lambda info: info.name)

    def set_occupancy(self, channel: Channel, subscriptions: int) -> None:
        if subscriptions:
            self._occupied[channel] = subscriptions
        else:
            self._occupied.pop(channel, None)

    async def channels(self, app: str, pattern: str, limit: int, cursor: str) -> ChannelPage:
        """The cursor is the last name of the page before."""
        matches = compile_pattern(translate(pattern)).match if pattern else bool
        names = sorted(channel.name for channel in self._occupied if channel.app == app and channel.name > cursor)
        page = [name for name in names if matches(name)][:limit]
        more = bool(page) and page[-1] != names[-1] and len(page) == limit
        counts = [ChannelCount(name, self._occupied[Channel(app, name)]) for name in page]
        return ChannelPage(counts, page[-1] if more else "")

    async def revoke(self, revocation: Revocation) -> None:
        self._revocations[revocation.app, revocation.user, revocation.jti] = revocation

    async def revocations(self) -> list[Revocation]:
        now = self._clock()
        self._revocations = {
            key: each for key, each in self._revocations.items() if not each.expire_at or each.expire_at > now
        }
        return list(self._revocations.values())
