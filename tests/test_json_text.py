import json
import re
import sys
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.json_text import MAX_DEPTH, check_json, compact, is_too_deep, mended


@pytest.mark.parametrize("data", [b"", b"1", b'{"a": [1, 2]}', b'"\\n"'])
def test_one_line_stays_as_it_is(data: bytes) -> None:
    """Only a raw line break is worth a copy."""
    assert compact(data) is data


def test_line_breaks_between_tokens_go() -> None:
    assert compact(b'{\r\n "a" : [1,\n2],\n "b" : "x\\ny" }') == b'{   "a" : [1, 2],  "b" : "x\\ny" }'


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00 \ud83d\ude00 \uD83D\uD83D\uDE00"', rb'"\ufffd \ud83d\ude00 \ufffd\uD83D\uDE00"'),
        (rb'"\\ud83d \n \u0041 \" \\\ud83d"', rb'"\\ud83d \n \u0041 \" \\\ufffd"'),
        (rb'"\\ud83d\ude00 \\\ud83d\ude00 \\\\ud83d"', rb'"\\ud83d\ufffd \\\ud83d\ude00 \\\\ud83d"'),
        (b"{}", b"{}"),
    ],
)
def test_halves_of_characters_are_replaced(data: bytes, whole: bytes) -> None:
    """And nothing else, however many backslashes there are."""
    assert mended(data) == whole
    msgspec.json.decode(mended(data))


ESCAPES = st.sampled_from(
    [r"\\", r"\n", r"\"", r"\u0041", r"\ud83d", r"\uDE00", r"\ud83d\ude00", "ud83d", "ude00", "x"]
)


@given(st.lists(ESCAPES, max_size=12))
@settings(derandomize=True, max_examples=500)
def test_what_is_mended_reads_as_python_reads_it(parts: list[str]) -> None:
    """Python's decoder joins halves that belong together, and keeps the others."""
    data = f'"{"".join(parts)}"'
    whole = re.sub("[\ud800-\udfff]", "\ufffd", json.loads(data))
    assert msgspec.json.decode(mended(data.encode())) == whole


@pytest.mark.parametrize(
    "part", [rb"\n", rb"\\", rb"\u0041", rb"\ud83d\ude00", rb"\ud83d", rb"\ud83d\ud83d\ude00", rb"\u", b"x", b"\0"]
)
def test_no_python_runs_for_each_escape(part: bytes) -> None:
    """Calls are counted, not time."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        mended(b'"' + part * 10_000 + rb'\ud800"')
    finally:
        sys.setprofile(None)
    assert calls < 20


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * levels + "1" + closing * levels).encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"[":', "}]")])
def test_the_border_of_nesting_is_the_same_on_every_python(opening: str, closing: str) -> None:
    levels = MAX_DEPTH // (opening.count("[") - opening.count('"[') + opening.count("{"))
    check_json(nested(levels, opening, closing))
    with pytest.raises(ValueError, match="nested deeper than 128 levels"):
        check_json(nested(levels + 1, opening, closing))


@pytest.mark.parametrize("levels", [129, 975, 1_500, 30_000])
def test_what_nests_deeper_is_refused_however_deep(levels: int) -> None:
    with pytest.raises(ValueError, match="nested deeper"):
        check_json(nested(levels))


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * 1_000 + b"1]",
        b'"' + b"[" * 1_000 + b'"',
        rb'["\\\"", "' + b"{" * 1_000 + rb'", "\\"]',
        rb'{"\"[[": "' + b"[" * 200 + rb'\\"}',
    ],
)
def test_brackets_that_do_not_nest_do_not_count(data: bytes) -> None:
    """Many side by side, or in strings, behind any number of backslashes."""
    msgspec.json.decode(data)
    check_json(data)


Json = st.recursive(
    st.none() | st.text(alphabet='[]{}"\\a', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"', max_size=2), inner, max_size=3),
    max_leaves=60,
)


def depth(value: Any) -> int:
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return 1 + max(map(depth, inner), default=0) if isinstance(value, list | dict) else 0


@given(value=Json, levels=st.integers(min_value=MAX_DEPTH - 12, max_value=MAX_DEPTH))
@settings(derandomize=True)
def test_nesting_is_counted_exactly(value: Any, levels: int) -> None:
    """Whatever stands at the bottom of many levels, and beside them."""
    for _ in range(levels):
        value = [value, [[]]]
    assert is_too_deep(json.dumps(value).encode()) == (depth(value) > MAX_DEPTH)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nul", b"1 2", b'"\xff"', b'"\x01"', b'{"a":}', b"NaN", b"'a'", b'{"a":1}{"b":2}']
)
def test_what_is_not_one_json_value_in_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_json(data)
