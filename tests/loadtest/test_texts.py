"""Occurrences of others."""

from gateway_loadtest.counting.counters import MOST, OTHERS, Occurrences
from gateway_loadtest.text import LONGEST, plain


def test_a_terminal_has_nothing_to_obey() -> None:
    assert plain("\x1b]0;title\x07\x1b[2J\u202etxt\n") == "\\x1b]0;title\\x07\\x1b[2J\\u202etxt\\n"
    assert plain("größer als 5 µs") == "größer als 5 µs"


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
