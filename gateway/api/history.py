"""History: the streams of channels, for backends."""

from functools import partial

from msgspec import Raw

from gateway.api.outcome import outcome
from gateway.api.presence import info
from gateway.api.request_shapes import HistoryRemoveRequest, HistoryRequest, StreamPosition
from gateway.api.result_shapes import EmptyResult, HistoryPublication, HistoryResult
from gateway.channels import Channels, ChannelSpec
from gateway.epochs import continues
from gateway.errors import BAD_REQUEST, NOT_AVAILABLE, UNRECOVERABLE, RequestError
from gateway.hub.fanout import footprint
from gateway.messages import (
    DEFAULT_APP,
    HistoryPage,
    HistoryQuery,
    Position,
    Publication,
    Retention,
)
from gateway.node.messaging import Messaging
from gateway.protocols.payload import as_json

# Publications, and their bytes, that are read and prepared for the answer at once, in 2 ms.
PART = 1_000
PART_BYTES = 1024 * 1024
# Bytes of publications in one answer.
MAX_BYTES = 32 * 1024 * 1024


class Histories:
    """Reads and removes them through the messaging of the node. Every method raises RequestError."""

    def __init__(self, messaging: Messaging, channels: Channels) -> None:
        self._messaging = messaging
        self._channels = channels

    async def read(self, request: HistoryRequest) -> HistoryResult:
        spec, history = self._with_history(request.channel)
        limit = request.limit or 0
        since = position(request.since)
        found: list[HistoryPublication] = []
        size = 0
        while True:
            page = await self._part(spec, history, request, since, len(found))
            found += map(publication, page.publications)
            size += sum(map(footprint, page.publications))
            if size > MAX_BYTES:
                raise RequestError(BAD_REQUEST, f"more than {MAX_BYTES} bytes: ask for parts, with limit and since")
            if not page.publications or len(found) == limit:
                break
            since = Position(page.publications[-1].offset, page.top.epoch)
        return HistoryResult(found, page.top.epoch, page.top.offset)

    async def remove(self, request: HistoryRemoveRequest) -> EmptyResult:
        spec, _ = self._with_history(request.channel)
        await self._messaging.clear(spec.channel)
        return EmptyResult()

    async def _part(
        self, spec: ChannelSpec, history: Retention, request: HistoryRequest, since: Position | None, have: int
    ) -> HistoryPage:
        wanted = request.limit or 0
        limit = PART if wanted < 0 else min(wanted - have, PART)
        query = HistoryQuery(limit, since, bool(request.reverse), PART_BYTES)
        page: HistoryPage = await outcome(partial(self._messaging.read, spec.channel, history, query))
        if since is not None and not continues(since.epoch, page.top.epoch, history.meta_ttl):
            raise RequestError(UNRECOVERABLE, f"the epoch is {page.top.epoch!r} now")
        return page

    def _with_history(self, name: str) -> tuple[ChannelSpec, Retention]:
        spec = self._channels.resolve(DEFAULT_APP, name)
        if spec.history is None:
            hint = "its delivery is 'latest': see the method `latest`" if spec.latest else "delivery, history_size"
            raise RequestError(NOT_AVAILABLE, f"channel {name!r} has no history ({hint})")
        return spec, spec.history


def position(given: StreamPosition | None) -> Position | None:
    """A position that a request may name."""
    return Position(given.offset or 0, given.epoch or "") if given is not None else None


def publication(stored: Publication) -> HistoryPublication:
    """A stored publication as the API shows it."""
    return HistoryPublication(
        Raw(as_json(stored)),
        stored.offset,
        info(stored.info) if stored.info is not None else None,
        stored.tags,
        stored.time,
        stored.version,
    )
