import msgspec
import pytest

from gateway.errors import BAD_REQUEST, RequestError
from gateway.protocols.payload import checked_json, compact, mended


@pytest.mark.parametrize("data", [b"", b"1", b'{"a": [1, 2]}', b'"\\n"'])
def test_one_line_stays_as_it_is(data: bytes) -> None:
    """Only a raw line break is worth a copy."""
    assert compact(data) is data


def test_line_breaks_between_tokens_go() -> None:
    assert compact(b'{\r\n "a" : [1,\n2],\n "b" : "x\\ny" }') == b'{   "a" : [1, 2],  "b" : "x\\ny" }'


def test_checked_json_passes_json() -> None:
    assert checked_json(b'{"a":\n1}') == b'{"a": 1}'


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00 \ud83d\ude00 \uD83D\uD83D\uDE00"', rb'"\ufffd \ud83d\ude00 \ufffd\uD83D\uDE00"'),
        (rb'"\\ud83d \n \u0041 \" \\\ud83d"', rb'"\\ud83d \n \u0041 \" \\\ufffd"'),
        (b"{}", b"{}"),
    ],
)
def test_halves_of_characters_are_replaced(data: bytes, whole: bytes) -> None:
    """And nothing else, however many backslashes there are."""
    assert mended(data) == whole
    msgspec.json.decode(mended(data))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nul", b"1 2", b'"\xff"', b'"\x01"', b'{"a":}', b"[" * 60_000, b"NaN", b"'a'"]
)
def test_checked_json_refuses_the_rest(data: bytes) -> None:
    """Not JSON, or not UTF-8: error 107."""
    with pytest.raises(RequestError) as caught:
        checked_json(data)
    assert caught.value.error == BAD_REQUEST
