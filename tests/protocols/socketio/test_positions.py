"""The texts that clients of Socket.IO give back: where they stand in their rooms."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.channels import NAME
from gateway.messages import Channel, Position, Publication
from gateway.protocols.socketio.positions import MOST_ROOMS, NOWHERE, Positions, after, parse


def published(room: str, offset: int = 0, epoch: str = "") -> Publication:
    return Publication(Channel("app", room), b"1", offset=offset, epoch=epoch)


def test_one_room() -> None:
    """The same for all that are in it."""
    assert after(published("a", 7, "e")) == "a e 7"
    assert after(published("a")) == "a - 0"
    assert parse("a e 7") == {"a": Position(7, "e")}
    assert parse("a - 0") == {"a": None}


def test_several_rooms() -> None:
    """Each publication changes one."""
    positions = Positions()
    positions.stand("a", Position(1, "e"))
    positions.stand("b", None)
    assert str(positions) == "a e 1 b - 0"
    positions.get(published("a", 2, "e"))
    positions.get(published("b"))
    assert str(positions) == "a e 2 b - 0"
    positions.get(published("own", 1, "e"))
    assert str(positions) == "a e 2 b - 0"
    positions.stand("c", Position(5, "f"))
    positions.leave("a")
    positions.leave("unknown")
    assert str(positions) == "b - 0 c f 5"


def test_too_many_rooms_are_not_told() -> None:
    """Of them nothing is recovered, rather than a part."""
    positions = Positions()
    for number in range(MOST_ROOMS):
        positions.stand(f"room:{number}", Position(1, "e"))
    rooms = parse(str(positions))
    assert rooms is not None
    assert len(rooms) == MOST_ROOMS
    positions.stand("one more", Position(1, "e"))
    assert str(positions) == str(Positions()) == NOWHERE
    assert parse(NOWHERE) is None


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "a b",
        "a e 1 b",
        "a e x",
        "a e -1",
        "a e 1.0",
        "a  1",
        " e 1",
        "a e 1 a e 2",
        "a e " + "1" * 19,
        "a e \u0661",
    ],
)
def test_other_texts_are_none(text: str) -> None:
    """The last argument of an event may be anything."""
    assert parse(text) is None


def test_more_rooms_than_are_told_are_none() -> None:
    assert parse(" ".join(f"room{number} e 1" for number in range(MOST_ROOMS + 1))) is None


EPOCHS = st.from_regex(r"[!-,.-~]{1,20}", fullmatch=True)
STANDS = st.one_of(st.none(), st.builds(Position, st.integers(0, 10**18 - 1), EPOCHS))


@settings(derandomize=True)
@given(st.dictionaries(st.from_regex(NAME, fullmatch=True), STANDS, min_size=1, max_size=MOST_ROOMS))
def test_what_is_told_is_understood(rooms: dict[str, Position | None]) -> None:
    """Whatever the names of the rooms."""
    positions = Positions()
    for room, position in rooms.items():
        positions.stand(room, position)
    assert parse(str(positions)) == rooms


@settings(derandomize=True)
@given(st.text(max_size=100))
def test_any_text_is_understood_or_none(text: str) -> None:
    rooms = parse(text)
    assert rooms is None or len(rooms) <= MOST_ROOMS
