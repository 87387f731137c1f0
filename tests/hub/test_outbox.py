"""What waits for slow clients: in order, bounded for each, and counted once where it waits for many."""

import random

from gateway.hub.outbox import BLOCK_OVERHEAD, POINTER, SAMPLE, Outbox, Outboxes


def opened(limit: int, overflows: list[str] | None = None) -> Outbox:
    return Outboxes().open(limit, None, (overflows if overflows is not None else []).append)


def test_takes_frames_in_order_and_empties() -> None:
    """What was written comes out as one block, once."""
    outbox = opened(10)
    outbox.write(b"ab")
    outbox.write(b"cd")
    assert outbox.size == 4
    assert outbox.take() == b"abcd"
    assert outbox.take() == b""
    assert outbox.size == 0


def test_exactly_full_is_not_an_overflow() -> None:
    overflows: list[str] = []
    outbox = opened(4, overflows)
    outbox.write(b"abcd")
    assert overflows == []
    assert outbox.take() == b"abcd"


def test_overflow_drops_everything_and_tells_once() -> None:
    """A client that missed one frame must not get later ones."""
    overflows: list[str] = []
    outbox = opened(4, overflows)
    outbox.write(b"abc")
    outbox.write(b"de")
    outbox.write(b"f")
    outbox.shed()
    assert overflows == ["limits.outbox"]
    assert outbox.overflowed
    assert outbox.take() == b""
    assert outbox.size == 0


def test_who_lets_go_for_others_is_told_of_another_setting() -> None:
    overflows: list[str] = []
    outbox = opened(100, overflows)
    outbox.write(b"abc")
    outbox.shed()
    outbox.shed()
    assert overflows == ["limits.waiting"]
    assert (outbox.held, outbox.size) == (0, 0)


def test_a_block_that_waits_for_many_counts_once() -> None:
    """Each has its part of it; what it does not share counts whole. An equal block is other memory."""
    outboxes = Outboxes()
    many = [outboxes.open(10_000, None, lambda setting: None) for _ in range(10)]
    block = bytes(1000)
    for outbox in many:
        outbox.write(block)
    once = 1000 + BLOCK_OVERHEAD + 10 * POINTER
    assert outboxes.held == once
    assert [outbox.held for outbox in many] == [once // 10] * 10
    many[0].write(b"own")
    assert many[0].held == once // 10 + 3 + BLOCK_OVERHEAD + POINTER
    many[1].write(bytes(bytearray(1000)))
    assert outboxes.held == once + 3 + 1000 + 2 * (BLOCK_OVERHEAD + POINTER)
    outboxes.close(many[1])
    for outbox in many:
        outbox.take()
    assert outboxes.held == 0
    assert len(outboxes) == 9


def test_the_parts_of_all_are_what_they_hold_together() -> None:
    """About: a part is estimated from some of the blocks."""
    rng = random.Random(5)
    outboxes = Outboxes()
    some = [outboxes.open(10**9, None, lambda setting: None) for _ in range(20)]
    for _ in range(20 * SAMPLE):
        block = rng.randbytes(rng.randint(1, 500))
        for outbox in rng.sample(some, rng.choice([1, 5, 20])):
            outbox.write(block)
    parts = sum(outbox.held for outbox in some)
    assert abs(parts - outboxes.held) < outboxes.held / 5
