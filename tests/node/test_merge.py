"""The merge of what was read and what arrived live: exactly the right sequence, or an explicit failure."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.messages import Channel, HistoryPage, Position, Publication
from gateway.node.merge import Failure, Merged, following, merge

ROOM = Channel("default", "room")
TTL = 600  # seconds


def published(*offsets: int, epoch: str = "e") -> list[Publication]:
    return [Publication(ROOM, b"%d" % offset, offset=offset, epoch=epoch) for offset in offsets]


def page(top: int, *offsets: int, epoch: str = "e") -> HistoryPage:
    return HistoryPage(published(*offsets, epoch=epoch), Position(top, epoch))


def offsets(outcome: Merged | Failure) -> list[int]:
    assert isinstance(outcome, Merged), outcome
    return [publication.offset for publication in outcome.publications]


def test_what_was_read_comes_before_what_came_live() -> None:
    """Duplicates once; the position is that of the last one."""
    merged = merge(Position(3, "e"), page(5, 4, 5), published(4, 5, 6, 6, 7), TTL)
    assert offsets(merged) == [4, 5, 6, 7]
    assert isinstance(merged, Merged)
    assert merged.position == (7, "e")


def test_nothing_was_missed() -> None:
    assert merge(Position(5, "e"), page(5), [], TTL) == Merged([], Position(5, "e"))
    assert merge(Position(0, ""), page(0), [], TTL) == Merged([], Position(0, "e"))


def test_what_the_stream_does_not_hold_is_lost() -> None:
    """Another epoch, a range that was trimmed at the start or cut at the end, a hole, a position in the future."""
    for since, read in (
        (Position(3, "d"), page(5, 4, 5)),
        (Position(3, "e"), page(6, 5, 6)),
        (Position(3, "e"), page(6, 4, 5)),
        (Position(3, "e"), page(6, 4, 6)),
        (Position(3, "e"), page(5)),
        (Position(9, "e"), page(5)),
    ):
        assert merge(since, read, [], TTL) is Failure.LOST


def test_live_publications_that_do_not_fit_ask_for_another_read() -> None:
    """A hole, a newer epoch behind this one, and one of which nobody can tell whether it is older or newer."""
    assert merge(Position(3, "e"), page(4, 4), published(6), TTL) is Failure.AGAIN
    assert merge(Position(3, "e"), page(4, 4), [*published(5), *published(1, epoch="f")], TTL) is Failure.AGAIN
    assert merge(Position(3, "e"), page(4, 4), published(1, epoch="x"), TTL) is Failure.AGAIN
    # Before one of this epoch it can only be older.
    assert offsets(merge(Position(3, "e"), page(4, 4), [*published(9, epoch="x"), *published(5)], TTL)) == [4, 5]


@st.composite
def histories(draw: st.DrawFn) -> tuple[Position, HistoryPage, list[Publication], list[int]]:
    """What a bus and a stream may bring, with planted faults; and the offsets that were truly published."""
    top = draw(st.integers(0, 12))
    since = draw(st.integers(0, 13))
    kept_from = draw(st.integers(1, 13))
    read = [offset for offset in range(1, top + 1) if offset > since and offset >= kept_from]
    cut: bool = draw(st.booleans())
    if read and cut:
        read = read[: draw(st.integers(0, len(read)))]
    hole: bool = draw(st.booleans())
    if len(read) > 1 and hole:
        del read[draw(st.integers(0, len(read) - 1))]
    end = top + draw(st.integers(0, 5))
    live: list[Publication] = []
    for offset in range(draw(st.integers(1, 13)), end + 1):
        # The bus may repeat and lose; it never turns around within an epoch.
        live += published(*[offset] * draw(st.sampled_from([1, 1, 1, 0, 2])))
    for _ in range(draw(st.integers(0, 2))):
        foreign = published(draw(st.integers(1, 3)), epoch=draw(st.sampled_from(["d", "f"])))
        place = draw(st.integers(0, len(live)))
        live[place:place] = foreign
    epoch = draw(st.sampled_from(["e", "e", "e", "", "d"]))
    return Position(since, epoch), HistoryPage(published(*read), Position(top, "e")), live, list(range(1, end + 1))


@settings(derandomize=True, max_examples=2000)
@given(histories())
def test_it_is_right_or_says_that_it_is_not(
    history: tuple[Position, HistoryPage, list[Publication], list[int]],
) -> None:
    """Whatever is merged is each offset after the position once, in order, of one epoch, without a hole."""
    since, read, live, true = history
    outcome = merge(since, read, live, TTL)
    if isinstance(outcome, Merged):
        assert since.epoch in ("", "e")
        assert {publication.epoch for publication in outcome.publications} <= {"e"}
        found = offsets(outcome)
        assert found == list(range(since.offset + 1, outcome.position.offset + 1))
        assert set(found) <= set(true)
        assert outcome.position.offset >= read.top.offset
        # Everything of this epoch that arrived is in it.
        assert all(each.offset <= outcome.position.offset for each in live if each.epoch == "e")
    elif outcome is Failure.LOST:
        held = [publication.offset for publication in read.publications]
        missing = held != list(range(since.offset + 1, read.top.offset + 1))
        assert missing or since.epoch == "d" or since.offset > read.top.offset


@settings(derandomize=True, max_examples=1000)
@given(st.integers(0, 5), st.lists(st.tuples(st.integers(1, 9), st.sampled_from("eeeef")), min_size=1, max_size=8))
def test_following_takes_what_continues_and_tells_where_it_ends(
    offset: int, arrived: Sequence[tuple[int, str]]
) -> None:
    """Repetitions are passed over; nothing behind a hole or another epoch is taken."""
    in_order = sorted(arrived, key=lambda each: (each[1], each[0]))
    publications = [published(number, epoch=epoch)[0] for number, epoch in in_order]
    fresh, ended = following(Position(offset, "e"), publications, TTL)
    taken = [publication.offset for publication in fresh]
    assert taken == list(range(offset + 1, offset + 1 + len(taken)))
    known = {number for number, epoch in in_order if epoch == "e"}
    assert set(taken) <= known
    expected = offset + len(taken) + 1
    assert ended == (any(number >= expected for number in known) or any(epoch == "f" for _, epoch in in_order))


UNUSED, BEGUN, LATER = "g-1000", "g.2000", f"g.{1000 + TTL * 1000}"


def test_a_stream_follows_the_channel_that_nothing_was_published_to() -> None:
    """Live, with its first publication, and in what is read; from then on its epoch counts."""
    begun = published(1, 2, epoch=BEGUN)
    assert following(Position(0, UNUSED), begun, TTL) == (begun, False)
    assert merge(Position(0, UNUSED), HistoryPage([], Position(0, UNUSED)), begun, TTL) == Merged(
        begun, Position(2, BEGUN)
    )
    assert merge(Position(0, UNUSED), HistoryPage(begun, Position(2, BEGUN)), [], TTL) == Merged(
        begun, Position(2, BEGUN)
    )
    # An SDK that never took the epoch of the stream.
    assert merge(Position(1, UNUSED), HistoryPage(begun[1:], Position(2, BEGUN)), [], TTL) == Merged(
        begun[1:], Position(2, BEGUN)
    )


def test_a_stream_that_began_too_late_follows_nothing() -> None:
    """There may have been another one in between, which nobody knows any more."""
    late = published(1, epoch=LATER)
    assert following(Position(0, UNUSED), late, TTL) == ([], True)
    assert merge(Position(0, UNUSED), HistoryPage(late, Position(1, LATER)), [], TTL) is Failure.LOST
    assert merge(Position(0, UNUSED), HistoryPage([], Position(0, "g-999999999")), [], TTL) is Failure.LOST


def test_a_stream_follows_only_at_its_start() -> None:
    """A hole is a hole."""
    assert following(Position(0, UNUSED), published(2, epoch=BEGUN), TTL) == ([], True)
    assert following(Position(1, BEGUN), published(1, epoch=LATER), TTL) == ([], True)
    trimmed = HistoryPage(published(2, epoch=BEGUN), Position(2, BEGUN))
    assert merge(Position(0, UNUSED), trimmed, [], TTL) is Failure.LOST
