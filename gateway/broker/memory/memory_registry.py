"""The registry in the memory of one process."""

import time
from collections.abc import Callable, Sequence
from fnmatch import translate
from re import compile as compile_pattern

from msgspec import structs

from gateway.broker.memory.memory_events import MemoryEvents
from gateway.control import ChannelCount, ChannelPage, NodeId, NodeInfo, Revocation
from gateway.messages import Channel


class MemoryRegistry:
    """A cluster of one node."""

    def __init__(self, events: MemoryEvents, clock: Callable[[], float] = time.time) -> None:
        """`events` get occupancies that begin and end. `clock` gives Unix seconds."""
        self.watches: Callable[[Channel], bool] = lambda channel: False
        self._events = events
        self._clock = clock
        self._nodes: dict[NodeId, NodeInfo] = {}
        self._occupied: dict[Channel, int] = {}
        self._revocations: dict[tuple[str, str, str, str], Revocation] = {}

    async def announce(self, info: NodeInfo) -> bool:
        self._nodes[info.uid] = info
        return True

    async def withdraw(self) -> None:
        self._nodes.clear()

    async def nodes(self) -> list[NodeInfo]:
        return sorted(self._nodes.values(), key=lambda info: info.name)

    def set_occupancy(self, channel: Channel, subscriptions: int) -> None:
        was_occupied = channel in self._occupied
        if subscriptions:
            self._occupied[channel] = subscriptions
        else:
            self._occupied.pop(channel, None)
        if bool(subscriptions) != was_occupied and self.watches(channel):
            self._events.changed(channel, is_occupied=not was_occupied)

    async def channels(self, app: str, pattern: str, limit: int, cursor: str) -> ChannelPage:
        """The cursor is the last name of the previous page."""
        matches = compile_pattern(translate(pattern)).match if pattern else bool
        names = sorted(channel.name for channel in self._occupied if channel.app == app and channel.name > cursor)
        page = [name for name in names if matches(name)][:limit]
        more = bool(page) and page[-1] != names[-1] and len(page) == limit
        counts = [ChannelCount(name, self._occupied[Channel(app, name)]) for name in page]
        return ChannelPage(counts, page[-1] if more else "")

    async def revoke(self, revocation: Revocation, *, ahead: int | None = None) -> Revocation:
        key = (revocation.app, revocation.user, revocation.jti, revocation.channel)
        known = self._revocations.get(key)
        if ahead is not None:
            after_known = known.issued_before + 1 if known is not None else 0
            before = max(revocation.issued_before, int(self._clock()) + ahead, after_known)
            revocation = structs.replace(revocation, issued_before=before)
        self._revocations[key] = revocation = revocation if known is None else known.joined(revocation)
        return revocation

    async def restore(self, revocations: Sequence[Revocation]) -> None:
        for revocation in revocations:
            await self.revoke(revocation)

    async def revocations(self) -> list[Revocation]:
        now = self._clock()
        self._revocations = {key: each for key, each in self._revocations.items() if not each.is_over(now)}
        return list(self._revocations.values())
