import pytest

from gateway.errors import BAD_REQUEST, RequestError
from gateway.protocols.payload import checked_json, json_of


def test_checked_json_passes_json() -> None:
    assert checked_json(b'{"a":\n1}') == b'{"a": 1}'


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nul", b"1 2", b'"\xff"', b'"\x01"', b'{"a":}', b"[" * 60_000, b"NaN", b"'a'"]
)
def test_checked_json_refuses_the_rest(data: bytes) -> None:
    """Not JSON, or not UTF-8: error 107."""
    with pytest.raises(RequestError) as caught:
        checked_json(data)
    assert caught.value.error == BAD_REQUEST


def test_bytes_are_json_or_are_not() -> None:
    """With U+FFFD for half a character."""
    assert json_of(rb'{"a": "\ud83d"}') == rb'{"a": "\ufffd"}'
    assert json_of(b"hello") is None
