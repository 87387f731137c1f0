"""JSON texts that are taken as they are and spliced into others: what they may hold, and how they are mended."""

import re

import msgspec

# How deep JSON may nest, wherever it comes from. Readers have limits of their own: Python's decoder ends with a
# RecursionError at about 1,000 levels, and the subscriber with it.
MAX_DEPTH = 128
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

# Levels that are taken away from below before the rest is walked through: then a walk of n bytes has n / 16 steps.
_SHALLOW = 8
_RUN = re.compile(rb"\[+|\]+")
_OPENING = ord("[")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

_BREAKS = bytes.maketrans(b"\r\n", b"  ")

# An escape in a JSON string (RFC 8259 section 7): a surrogate pair, half of one, any other.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def compact(data: bytes) -> bytes:
    """JSON without raw line breaks, which would split frames of line-based protocols. `data` is valid JSON.

    Inside strings JSON allows no raw control characters, so a line break is always white space between tokens.
    """
    return data.translate(_BREAKS) if b"\n" in data or b"\r" in data else data


def mended(data: bytes) -> bytes:
    """JSON with U+FFFD for every half of a character (lone surrogate, RFC 8259 section 8.2).

    JavaScript's JSON.stringify writes text that was cut in the middle of an emoji that way; decoders refuse it.
    """
    return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], data)


def is_too_deep(data: bytes) -> bool:
    """Whether JSON nests deeper than MAX_DEPTH. Of what is not JSON it says nothing.

    Nearly all texts have fewer brackets than that: counting them takes 0.2 us for 128 bytes. The others take linear
    time, at most 2 ms for 64 KiB: strings are taken out, then the lowest levels, then the runs of brackets are counted.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = b"".join(data.split(b'"')[::2]).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(_SHALLOW):
        brackets = brackets.replace(b"[]", b"")
    depth = 0
    for run in _RUN.findall(brackets):
        depth += len(run) if run[0] == _OPENING else -len(run)
        if depth > MAX_DEPTH - _SHALLOW:
            return True
    return False


def check_json(data: bytes) -> None:
    """Let pass what is one JSON value that can be spliced into others. Raises ValueError with what is wrong."""
    data.decode()
    try:
        # The decoder checks the syntax; Raw keeps it from building objects.
        _decode_raw(data)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if is_too_deep(data):
        raise ValueError(TOO_DEEP)


def check_line(data: bytes) -> None:
    """As `check_json`, of one that came compact: nothing mends it any more. Raises ValueError."""
    check_json(data)
    if b"\n" in data or b"\r" in data:
        raise ValueError("a line break in JSON")


_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
