"""Joining what was read of a stream with what arrived live meanwhile. Pure: the same for clients and for the node."""

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.epochs import continues
from gateway.messages import HistoryPage, Position, Publication


class Merged(NamedTuple):
    """Every publication after a position, each once and in order, and the position behind the last of them."""

    publications: list[Publication]
    position: Position


class Failure(enum.Enum):
    """Why there is no such sequence."""

    LOST = "the stream does not hold all that came after the position"
    AGAIN = "what arrived does not fit to what was read: read again"


def merge(since: Position, page: HistoryPage, live: Iterable[Publication], meta_ttl: int) -> Merged | Failure:
    """What came after `since`.

    `page` was read since there, oldest first. `live` is what arrived after the read had been asked for, in the order
    of the bus; all that arrived before lies in the stream. An empty epoch of `since` stands for any. Positions are kept
    for `meta_ttl` seconds.
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
                # A newer epoch: epochs never come back.
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
        # Older or newer than what was read: nobody can tell.
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
    """Those of `publications` that follow the position without a hole, and whether a hole (or an epoch) ended them."""
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
    """Whether positions of two epochs can be compared, whichever is the older."""
    return continues(one, other, meta_ttl) or continues(other, one, meta_ttl)


def agree(one: Position, other: Position, meta_ttl: int) -> bool:
    """Whether two positions are the same place: of a channel that nothing was published to, whenever that was seen."""
    return one.offset == other.offset and is_one_stream(one.epoch, other.epoch, meta_ttl)
