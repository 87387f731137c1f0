"""Taking tokens apart: anything that is not exactly three base64url parts with a sane header is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.jws import MAX_LENGTH, parse
from gateway.errors import INVALID_TOKEN, Disconnect
from tests.auth.signing import base64url, sign

BODY = base64url(b'{"sub":"42"}')
SIGNATURE = base64url(b"s" * 32)


def with_header(header: bytes) -> str:
    return f"{base64url(header)}.{BODY}.{SIGNATURE}"


def test_a_token_taken_apart() -> None:
    """Algorithm, key id, what was signed, payload and signature."""
    token = parse(sign({"sub": "42"}, kid="k1"))
    assert (token.algorithm, token.key_id) == ("HS256", "k1")
    assert json.loads(token.payload) == {"sub": "42"}
    assert len(token.signature) == 32
    assert token.signed.count(b".") == 1


GENUINE = sign({"sub": "42"})

WRONG = {
    "empty": "",
    "no parts": "abc",
    "two parts": "abc.def",
    "four parts": GENUINE + ".abc",
    "an empty header": f".{BODY}.{SIGNATURE}",
    "an empty payload": f"{base64url(b'{}')}..{SIGNATURE}",
    "no signature": GENUINE.rpartition(".")[0] + ".",
    "padding": with_header(b'{"alg":"HS256"}') + "=",
    "standard base64": with_header(b'{"alg":"HS256"}').replace(SIGNATURE, "++//" * 4),
    "an impossible length": GENUINE + "a" * (-len(GENUINE.rpartition(".")[2]) % 4 + 1),
    "a line break": GENUINE + "\n",
    "a space before": " " + GENUINE,
    "a scheme": "Bearer " + GENUINE,
    "other digits": GENUINE + "٣",
    "other letters": GENUINE + "é",
    "a surrogate": GENUINE + "\ud800",
    "too long": sign({"info": "x" * MAX_LENGTH}),
    "far too long": "a" * 10_000_000,
    "a header that is no JSON": with_header(b"hello"),
    "a header that is no object": with_header(b'["HS256"]'),
    "a header in bad UTF-8": with_header(b'{"alg":"\xff"}'),
    "no algorithm": with_header(b'{"typ":"JWT"}'),
    "an algorithm that is null": with_header(b'{"alg":null}'),
    "several algorithms": with_header(b'{"alg":["HS256","none"]}'),
    "a key id that is a number": with_header(b'{"alg":"HS256","kid":7}'),
    "a key id that is null": with_header(b'{"alg":"HS256","kid":null}'),
    "critical extensions": with_header(b'{"alg":"HS256","crit":["b64"],"b64":false}'),
    "an empty crit": with_header(b'{"alg":"HS256","crit":null}'),
    "a header nested deep": with_header(b'{"alg":"HS256","x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
}


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG.keys())
def test_what_is_not_a_token(token: str) -> None:
    """It is an invalid token, and the text says what was expected without repeating it."""
    with pytest.raises(Disconnect) as caught:
        parse(token)
    assert caught.value.code == INVALID_TOKEN
    assert "token" in caught.value.detail
    assert len(caught.value.detail) < 200


@given(st.text(max_size=50) | st.text("abcXYZ019-_.=", max_size=60) | st.binary(max_size=60).map(with_header))
@settings(derandomize=True, max_examples=500)
def test_arbitrary_text(token: str) -> None:
    """Nothing but Disconnect comes out of it."""
    try:
        parsed = parse(token)
    except Disconnect:
        return
    assert parsed.algorithm is not None
