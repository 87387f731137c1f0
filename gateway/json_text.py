"""JSON texts that are spliced into others without being parsed: checks and repairs."""

import re

import msgspec

# How deep JSON may nest, wherever it comes from. Readers have limits of their own: Python's decoder ends with a
# RecursionError at about 1,000 levels, and the subscriber with it.
MAX_DEPTH = 128
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

# Bytes of a text that has no room for more levels, since each takes two.
_FLAT = 2 * MAX_DEPTH
# Innermost levels that are removed before the rest is walked through: a walk of n bytes then has n / 16 steps.
_SHALLOW = 8
_RUN = re.compile(rb"\[+|\]+")
_OPENING = ord("[")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

_BREAKS = bytes.maketrans(b"\r\n", b"  ")

# Half of a character in a JSON string, written as an escape (RFC 8259 section 7), without its other half. Nothing here
# knows whether the backslash is escaped itself.
# (Two bytes in front of everything else: the search for these is what takes next to no time.)
_HEX = rb"[0-9a-fA-F]{2}"
_HIGH = rb"\\u[dD][89abAB]" + _HEX
_LOW = rb"\\u[dD][c-fC-F]" + _HEX
_HALF = re.compile(rb"\\u[dD](?:[89abAB]%b(?!%b)|[c-fC-F]%b(?<!%b%b))" % (_HEX, _LOW, _HEX, _HIGH, _LOW))
# A stand-in for an escaped backslash: it has the same length and never occurs in JSON.
_BACKSLASH = b"\0\0"


def compact(data: bytes) -> bytes:
    """JSON without raw line breaks, which would split frames of line-based protocols. `data` is valid JSON.

    Inside strings JSON allows no raw control characters, so a line break is always white space between tokens.
    """
    return data.translate(_BREAKS) if b"\n" in data or b"\r" in data else data


def mended(data: bytes) -> bytes:
    """JSON with U+FFFD for every half of a character (lone surrogate, RFC 8259 section 8.2).

    JavaScript's JSON.stringify writes text that was cut in the middle of an emoji that way; decoders refuse it.
    The length stays as it is, and no Python runs for a single escape: 64 KiB take 2 ms at most.
    """
    if _HALF.search(data) is None or b"\0" in data:
        return data
    return _HALF.sub(rb"\\ufffd", data.replace(rb"\\", _BACKSLASH)).replace(_BACKSLASH, rb"\\")


def is_too_deep(data: bytes) -> bool:
    """Whether JSON nests deeper than MAX_DEPTH. `data` has to be JSON.

    Nearly all texts are short or have few brackets; counting them takes 0.3 us for 300 bytes. Others take linear time,
    at most 2 ms for 64 KiB: strings are removed, then the innermost levels, then the runs of brackets are counted.
    """
    if len(data) <= _FLAT or data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
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
    """Check that `data` is one JSON value that can be spliced into others. Raises ValueError with the reason."""
    if not data.isascii():
        data.decode()
    try:
        # The decoder checks the syntax; Raw keeps it from building objects.
        _decode_raw(data)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if is_too_deep(data):
        raise ValueError(TOO_DEEP)


def check_line(data: bytes) -> None:
    """As `check_json`, and without line breaks: for JSON that nothing repairs any more. Raises ValueError."""
    check_json(data)
    if b"\n" in data or b"\r" in data:
        raise ValueError("a line break in JSON")


_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
