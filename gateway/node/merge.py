"""Merges what was read of a stream with what arrived live meanwhile. Pure; used both for clients and for the node."""

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.epochs import continues
from gateway.messages import HistoryPage, Position, Publication


class Merged(NamedTuple):
    """Every publication after a position, once and in order, and the position after the last one."""

    publications: list[Publication]
    position: Position


class Failure(enum.Enum):
    """Why the publications could not be merged."""

    LOST = "the stream does not hold all that came after the position"
    AGAIN = "what arrived does not fit to what was read: read again"


def merge(since: Position, page: HistoryPage, live: Iterable[Publication], meta_ttl: int) -> Merged | Failure:
    """The publications after `since`.

    `page` was read from `since` on, oldest first. `live` is what arrived after the read was issued, in bus order;
    everything earlier is in the stream. An empty epoch in `since` matches any. Positions are kept for `meta_ttl`
    seconds.
    """
    offset, epoch = page.top
    if not continues(since.epoch, epoch, meta_ttl) or not _is_whole(since.offset, page):
        return Failure.LOST
    publications = list(page.publications)
    seen = foreign = False
    for publication in live:
        if not offset and publication.offset == 1 and continues(epoch, publication.epoch, meta_ttl):
            epoch = publication.epoch
        if publication.epoch != epoch:
            if seen:
                # A newer epoch: old epochs never return.
                return Failure.AGAIN
            foreign = True
            continue
        seen = True
        if publication.offset > offset + 1:
            return Failure.AGAIN
        if publication.offset > offset:
            publications.append(publication)
            offset = publication.offset
    if foreign and not seen:
        # There is no telling whether these are older or newer than what was read.
        return Failure.AGAIN
    return Merged(publications, Position(offset, epoch))


def _is_whole(since: int, page: HistoryPage) -> bool:
    """Whether the page has every offset after `since` up to the top."""
    if since > page.top.offset or len(page.publications) != page.top.offset - since:
        return False
    return all(publication.offset == since + index for index, publication in enumerate(page.publications, 1))


def following(
    position: Position, publications: Sequence[Publication], meta_ttl: int
) -> tuple[Sequence[Publication], bool]:
    """The `publications` that follow the position without a gap, and whether a gap (or an epoch) cut them short."""
    fresh: list[Publication] = []
    offset, epoch = position
    for publication in publications:
        if not offset and publication.offset == 1 and continues(epoch, publication.epoch, meta_ttl):
            epoch = publication.epoch
        if publication.epoch != epoch or publication.offset > offset + 1:
            return fresh, True
        if publication.offset > offset:
            fresh.append(publication)
            offset = publication.offset
    return fresh, False


def is_one_stream(one: str, other: str, meta_ttl: int) -> bool:
    """Whether positions of two epochs can be compared, whichever is older."""
    return continues(one, other, meta_ttl) or continues(other, one, meta_ttl)


def agree(one: Position, other: Position, meta_ttl: int) -> bool:
    """Whether two positions are the same, even if a still empty channel was read at different times."""
    return one.offset == other.offset and is_one_stream(one.epoch, other.epoch, meta_ttl)
