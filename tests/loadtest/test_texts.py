"""Texts of others."""

from loadtest.texts import LONGEST, MOST, OTHERS, Texts, plain


def test_a_terminal_has_nothing_to_obey() -> None:
    assert plain("\x1b]0;title\x07\x1b[2J\u202etxt\n") == "\\x1b]0;title\\x07\\x1b[2J\\u202etxt\\n"
    assert plain("größer als 5 µs") == "größer als 5 µs"


def test_there_is_an_end_to_each_and_to_all() -> None:
    """A server may put a number of its own into every one."""
    texts = Texts()
    for number in range(3 * MOST):
        texts.add(f"trace {number}")
        texts.add("x" * 10**6)
    assert len(texts.counts) == MOST + 1
    assert max(map(len, texts.counts)) == LONGEST + len("...")
    assert texts.counts["x" * LONGEST + "..."] == 3 * MOST
    assert texts.total == sum(texts.counts.values()) == 6 * MOST
    assert texts.counts[OTHERS] == 2 * MOST + 1
    texts.update({"trace 0": 5}, "gave up: ")
    assert texts.counts[OTHERS] == 2 * MOST + 6
