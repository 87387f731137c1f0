"""Texts for people. Those that a server made may be of any length, and drive a terminal."""

# Characters of a text that are kept.
LONGEST = 200


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def plain(text: str) -> str:
    """Without what a terminal would obey, and not too long."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown}..."
