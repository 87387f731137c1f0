"""Streams in the memory of this process."""

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from msgspec import structs

from gateway.broker import envelope
from gateway.broker.refusals import too_large_values, too_many_values
from gateway.epochs import begun, continues, unused
from gateway.messages import (
    Channel,
    HistoryPage,
    HistoryQuery,
    Latest,
    Position,
    Publication,
    Retention,
    is_removal,
    latest_key,
)

# Bytes that a value counts besides its own and those of its key, as in values.lua.
VALUE_OVERHEAD = 128
# Expired streams are removed after so many accesses.
SWEEP_EVERY = 1_000


class _Value(NamedTuple):
    """The newest value of a key."""

    publication: Publication
    time: float
    taken: int


class _Stream:
    __slots__ = ("expire_at", "forget_at", "publications", "taken", "top", "values", "version", "version_epoch")

    def __init__(self, epoch: str) -> None:
        self.top = Position(0, epoch)
        self.publications: deque[Publication] = deque()
        # Latest values by key, the oldest first, and the bytes they count.
        self.values: OrderedDict[str, _Value] = OrderedDict()
        self.taken = 0
        # When the publications expire, and when the position does.
        self.expire_at = 0.0
        self.forget_at = 0.0
        self.version = 0
        self.version_epoch = ""

    def check_room(self, key: str, taken: int, latest: Latest) -> None:
        """Raises RequestError if a value of `taken` bytes does not fit."""
        before = self.values.get(key)
        if before is None and len(self.values) >= latest.keys:
            raise too_many_values()
        if self.taken - (before.taken if before is not None else 0) + taken > latest.size:
            raise too_large_values()

    def keep(self, key: str, value: _Value) -> None:
        self.drop_value(key)
        self.values[key] = value
        self.taken += value.taken

    def drop_value(self, key: str) -> None:
        if key in self.values:
            self.taken -= self.values.pop(key).taken

    def forget(self, latest: Latest, now: float) -> None:
        """Remove values that are too old."""
        while self.values:
            oldest = next(iter(self.values))
            if self.values[oldest].time >= now - latest.ttl:
                return
            self.drop_value(oldest)


def _taken(key: str, publication: Publication) -> int:
    """Bytes that a value counts, including its tags, as in Redis."""
    return len(envelope.encode(publication)) + len(key.encode()) + VALUE_OVERHEAD


class MemoryStreams:
    """The streams of all channels."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._generation = secrets.token_hex(4)
        self._streams: dict[Channel, _Stream] = {}
        self._accesses = 0

    def append(self, publication: Publication, history: Retention, version_epoch: str) -> Publication | None:
        """The publication with its position; None if its version is not newer than the newest."""
        stream = self._begun(publication.channel)
        if publication.version:
            if version_epoch == stream.version_epoch and publication.version <= stream.version:
                return None
            stream.version, stream.version_epoch = publication.version, version_epoch
        top = stream.top = Position(stream.top.offset + 1, stream.top.epoch)
        publication = structs.replace(publication, offset=top.offset, epoch=top.epoch)
        stream.publications.append(publication)
        while len(stream.publications) > history.size:
            stream.publications.popleft()
        now = self._clock()
        stream.expire_at = now + history.ttl
        stream.forget_at = now + history.meta_ttl
        return publication

    def top(self, channel: Channel) -> Position:
        """The end of a stream. Nothing is stored of a channel that was never published to."""
        stream = self._known(channel)
        return stream.top if stream is not None else Position(0, unused(self._generation, self._milliseconds()))

    def read(self, channel: Channel, history: Retention, query: HistoryQuery) -> HistoryPage:
        stream = self._known(channel)
        if stream is None:
            return HistoryPage([], self.top(channel))
        stream.forget_at = self._clock() + history.meta_ttl
        since_epoch = query.since.epoch if query.since is not None else ""
        if not query.limit or not continues(since_epoch, stream.top.epoch, history.meta_ttl):
            return HistoryPage([], stream.top)
        found: Iterable[Publication] = reversed(stream.publications) if query.reverse else stream.publications
        if query.since is not None:
            since = query.since.offset
            found = (each for each in found if (each.offset < since if query.reverse else each.offset > since))
        chosen = []
        room = query.max_bytes
        for publication in islice(found, None if query.limit < 0 else query.limit):
            room -= len(publication.data)
            if room < 0:
                break
            chosen.append(publication)
        return HistoryPage(chosen, stream.top)

    def set_value(self, publication: Publication, latest: Latest) -> Publication:
        """Store the publication as the value of its key; returns it with its position.

        Raises RequestError if there is no room.
        """
        stream, now = self._begun(publication.channel), self._clock()
        stream.forget(latest, now)
        stream.forget_at = now + latest.ttl
        key, taken = latest_key(publication, latest), 0
        if not is_removal(publication):
            taken = _taken(key, publication)
            stream.check_room(key, taken, latest)
        top = stream.top = Position(stream.top.offset + 1, stream.top.epoch)
        publication = structs.replace(publication, offset=top.offset, epoch=top.epoch)
        if is_removal(publication):
            stream.drop_value(key)
        else:
            stream.keep(key, _Value(publication, now, taken))
        return publication

    def values(self, channel: Channel, latest: Latest) -> HistoryPage:
        stream = self._known(channel)
        if stream is None:
            return HistoryPage([], self.top(channel))
        stream.forget(latest, self._clock())
        return HistoryPage([value.publication for value in stream.values.values()], stream.top)

    def clear(self, channel: Channel) -> None:
        stream = self._known(channel)
        if stream is not None:
            stream.publications.clear()

    def _known(self, channel: Channel) -> _Stream | None:
        """The stream of a channel, without expired publications; None if the channel was not published to."""
        now = self._clock()
        self._accesses += 1
        if self._accesses % SWEEP_EVERY == 0:
            for key in [key for key, each in self._streams.items() if each.forget_at <= now]:
                del self._streams[key]
        stream = self._streams.get(channel)
        if stream is None or stream.forget_at <= now:
            return None
        if stream.expire_at <= now:
            stream.publications.clear()
        return stream

    def _begun(self, channel: Channel) -> _Stream:
        """The stream of a channel; a new one if there is none. The caller sets how long it is kept."""
        stream = self._known(channel)
        if stream is None:
            stream = self._streams[channel] = _Stream(begun(self._generation, self._milliseconds()))
        return stream

    def _milliseconds(self) -> int:
        return int(self._clock() * 1000)
