"""Fossil deltas, as the SDKs apply them."""

import json
import random
from unittest import mock

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols import fossil
from gateway.protocols.fossil import BLOCK, LIMIT, create_delta


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


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (b"\0" * LIMIT, b"\0" * (LIMIT - 7) + b"x" + b"\0" * 6),
        (b"ab" * (LIMIT // 2), b"ba" * (LIMIT // 2)),
        (b"[" + b"0," * (LIMIT // 2 - 1), b"[1," + b"0," * (LIMIT // 2 - 2)),
        (("é" * (LIMIT // 2)).encode(), ("éa" * (LIMIT // 3)).encode()),
        (bytes(range(256)) * (LIMIT // 256), bytes(reversed(range(256))) * (LIMIT // 256)),
        (random.Random(1).randbytes(LIMIT), random.Random(2).randbytes(LIMIT)),
    ],
)
def test_no_input_takes_more_than_a_few_steps_a_byte(source: bytes, target: bytes) -> None:
    """Nor as many as pairs of places that are alike: comparisons are counted, not time."""
    steps = 0
    compare = fossil._common_prefix

    def counting(one: bytes, other: bytes, most: int) -> int:
        nonlocal steps
        steps += 1
        return compare(one, other, most)

    with mock.patch.object(fossil, "_common_prefix", counting):
        applied(source, target)
    assert steps <= len(target) / BLOCK + 2
