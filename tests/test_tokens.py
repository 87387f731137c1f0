"""The minting helper: what it makes, the gateway accepts."""

import doctest
from typing import Any

import jwt
import pytest

import gateway.tokens
from gateway.auth.identity import Grant, Identity, ServerSub
from gateway.auth.revocations import Revocations
from gateway.auth.token_verifier import TokenVerifier
from gateway.config.settings import AuthSettings
from gateway.errors import TOKEN_EXPIRED, ConfigError, RequestError
from gateway.tokens import Algorithm, connection_token, subscription_token
from tests.auth.signing import ALGORITHMS, private_key, private_pem, public_pem

NOW = 1_700_000_000
# Long enough for HS512 (RFC 7518 section 3.2).
SECRET = "0123456789abcdef" * 4


def verify(token: str, **auth: Any) -> Any:
    settings = AuthSettings.model_validate({"hmac_secret": SECRET, "leeway": 0, **auth})
    outcomes: list[object] = []
    TokenVerifier(settings, Revocations(), lambda: NOW).either(token, outcomes.append)
    return outcomes[0]


def test_the_examples_run() -> None:
    """Those of the docstrings."""
    assert doctest.testmod(gateway.tokens) == (0, 6)


def test_a_connection_token() -> None:
    """Everything arrives; the token says when it was issued."""
    token = connection_token(
        SECRET,
        "42",
        expires_in=60,
        info={"name": "Ada"},
        channels=["news"],
        subs={"chat:room": {"info": 1, "data": [2]}},
        jti="t1",
        audience="us",
        issuer="idp",
        now=NOW,
    )
    assert verify(token, audience="us", issuer="idp") == Identity(
        "default",
        "42",
        jti="t1",
        issued_at=NOW,
        expire_at=NOW + 60,
        info=b'{"name":"Ada"}',
        subs={"news": ServerSub(), "chat:room": ServerSub(b"1", b"[2]")},
    )


def test_a_subscription_token() -> None:
    """Everything arrives."""
    token = subscription_token(
        SECRET,
        42,
        "$chat:room",
        client="c1",
        expires_in=60,
        info={"a": 1},
        jti="t1",
        audience="us",
        issuer="idp",
        now=NOW,
    )
    granted = verify(token, audience="us", issuer="idp")
    assert granted == Grant("default", "42", "$chat:room", "c1", b'{"a":1}', NOW + 60, "t1", NOW)


def test_what_is_not_given_is_not_claimed() -> None:
    """A token is sent often, so it is short; only the time of issue is always there, for revocation."""
    connection = jwt.decode(
        connection_token(SECRET, "42", expires_in=None, now=NOW), options={"verify_signature": False}
    )
    assert connection == {"sub": "42", "iat": NOW}
    token = subscription_token(SECRET, "", "room", expires_in=None, now=NOW + 0.9)
    assert jwt.decode(token, options={"verify_signature": False}) == {"sub": "", "channel": "room", "iat": NOW}


def test_tokens_last_an_hour_by_default() -> None:
    """From the present on."""
    claims = jwt.decode(connection_token(SECRET, "42"), SECRET, ["HS256"])
    assert claims["exp"] - claims["iat"] == 3600


def test_an_expired_token() -> None:
    """For tests of clients."""
    outcome = verify(connection_token(SECRET, "42", expires_in=-1, now=NOW))
    assert isinstance(outcome, RequestError)
    assert outcome.error == TOKEN_EXPIRED


@pytest.mark.parametrize(("expire_at", "expected"), [(None, NOW + 60), (0, 0), (NOW + 5, NOW + 5)])
def test_what_the_token_opens_may_live_longer_or_shorter(expire_at: int | None, expected: int) -> None:
    """0 is a connection that never has to be refreshed."""
    for token in (
        connection_token(SECRET, "42", expires_in=60, expire_at=expire_at, now=NOW),
        subscription_token(SECRET, "42", "room", expires_in=60, expire_at=expire_at, now=NOW),
    ):
        assert verify(token).expire_at == expected


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_signs_all_hmac_algorithms(algorithm: Algorithm) -> None:
    """As text or bytes."""
    for secret in (SECRET, SECRET.encode()):
        assert isinstance(verify(connection_token(secret, "42", algorithm=algorithm)), Identity)


@pytest.mark.parametrize(("kind", "algorithm"), ALGORITHMS.items())
def test_a_private_key_signs_its_algorithm(kind: str, algorithm: Algorithm) -> None:
    """As text or bytes; the key id goes into the header."""
    pem = private_pem(private_key(kind))
    public = public_pem(private_key(kind))
    for secret in (pem, pem.encode()):
        token = connection_token(secret, "42", algorithm=algorithm, key_id="k1")
        assert isinstance(verify(token, hmac_secret=None, public_key=public), Identity)
        assert jwt.get_unverified_header(token)["kid"] == "k1"
        assert isinstance(
            verify(subscription_token(secret, "42", "c", algorithm=algorithm), hmac_secret=None, public_key=public),
            Grant,
        )


def test_the_header_is_the_ordinary_one() -> None:
    """Without a key id."""
    assert jwt.get_unverified_header(connection_token(SECRET, "42")) == {"alg": "HS256", "typ": "JWT"}


@pytest.mark.parametrize(
    ("secret", "algorithm", "message"),
    [
        ("", "HS256", "secret: HMAC key must not be empty"),
        ("x" * 31, "HS256", "secret: .*31 bytes"),
        ("x" * 47, "HS384", "secret: .*47 bytes"),
        ("x" * 63, "HS512", "secret: .*63 bytes"),
        (private_pem(private_key("P-256")), "HS256", "secret: .*asymmetric key"),
        (SECRET, "RS256", "RS256 needs the PEM text of a private key"),
        ("", "ES256", "ES256 needs the PEM text of a private key"),
        (public_pem(private_key("P-256")), "ES256", "ES256 needs the PEM text of a private key"),
        (private_pem(private_key("P-256")), "RS256", "not one for RS256"),
        (private_pem(private_key("RSA")), "EdDSA", "not one for EdDSA"),
        (private_pem(private_key("Ed448")), "EdDSA", "not one for EdDSA"),
        (private_pem(private_key("P-384")), "ES256", "curve"),
        (private_pem(private_key("RSA 1024")), "RS256", "1024 bits"),
    ],
)
def test_keys_that_do_not_fit(secret: str, algorithm: Algorithm, message: str) -> None:
    """Whoever mints learns it at once, not the client; the text does not repeat the key."""
    with pytest.raises(ConfigError, match=message) as caught:
        connection_token(secret, "42", algorithm=algorithm)
    assert not secret or secret not in str(caught.value)


def test_a_missing_user_is_not_the_user_none() -> None:
    """Numbers become text, everything else is a mistake of the caller."""
    assert verify(connection_token(SECRET, 7)).user == "7"
    nobody: Any = None
    with pytest.raises(TypeError):
        connection_token(SECRET, nobody)
