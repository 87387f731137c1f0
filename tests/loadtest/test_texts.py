"""Occurrences of others."""

import pytest

from gateway_loadtest.counting.counters import MOST, OTHERS, Occurrences
from gateway_loadtest.text import LONGEST, answered, plain


def test_a_terminal_has_nothing_to_obey() -> None:
    assert plain("\x1b]0;title\x07\x1b[2J\u202etxt\n") == "\\x1b]0;title\\x07\\x1b[2J\\u202etxt\\n"
    assert plain("größer als 5 µs") == "größer als 5 µs"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":{"code":503,"message":"draining"}}', "503: draining"),
        (b'{"error":"full"}', "503: full"),
        (b"upstream is\x1b away\nmore", "503: upstream is\\x1b away"),
        (b"<html><h1>503</h1></html>", "503"),
        (b"", "503"),
        (b'{"error":{"message":5}}', "503"),
        (b"[" * 100_000, None),
    ],
)
def test_a_refusal_is_quoted(body: bytes, text: str | None) -> None:
    """By the message in its body, as far as that is one for people."""
    assert answered(503, body) == text or (text is None and len(answered(503, body)) < 2 * LONGEST)


def test_there_is_an_end_to_each_and_to_all() -> None:
    """A server may put a number of its own into every one."""
    seen = Occurrences()
    for number in range(3 * MOST):
        seen.add(f"trace {number}")
        seen.add("x" * 10**6)
    assert len(seen.counts) == MOST + 1
    assert max(map(len, seen.counts)) == LONGEST + len("...")
    assert seen.counts["x" * LONGEST + "..."] == 3 * MOST
    assert seen.total == sum(seen.counts.values()) == 6 * MOST
    assert seen.counts[OTHERS] == 2 * MOST + 1
    seen.update({"trace 0": 5}, "gave up: ")
    assert seen.counts[OTHERS] == 2 * MOST + 6
