"""Streams in the memory of this process, for the engine of one node."""

import secrets
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from msgspec import structs

from gateway.errors import LIMIT_EXCEEDED, RequestError
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

# Seconds for which a position is kept that nothing was published to.
UNUSED_TTL = 600
# What a value takes besides its bytes and those of its key, as in values.lua.
VALUE_OVERHEAD = 128
# Streams that have expired are looked for after so many accesses.
SWEEP_EVERY = 1_000


class _Stream:
    __slots__ = (
        "expire_at",
        "forget_at",
        "publications",
        "taken",
        "times",
        "top",
        "values",
        "version",
        "version_epoch",
    )

    def __init__(self) -> None:
        self.top = Position(0, secrets.token_hex(4))
        self.publications: deque[Publication] = deque()
        # The newest by key, where only those count, and when they came; in this order.
        self.values: dict[str, Publication] = {}
        self.times: dict[str, float] = {}
        self.taken = 0
        # When the publications end, and when the position does.
        self.expire_at = 0.0
        self.forget_at = 0.0
        self.version = 0
        self.version_epoch = ""

    def make_room(self, key: str, publication: Publication, latest: Latest) -> None:
        """The value that the key has goes. Raises RequestError when the new one does not fit, and nothing goes."""
        if key not in self.values and len(self.values) >= latest.keys:
            raise full(keys=True)
        before = _taken(key, self.values[key]) if key in self.values else 0
        if self.taken - before + _taken(key, publication) > latest.size:
            raise full(keys=False)
        self.drop_value(key)
        self.taken += _taken(key, publication)

    def drop_value(self, key: str) -> None:
        if key in self.values:
            self.taken -= _taken(key, self.values.pop(key))
            del self.times[key]

    def forget(self, latest: Latest, now: float) -> None:
        """Values that are too old."""
        while self.times and next(iter(self.times.values())) < now - latest.ttl:
            self.drop_value(next(iter(self.times)))


def _taken(key: str, value: Publication) -> int:
    return len(value.data) + len(key.encode()) + VALUE_OVERHEAD


def full(*, keys: bool) -> RequestError:
    """The answer to a publish of a value for which there is no room: since there are too many keys, or bytes."""
    if keys:
        return RequestError(LIMIT_EXCEEDED, "the channel has as many keys as it may have", "latest_keys")
    return RequestError(LIMIT_EXCEEDED, "the values of the channel take as many bytes as they may", "latest_size")


class Streams:
    """The streams of all channels."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._streams: dict[Channel, _Stream] = {}
        self._accesses = 0

    def append(self, publication: Publication, history: Retention, version_epoch: str) -> Publication | None:
        """The publication with its position; None for one whose version is not newer than the newest."""
        stream = self._stream(publication.channel)
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
        return self._stream(channel).top

    def read(self, channel: Channel, history: Retention, query: HistoryQuery) -> HistoryPage:
        stream = self._stream(channel)
        unused = not stream.top.offset
        stream.forget_at = self._clock() + (min(UNUSED_TTL, history.meta_ttl) if unused else history.meta_ttl)
        if not query.limit or (query.since is not None and query.since.epoch not in ("", stream.top.epoch)):
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
        """The publication with its position, as the value of its key. Raises RequestError when there is no room."""
        stream = self._stream(publication.channel)
        stream.forget(latest, self._clock())
        key = latest_key(publication, latest)
        if is_removal(publication):
            stream.drop_value(key)
        else:
            stream.make_room(key, publication, latest)
        top = stream.top = Position(stream.top.offset + 1, stream.top.epoch)
        publication = structs.replace(publication, offset=top.offset, epoch=top.epoch)
        if not is_removal(publication):
            stream.values[key] = publication
            stream.times[key] = self._clock()
        stream.forget_at = self._clock() + latest.ttl
        return publication

    def values(self, channel: Channel, latest: Latest) -> HistoryPage:
        stream = self._stream(channel)
        stream.forget(latest, self._clock())
        return HistoryPage(list(stream.values.values()), stream.top)

    def clear(self, channel: Channel) -> None:
        self._stream(channel).publications.clear()

    def _stream(self, channel: Channel) -> _Stream:
        """The stream as it is now."""
        now = self._clock()
        self._accesses += 1
        if self._accesses % SWEEP_EVERY == 0:
            for key in [key for key, each in self._streams.items() if each.forget_at <= now]:
                del self._streams[key]
        stream = self._streams.get(channel)
        if stream is None or stream.forget_at <= now:
            stream = self._streams[channel] = _Stream()
            stream.forget_at = now + UNUSED_TTL
        elif stream.expire_at <= now:
            stream.publications.clear()
        return stream
