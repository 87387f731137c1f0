"""Texts for people. Those that a server made may be of any length, and drive a terminal."""

import json

# Characters of a text that are kept.
LONGEST = 200


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def plain(text: str) -> str:
    """Without what a terminal would obey, and not too long."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown}..."


def answered(status: int, body: bytes) -> str:
    """An HTTP status, and the message of an error in the body: `{"error": {"message": ...}}`, or a line of text."""
    message = ""
    try:
        error = json.loads(body)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError, RecursionError):
        text = body.decode(errors="replace").strip()
        if "<" not in text:
            message = text.partition("\n")[0].strip()
    return f"{status}: {plain(message)}" if message and isinstance(message, str) else str(status)
