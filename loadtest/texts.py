"""Texts for people. Those that a server made may be of any length, of any number, and drive a terminal."""

from collections.abc import Mapping

# Different texts that are kept, and characters of each: a server may put a number of its own into every one.
MOST, LONGEST = 100, 200
OTHERS = "others"


class Texts:
    """How often each was seen; those that are too many are counted together."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.total = 0

    def add(self, text: str, times: int = 1) -> None:
        text = plain(text)
        if text not in self.counts and len(self.counts) >= MOST:
            text = OTHERS
        self.counts[text] = self.counts.get(text, 0) + times
        self.total += times

    def update(self, counts: Mapping[str, int], prefix: str = "") -> None:
        for text, times in counts.items():
            self.add(prefix + text, times)


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def plain(text: str) -> str:
    """Without what a terminal would obey, and not too long."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown}..."
