from gateway.hub.outbox import Outbox


def test_takes_frames_in_order_and_empties() -> None:
    """What was written comes out as one block, once."""
    outbox = Outbox(10, lambda: None)
    outbox.write(b"ab")
    outbox.write(b"cd")
    assert outbox.size == 4
    assert outbox.take() == b"abcd"
    assert outbox.take() == b""
    assert outbox.size == 0


def test_exactly_full_is_not_an_overflow() -> None:
    overflows: list[int] = []
    outbox = Outbox(4, lambda: overflows.append(1))
    outbox.write(b"abcd")
    assert overflows == []
    assert outbox.take() == b"abcd"


def test_overflow_drops_everything_and_tells_once() -> None:
    """A client that missed one frame must not get later ones."""
    overflows: list[int] = []
    outbox = Outbox(4, lambda: overflows.append(1))
    outbox.write(b"abc")
    outbox.write(b"de")
    outbox.write(b"f")
    assert overflows == [1]
    assert outbox.take() == b""
    assert outbox.size == 0
