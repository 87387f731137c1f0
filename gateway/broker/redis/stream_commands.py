"""The commands of the stream scripts, and the meaning of their answers. Pure functions over bytes."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gateway.broker import envelope
from gateway.broker.base import Standing
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import pack
from gateway.broker.redis.lua import LATEST_PUBLISH, LATEST_READ, STREAM_COMPARE, STREAM_PUBLISH, STREAM_READ, Script
from gateway.broker.refusals import too_large_values, too_many_values
from gateway.errors import RequestError
from gateway.messages import (
    Channel,
    HistoryPage,
    HistoryQuery,
    Latest,
    Position,
    Publication,
    PublishOptions,
    Retention,
    is_removal,
    latest_key,
)


class Server(Protocol):
    """What a connection knows of the server behind it (see generation.py)."""

    generation: str
    promotion: str


def publish_command(
    keys: Keys, publication: Publication, history: Retention, options: PublishOptions, server: Server
) -> bytes:
    return pack(
        *_publish(STREAM_PUBLISH, keys, [keys.stream(publication.channel)], publication, options),
        server.generation,
        history.size,
        history.ttl,
        history.meta_ttl,
        options.idempotency_ttl if options.idempotency_key else 0,
        publication.version,
        options.version_epoch,
        server.promotion,
    )


def _publish(
    script: Script, keys: Keys, places: list[bytes], publication: Publication, options: PublishOptions
) -> list[str | bytes | int]:
    """The common beginning of both publish commands; `places` are the keys that store the publication."""
    channel = publication.channel
    names = [keys.meta(channel), *places]
    if options.idempotency_key:
        names.append(keys.result(channel, options.idempotency_key))
    message = (keys.bus(channel), envelope.HEAD, envelope.encode(publication))
    return ["EVALSHA", script.sha, len(names), *names, *message]


def read_command(keys: Keys, channel: Channel, history: Retention, query: HistoryQuery, server: Server) -> bytes:
    since = query.since
    return pack(
        "EVALSHA",
        STREAM_READ.sha,
        2,
        keys.meta(channel),
        keys.stream(channel),
        server.generation,
        history.meta_ttl,
        query.limit,
        "" if since is None else since.offset,
        "" if since is None else since.epoch,
        int(query.reverse),
        query.max_bytes,
        server.promotion,
    )


def compare_command(keys: Keys, standings: Sequence[Standing], server: Server) -> bytes:
    """All streams have to be of one partition."""
    arguments: list[str | int] = []
    for _, history, (offset, epoch) in standings:
        arguments += (epoch, offset, history.meta_ttl)
    metas = [keys.meta(standing.channel) for standing in standings]
    return pack("EVALSHA", STREAM_COMPARE.sha, len(metas), *metas, server.promotion, server.generation, *arguments)


def latest_command(
    keys: Keys, publication: Publication, latest: Latest, options: PublishOptions, server: Server
) -> bytes:
    channel = publication.channel
    return pack(
        *_publish(LATEST_PUBLISH, keys, [keys.values(channel), keys.times(channel)], publication, options),
        server.generation,
        latest.ttl,
        latest_key(publication, latest),
        latest.keys,
        latest.size,
        int(time.time() * 1000),
        options.idempotency_ttl if options.idempotency_key else 0,
        int(is_removal(publication)),
        server.promotion,
    )


def values_command(keys: Keys, channel: Channel, latest: Latest, server: Server) -> bytes:
    return pack(
        "EVALSHA",
        LATEST_READ.sha,
        3,
        keys.meta(channel),
        keys.values(channel),
        keys.times(channel),
        server.generation,
        latest.ttl,
        int(time.time() * 1000),
        server.promotion,
    )


def obstacle(reply: Any) -> RequestError | None:
    """Why latest_publish refused a value, from its answer; None if it accepted it."""
    offset, epoch = reply
    if epoch and offset in (b"0", b"-1"):
        return too_many_values() if offset == b"0" else too_large_values()
    return None


def position(reply: Any) -> Position:
    """The position in an answer to either script. Raises EnvelopeError."""
    return envelope.decode_position(reply[0], reply[1])


def page(channel: Channel, reply: Any, unreadable: Callable[[EnvelopeError], object]) -> HistoryPage:
    """The page in an answer. Entries that cannot be read are left out and passed to `unreadable`.

    Raises EnvelopeError.
    """
    top = position(reply)
    entries = reply[2]
    publications = []
    for offset, body in zip(entries[::2], entries[1::2], strict=True):
        try:
            place = envelope.decode_position(offset, reply[1])
            publications.append(envelope.decode_body(channel, body, place.offset, top.epoch))
        except EnvelopeError as error:
            unreadable(error)
    return HistoryPage(publications, top)
