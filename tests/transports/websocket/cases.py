"""What RFC 6455 asks of an echo server, in the groups and by the numbers of the Autobahn test suite.

The suite itself is Python 2 (25.10 installs on Python 3 and fails at its first import) and runs with `make
conformance`. Its cases are said again here, so that every test run has them. Groups 9 (sizes) and 10 (automatic
fragments) are made by the test, since they are large.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.transports.raw import masked

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
PROTOCOL_ERROR, INVALID_DATA = 1002, 1007

Frame = tuple[int, bytes]
HELLO = b"Hello, world!"


class Case(NamedTuple):
    """Pieces to write, the frames to be read, and how the connection ends."""

    name: str
    # Each is written by itself.
    pieces: tuple[bytes, ...]
    answers: tuple[Frame, ...] = ()
    # The payload of the close frame that the server sends by then, or at least its code; None when it waits for ours.
    close: bytes | None = None


def octets(*frames: bytes) -> tuple[bytes, ...]:
    """The same, octet by octet."""
    return tuple(bytes([octet]) for octet in b"".join(frames))


def fails(code: int) -> bytes:
    return code.to_bytes(2, "big")


def fragments(opcode: int, *payloads: bytes) -> tuple[bytes, ...]:
    """One message in several frames."""
    last = len(payloads) - 1
    return tuple(
        masked(CONTINUATION if index else opcode, payload, fin=index == last) for index, payload in enumerate(payloads)
    )


def reserved(bits: int, frame: bytes) -> bytes:
    """The frame with reserved bits set (1 to 7)."""
    return bytes([frame[0] | bits << 4]) + frame[1:]


def all_cases() -> list[Case]:
    """Groups 1 to 7."""
    groups = (messages(), pings(), reserved_bits(), opcodes(), fragmentation(), utf8(), closing())
    return [case for group in groups for case in group]


def messages() -> Iterator[Case]:
    """1: messages in one frame, in each form of the length."""
    for group, opcode, octet in (("1.1", TEXT, b"*"), ("1.2", BINARY, b"\xfe")):
        for number, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536), 1):
            yield Case(f"{group}.{number}", (masked(opcode, octet * size),), ((opcode, octet * size),))
        whole = masked(opcode, octet * 65_536)
        cuts = [*range(0, len(whole), 997), len(whole)]
        yield Case(f"{group}.8", tuple(whole[start:end] for start, end in pairwise(cuts)), ((opcode, octet * 65_536),))


def pings() -> Iterator[Case]:
    """2: pings are answered with their payload, in order; pongs are not answered."""
    full = bytes(range(125))
    for number, payload in ((1, b""), (2, HELLO), (3, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), (4, full)):
        yield Case(f"2.{number}", (masked(PING, payload),), ((PONG, payload),))
    yield Case("2.5", (masked(PING, full + b"x"),), close=fails(PROTOCOL_ERROR))
    yield Case("2.6", octets(masked(PING, full)), ((PONG, full),))
    yield Case("2.7", (masked(PONG), masked(TEXT, HELLO)), ((TEXT, HELLO),))
    yield Case("2.8", (masked(PONG, b"unasked"), masked(TEXT, HELLO)), ((TEXT, HELLO),))
    yield Case("2.9", (masked(PONG, b"unasked"), masked(PING, b"asked")), ((PONG, b"asked"),))
    ten = [b"%d" % number for number in range(10)]
    answers = tuple((PONG, payload) for payload in ten)
    yield Case("2.10", (b"".join(masked(PING, payload) for payload in ten),), answers)
    yield Case("2.11", octets(*(masked(PING, payload) for payload in ten)), answers)


def reserved_bits() -> Iterator[Case]:
    """3: no extension is negotiated, so that a reserved bit is an error."""
    text, ping = masked(TEXT, HELLO), masked(PING)
    echo = ((TEXT, HELLO),)
    failure = fails(PROTOCOL_ERROR)
    yield Case("3.1", (reserved(1, text),), close=failure)
    yield Case("3.2", (text + reserved(2, text) + ping,), echo, failure)
    yield Case("3.3", (text, reserved(3, text), ping), echo, failure)
    yield Case("3.4", octets(text, reserved(4, text), ping), echo, failure)
    yield Case("3.5", (reserved(5, masked(BINARY, b"\x00\xff")),), close=failure)
    yield Case("3.6", (reserved(6, masked(PING, HELLO)),), close=failure)
    yield Case("3.7", (reserved(7, masked(CLOSE)),), close=failure)


def opcodes() -> Iterator[Case]:
    """4: opcodes that mean nothing, with and without a payload, before anything else and after a message."""
    text, ping = masked(TEXT, HELLO), masked(PING)
    for group, first in (("4.1", 0x3), ("4.2", 0xB)):
        for number in range(5):
            meaningless = masked(first + number, HELLO if number in (1, 3, 4) else b"")
            name = f"{group}.{number + 1}"
            if number < 2:
                yield Case(name, (meaningless,), close=fails(PROTOCOL_ERROR))
            else:
                pieces = octets(text, meaningless, ping) if number > 2 else (text + meaningless + ping,)
                yield Case(name, pieces, ((TEXT, HELLO),), fails(PROTOCOL_ERROR))


def fragmentation() -> Iterator[Case]:
    """5: messages in several frames, control frames between them, and frames where they do not belong."""
    failure = fails(PROTOCOL_ERROR)
    for number, opcode in ((1, PING), (2, PONG)):
        yield Case(f"5.{number}", fragments(opcode, b"one", b"two"), close=failure)
    first, last = fragments(TEXT, b"one", b"two")
    echo = (TEXT, b"onetwo")
    yield from _three_ways(3, (first, last), (echo,))
    yield from _three_ways(6, (first, masked(PING, b"between"), last), ((PONG, b"between"), echo))
    text = masked(TEXT, HELLO)
    yield from _three_ways(9, (masked(CONTINUATION, b"of nothing"), text), (), failure)
    yield from _three_ways(12, (masked(CONTINUATION, b"of nothing", fin=False), text), (), failure)
    stray = masked(CONTINUATION, b"of nothing", fin=False)
    yield Case("5.15", (first + last + stray + text,), (echo,), failure)
    yield Case("5.16", (stray, first, last) * 2, close=failure)
    yield Case("5.17", (masked(CONTINUATION, b"of nothing"), first, last) * 2, close=failure)
    yield Case("5.18", (first + masked(TEXT, b"two"),), close=failure)
    five = fragments(TEXT, b"1", b"2", b"3", b"4", b"5")
    pieces = (*five[:2], masked(PING, b"a"), *five[2:4], masked(PING, b"b"), five[4])
    answers = ((PONG, b"a"), (PONG, b"b"), (TEXT, b"12345"))
    yield Case("5.19", (b"".join(pieces),), answers)
    yield Case("5.20", octets(*pieces), answers)


def _three_ways(
    number: int, frames: tuple[bytes, ...], answers: tuple[Frame, ...], close: bytes | None = None
) -> Iterator[Case]:
    """In one piece, frame by frame, octet by octet."""
    ways = (b"".join(frames),), frames, octets(*frames)
    for index, pieces in enumerate(ways):
        yield Case(f"5.{number + index}", pieces, answers, close)


# The Greek word kosme, with an accent of three octets.
GREEK = bytes.fromhex("cebae1bdb9cf83cebcceb5")
SPECIAL = "Hello-µ@ßöäüàá-UTF-8!!".encode()
# Up to U+10FFFF goes UTF-8, and this is the one behind it.
BEYOND = b"\xf4\x90\x80\x80"


def utf8() -> Iterator[Case]:
    """6: text is UTF-8 as a whole, wherever its frames are cut, and fails at the first octet that cannot be."""
    yield Case("6.1.1", (masked(TEXT),), ((TEXT, b""),))
    yield Case("6.1.2", fragments(TEXT, b"", b"", b""), ((TEXT, b""),))
    yield Case("6.1.3", fragments(TEXT, b"", HELLO, b""), ((TEXT, HELLO),))
    yield Case("6.2.1", (masked(TEXT, SPECIAL),), ((TEXT, SPECIAL),))
    middle = SPECIAL.index("ü".encode())
    yield Case("6.2.2", fragments(TEXT, SPECIAL[:middle], SPECIAL[middle:]), ((TEXT, SPECIAL),))
    yield Case("6.2.3", fragments(TEXT, *octets(SPECIAL)), ((TEXT, SPECIAL),))
    yield Case("6.2.4", fragments(TEXT, *octets(GREEK)), ((TEXT, GREEK),))
    invalid = GREEK + b"\xed\xa0\x80edited"
    yield Case("6.3.1", (masked(TEXT, invalid),), close=fails(INVALID_DATA))
    yield Case("6.3.2", fragments(TEXT, *octets(invalid)), close=fails(INVALID_DATA))
    yield from fail_fast()
    for number, sections in enumerate(UTF8, 5):
        for index, (valid, text) in enumerate(sections, 1):
            answers, close = (((TEXT, text),), None) if valid else ((), fails(INVALID_DATA))
            yield Case(f"6.{number}.{index}", (masked(TEXT, text),), answers, close)


def fail_fast() -> Iterator[Case]:
    """6.4: the rest of the message never comes."""
    start, octet = len(GREEK), len(GREEK) + 2
    text = GREEK + BEYOND + b"edited"
    frames = fragments(TEXT, GREEK, BEYOND, b"edited")
    yield Case("6.4.1", frames[:2], close=fails(INVALID_DATA))
    frames = fragments(TEXT, text[: octet - 1], text[octet - 1 : octet], text[octet:])
    yield Case("6.4.2", frames[:2], close=fails(INVALID_DATA))
    whole = masked(TEXT, text)
    head = len(whole) - len(text)
    for number, end in ((3, start + len(BEYOND)), (4, octet)):
        yield Case(
            f"6.4.{number}", (whole[: head + start], whole[head + start : head + end]), close=fails(INVALID_DATA)
        )


Texts = tuple[tuple[bool, bytes], ...]


def good(*codes: str) -> Texts:
    """Valid, in hexadecimal."""
    return tuple((True, bytes.fromhex(code)) for code in codes)


def bad(*codes: str) -> Texts:
    """Not valid, in hexadecimal."""
    return tuple((False, bytes.fromhex(code)) for code in codes)


_HELLOS = tuple((True, f"hello{letter}world".encode()) for letter in "$¢€𤭢")
_PREFIXES = tuple((end in (2, 5, 7, 9, 11), GREEK[:end]) for end in range(1, len(GREEK) + 1))
_CONTINUATIONS = "".join(f"{octet:x}" for octet in range(0x80, 0xBF))
_STARTS = tuple(
    "".join(f"{octet:x}20" for octet in bounds)
    for bounds in (range(0xC0, 0xDF), range(0xE0, 0xEF), range(0xF0, 0xF7), range(0xF8, 0xFB), range(0xFC, 0xFD))
)
_CUT = ("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")
_HIGH = ("eda080", "edadbf", "edae80", "edafbf")
_NONCHARACTERS = tuple((True, chr(plane << 16 | last).encode()) for plane in range(17) for last in (0xFFFE, 0xFFFF))

# The decoder test of Markus Kuhn (UTF-8-test.txt) by its sections, which are 6.5 to 6.23 here.
UTF8: tuple[Texts, ...] = (
    (*_HELLOS, (True, GREEK)),
    _PREFIXES,
    # The first and the last of each length; five and six octets are no longer UTF-8 (RFC 3629).
    good("00", "c280", "e0a080", "f0908080"),
    bad("f888808080", "fc8480808080"),
    good("7f", "dfbf", "efbfbf", "f48fbfbf"),
    bad("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"),
    # Around the surrogates and the end.
    (*good("ed9fbf", "ee8080", "efbfbd", "f48fbfbf"), (False, BEYOND)),
    # Continuations of nothing, starts without one, and sequences that end too early.
    bad("80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf", _CONTINUATIONS),
    bad(*_STARTS),
    bad(*_CUT),
    bad("".join(_CUT)),
    bad("fe", "ff", "fefeffff"),
    # Longer than need be: of "/", of the last that a length is too long for, and of NUL.
    bad("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"),
    bad("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"),
    bad("c080", "e08080", "f0808080", "f880808080", "fc8080808080"),
    # Surrogates, single and in pairs.
    bad(*_HIGH, "edb080", "edbe80", "edbfbf"),
    bad(*(high + low for high in _HIGH for low in ("edb080", "edbfbf"))),
    # No characters, and the specials: all of them may be encoded.
    _NONCHARACTERS,
    tuple((True, chr(code).encode()) for code in range(0xFFF9, 0x10000)),
)


def closing() -> Iterator[Case]:
    """7: the closing handshake; nothing is answered behind a close frame."""
    normal = fails(1000)
    text, ping, bye = masked(TEXT, HELLO), masked(PING), masked(CLOSE, normal)
    first, last = fragments(TEXT, b"one", b"two")
    yield Case("7.1.1", (text,), ((TEXT, HELLO),))
    yield Case("7.1.2", (bye, masked(CLOSE)), close=normal)
    yield Case("7.1.3", (bye, ping), close=normal)
    yield Case("7.1.4", (bye, text), close=normal)
    yield Case("7.1.5", (first, bye, last), close=normal)
    yield Case("7.3.1", (masked(CLOSE),), close=b"")
    yield Case("7.3.2", (masked(CLOSE, b"a"),), close=fails(PROTOCOL_ERROR))
    for number, reason in ((3, b""), (4, HELLO), (5, b"*" * 123)):
        yield Case(f"7.3.{number}", (masked(CLOSE, normal + reason),), close=normal)
    yield Case("7.3.6", (masked(CLOSE, normal + b"*" * 124),), close=fails(PROTOCOL_ERROR))
    yield Case("7.5.1", (masked(CLOSE, normal + GREEK + b"\xed\xa0\x80"),), close=fails(INVALID_DATA))
    for number, code in enumerate((1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999), 1):
        yield Case(f"7.7.{number}", (masked(CLOSE, fails(code)),), close=fails(code))
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535), 1):
        yield Case(f"7.9.{number}", (masked(CLOSE, fails(code)),), close=fails(PROTOCOL_ERROR))
