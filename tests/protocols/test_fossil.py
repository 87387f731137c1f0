"""Fossil deltas, as the SDKs apply them."""

import json
import random
import sys
from types import FrameType
from typing import Any

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols import fossil
from gateway.protocols.fossil import BLOCK, LIMIT, PIECES, create_delta


def applied(source: bytes, target: bytes) -> bytes:
    delta = create_delta(source, target)
    assert bytes(apply_delta(source, delta)) == target
    return delta


@settings(derandomize=True, max_examples=1000)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_become_any_others(source: bytes, target: bytes) -> None:
    applied(source, target)


@settings(derandomize=True, max_examples=1000)
@given(
    st.lists(
        st.sampled_from(["a", "é", "€", "\N{EARTH GLOBE EUROPE-AFRICA}", "long enough to be a block"]), max_size=40
    ),
    st.randoms(),
)
def test_a_delta_of_texts_is_a_text(words: list[str], rng: random.Random) -> None:
    """It travels in a JSON string: no piece of it ends within a character."""
    changed = list(words)
    for _ in range(rng.randint(0, 4)):
        place = rng.randint(0, len(changed))
        changed[place : place + rng.randint(0, 3)] = rng.choices(
            ["b", "ü", "\N{GRINNING FACE}", "another long word or two"], k=rng.randint(0, 3)
        )
    applied("".join(words).encode(), "".join(changed).encode()).decode()


def test_what_is_alike_is_not_sent_again() -> None:
    """Where it stands does not matter."""
    items = {f"key {number}": number for number in range(200)}
    before = json.dumps(items).encode()
    assert len(applied(before, json.dumps({**items, "key 100": "changed"}).encode())) < 40
    turned = json.dumps(dict(reversed(items.items()))).encode()
    assert len(applied(before, turned)) < len(turned)
    half = len(before) // 2
    assert len(applied(before, before[half:] + before[:half])) < 60
    assert len(applied(before, before)) < 20
    assert len(applied(b"", before)) > len(before)


def steps_of(source: bytes, target: bytes) -> int:
    """Lines of the module that run: counted, not timed."""
    steps = 0

    def counting(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return counting if frame.f_code.co_filename == fossil.__file__ else None

    before = sys.gettrace()
    sys.settrace(counting)
    try:
        create_delta(source, target)
    finally:
        sys.settrace(before)
    return steps


def test_texts_that_have_nothing_in_common_are_given_up_early() -> None:
    """Not every byte is looked at; a long match behind is found all the same, whole."""
    rng = random.Random(1)
    source, other = (rng.randbytes(LIMIT // 2).hex().encode() for _ in range(2))
    assert steps_of(source, other) < len(other)
    half = LIMIT // 2
    for shift in range(BLOCK):
        assert len(applied(source, other[: half + shift] + source[:half] + b"end")) < half + shift + 40


# 4 bytes; the other one ends in the same.
FACE, OTHER = "\N{GRINNING FACE}".encode(), "\N{GRINNING FACE}".encode().replace(b"\x98", b"\x99")


def cut_characters() -> bytes:
    """Its blocks hold pieces of many FACEs that begin and end inside of one, whatever stands around them."""
    parts = []
    for cut in (1, 2, 3):
        first = b"b" * (BLOCK - cut) + OTHER[:cut]
        parts.append(first + (FACE * 6)[cut : cut + BLOCK] + FACE[cut:] + b"b" * (BLOCK - 4 + cut))
    return b"".join(parts).ljust(LIMIT, b"q")


def shuffled(separator: bytes) -> tuple[bytes, bytes]:
    """Blocks, and the same in another order."""
    rng = random.Random(1)
    blocks = [rng.randbytes(BLOCK // 2).hex().encode() for _ in range(LIMIT // BLOCK)]
    before = b"".join(blocks)
    rng.shuffle(blocks)
    return before, separator.join(blocks)[:LIMIT]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (b"\0" * LIMIT, b"\0" * (LIMIT - 7) + b"x" + b"\0" * 6),
        (b"ab" * (LIMIT // 2), b"ba" * (LIMIT // 2)),
        (b"[" + b"0," * (LIMIT // 2 - 1), b"[1," + b"0," * (LIMIT // 2 - 2)),
        (("é" * (LIMIT // 2)).encode(), ("éa" * (LIMIT // 3)).encode()),
        (bytes(range(256)) * (LIMIT // 256), bytes(reversed(range(256))) * (LIMIT // 256)),
        (random.Random(1).randbytes(LIMIT), random.Random(2).randbytes(LIMIT)),
        (cut_characters(), b"t" + FACE * (LIMIT // 4 - 1)),
        (b"\x80" * LIMIT, (b"\x80" * 20 + b"x") * (LIMIT // 21)),
        (b"a" * LIMIT, (b"a" * BLOCK + b"b") * (LIMIT // (BLOCK + 1))),
        (b"a" * LIMIT, (b"a" * (BLOCK - 1) + b"b") * (LIMIT // BLOCK)),
        shuffled(b""),
        shuffled(b","),
    ],
)
def test_no_input_takes_more_than_a_few_steps_a_byte(source: bytes, target: bytes) -> None:
    """Nor as many as pairs of places that are alike.

    Looking at a byte of the target takes five, at a block of the source three, a piece up to a hundred.
    """
    applied(source, target)
    assert steps_of(source, target) <= 5 * len(target) + 3 * len(source) / BLOCK + 100 * PIECES + 200
