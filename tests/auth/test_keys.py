"""Keys: each knows its algorithms by itself, and weak or unsuitable ones are refused."""

import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.auth.jws import parse
from gateway.auth.keys import Key, KeySet, configured_keys
from gateway.config.settings import AuthSettings
from gateway.errors import ConfigError
from tests.auth.signing import ALGORITHMS, SECRET, base64url, jwk, key_set, private_key, private_pem, public_pem, sign

CLAIMS = {"sub": "42"}


def only(settings: AuthSettings) -> Key:
    (key,) = configured_keys(settings)
    return key


def by_pem(kind: str) -> Key:
    return only(AuthSettings(public_key=public_pem(private_key(kind))))


# Configured keys


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_verifies_all_hmac_algorithms(algorithm: str) -> None:
    """With the one secret, and not with another."""
    key = only(AuthSettings(hmac_secret=SecretStr(SECRET)))
    assert key.verifies(parse(sign(CLAIMS, SECRET, algorithm)))
    assert not key.verifies(parse(sign(CLAIMS, SECRET + "x", algorithm)))


@pytest.mark.parametrize(("kind", "algorithm"), ALGORITHMS.items())
def test_a_public_key_verifies_its_algorithm(kind: str, algorithm: str) -> None:
    """Signed with its private key, and not with another of the same kind."""
    key = by_pem(kind)
    assert key.verifies(parse(sign(CLAIMS, private_key(kind), algorithm)))
    assert not key.verifies(parse(sign(CLAIMS, private_key(kind, 2), algorithm)))


@pytest.mark.parametrize("kind", ALGORITHMS)
@pytest.mark.parametrize("header", ["none", "None", "", "HS256", "HS512", "RS256", "RS512", "PS256", "ES256", "EdDSA"])
def test_the_header_does_not_choose_the_algorithm(kind: str, header: str) -> None:
    """A genuine signature under another name is refused: the key says what it is for."""
    token = sign(CLAIMS, private_key(kind), ALGORITHMS[kind], header={"alg": header})
    assert by_pem(kind).verifies(parse(token)) == (header == ALGORITHMS[kind])


@pytest.mark.parametrize("kind", ALGORITHMS)
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_not_a_secret(kind: str, algorithm: str) -> None:
    """The oldest confusion of keys (CVE-2022-29217): HMAC with the text of the public key, which everybody has."""
    pem = public_pem(private_key(kind))
    signed = sign(CLAIMS, SECRET, algorithm).rpartition(".")[0]
    forged = f"{signed}.{base64url(hmac.digest(pem.encode(), signed.encode(), f'sha{algorithm[2:]}'))}"
    assert not by_pem(kind).verifies(parse(forged))


@pytest.mark.parametrize("signature", [b"\0", b"s" * 32, b"\0" * 64, b"\xff" * 64, b"s" * 256, b"s" * 5000])
@pytest.mark.parametrize("kind", ["secret", *ALGORITHMS])
def test_signatures_of_any_shape_are_just_wrong(kind: str, signature: bytes) -> None:
    """Zeros, other lengths and noise; the elliptic curve's zero signature once passed for good (CVE-2022-21449)."""
    key = only(AuthSettings(hmac_secret=SecretStr(SECRET))) if kind == "secret" else by_pem(kind)
    header = base64url(json.dumps({"alg": ALGORITHMS.get(kind, "HS256")}).encode())
    assert not key.verifies(parse(f"{header}.{base64url(b'{}')}.{base64url(signature)}"))


def test_the_previous_keys_are_accepted_while_one_rotates() -> None:
    """Two secrets and two public keys, the current ones first."""
    keys = configured_keys(
        AuthSettings(
            hmac_secret=SecretStr(SECRET),
            hmac_secret_previous=SecretStr("previous " + SECRET),
            public_key=public_pem(private_key("P-256")),
            public_key_previous=public_pem(private_key("RSA")),
        )
    )
    tokens = [
        sign(CLAIMS, SECRET),
        sign(CLAIMS, "previous " + SECRET),
        sign(CLAIMS, private_key("P-256"), "ES256"),
        sign(CLAIMS, private_key("RSA"), "RS256"),
    ]
    assert [[key.verifies(parse(token)) for key in keys].index(True) for token in tokens] == [0, 1, 2, 3]


def test_a_key_from_an_environment_variable() -> None:
    """Where line breaks are often written as backslash and n."""
    pem = public_pem(private_key("P-256")).replace("\n", "\\n")
    assert only(AuthSettings(public_key=pem)).verifies(parse(sign(CLAIMS, private_key("P-256"), "ES256")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hmac_secret": "short"}, r"auth\.hmac_secret: has 5 bytes; 32 or more are needed"),
        ({"hmac_secret_previous": "x" * 31}, r"auth\.hmac_secret_previous: has 31 bytes"),
        ({"hmac_secret": public_pem(private_key("P-256"))}, r"auth\.hmac_secret: .*asymmetric key"),
        ({"hmac_secret": json.dumps(jwk(private_key("RSA")))}, r"auth\.hmac_secret: .*JWK"),
        ({"public_key": "hello"}, r"auth\.public_key: not the PEM text"),
        ({"public_key": private_pem(private_key("P-256"))}, r"auth\.public_key: not the PEM text"),
        ({"public_key": public_pem(private_key("RSA 1024"))}, r"auth\.public_key: .*1024 bits"),
        ({"public_key": public_pem(private_key("P-384"))}, r"auth\.public_key: .*secp384r1"),
        ({"public_key_previous": public_pem(private_key("Ed448"))}, r"auth\.public_key_previous: .*type"),
    ],
)
def test_keys_that_stop_the_start(settings: dict[str, Any], message: str) -> None:
    """Too short, of another kind, private or confused: the text names the setting, never the key."""
    with pytest.raises(ConfigError, match=message) as caught:
        configured_keys(AuthSettings.model_validate(settings))
    (value,) = settings.values()
    assert len(value) < 6 or value not in str(caught.value)


# Key sets


@pytest.mark.parametrize(("kind", "algorithm"), ALGORITHMS.items())
def test_a_key_of_a_set(kind: str, algorithm: str) -> None:
    """Found by id and algorithm; under its id with another algorithm, or under another id, it is not there."""
    found = KeySet(key_set(jwk(private_key(kind), kid="k"))).find("k", algorithm)
    token = parse(sign(CLAIMS, private_key(kind), algorithm))
    assert [key.verifies(token) for key in found] == [True]
    keys = KeySet(key_set(jwk(private_key(kind), kid="k")))
    assert not any(keys.find("k", other) for other in ("HS256", "none", *ALGORITHMS.values()) if other != algorithm)
    assert not keys.find("", algorithm)
    assert not keys.find("K", algorithm)


def test_keys_that_share_an_id() -> None:
    """Of different types (RFC 7517 section 4.5), of the same type, or without an id: all of them count."""
    keys = KeySet(
        key_set(
            jwk(private_key("RSA"), kid="k"),
            jwk(private_key("P-256"), kid="k"),
            jwk(private_key("P-256", 2), kid="k"),
            jwk(private_key("Ed25519")),
        )
    )
    assert len(keys.find("k", "RS256")) == 1
    assert len(keys.find("k", "ES256")) == 2
    assert len(keys.find("", "EdDSA")) == 1


def test_private_members_are_not_looked_at() -> None:
    """A set that gives away its private key still yields the public one."""
    key = private_key("P-256")
    d = base64url(key.private_numbers().private_value.to_bytes(32))
    (found,) = KeySet(key_set(jwk(key, d=d))).find("", "ES256")
    assert found.verifies(parse(sign(CLAIMS, key, "ES256")))


GOOD = jwk(private_key("P-256"), kid="good")
UNUSABLE: dict[str, dict[str, Any]] = {
    "no type": jwk(private_key("RSA"), kty=None),
    "an unknown type": jwk(private_key("RSA"), kty="DSA"),
    "a type that is a number": jwk(private_key("RSA"), kty=1),
    "a type that is a list": jwk(private_key("RSA"), kty=["RSA"]),
    "a secret": {"kty": "oct", "k": base64url(SECRET.encode())},
    "a key for encryption": jwk(private_key("RSA"), use="enc"),
    "a key for signing only": jwk(private_key("RSA"), key_ops=["sign"]),
    "operations that are a number": jwk(private_key("RSA"), key_ops=7),
    "another algorithm": jwk(private_key("RSA"), alg="PS256"),
    "the algorithm of a secret": jwk(private_key("RSA"), alg="HS256"),
    "an algorithm of another type": jwk(private_key("RSA"), alg="ES256"),
    "an id that is a number": jwk(private_key("RSA"), kid=5),
    "a short RSA key": jwk(private_key("RSA 1024")),
    "a long RSA key": jwk(private_key("RSA"), n=base64url(b"\xff" * 1025)),
    "no modulus": jwk(private_key("RSA"), n=None),
    "a modulus that is a number": jwk(private_key("RSA"), n=5),
    "an empty modulus": jwk(private_key("RSA"), n=""),
    "an exponent of one": jwk(private_key("RSA"), e="AQ"),
    "an even exponent": jwk(private_key("RSA"), e="Ag"),
    "another curve": jwk(private_key("P-384")),
    "a curve of another type": jwk(private_key("P-256"), crv="Ed25519"),
    "no curve": jwk(private_key("P-256"), crv=None),
    "a point off the curve": jwk(private_key("P-256"), x=base64url(b"\1" * 32)),
    "a short coordinate": jwk(private_key("P-256"), x=base64url(b"\1" * 31)),
    "a coordinate that is null": {**jwk(private_key("P-256")), "x": None},
    "Ed448": jwk(private_key("Ed448")),
    "X25519": jwk(private_key("Ed25519"), crv="X25519"),
    "a short Ed25519 key": jwk(private_key("Ed25519"), x="AAAA"),
    "base64 that is none": jwk(private_key("Ed25519"), x="!?ü"),
    "nothing": {},
}


@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_keys_that_are_not_for_us_are_skipped(unusable: dict[str, Any]) -> None:
    """The others of the set still count; alone they are a set that holds no key."""
    keys = KeySet(key_set(unusable, GOOD))
    assert not any(keys.find("", algorithm) for algorithm in ("HS256", *ALGORITHMS.values()))
    assert keys.find("good", "ES256")
    assert not keys.is_empty
    assert KeySet(key_set(unusable)).is_empty


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"null", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[1]}', b"<html>", b"\xff"),
        b"[" * 100_000,
        b'{"keys":[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
)
def test_what_is_not_a_key_set(document: bytes) -> None:
    """ValueError, and nothing else."""
    with pytest.raises(ValueError, match=r".+"):
        KeySet(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.sampled_from(["kty", "n", "e", "crv", "x", "y", "kid", "use", "alg", "key_ops", "d"])


@given(kind=st.sampled_from([*ALGORITHMS, "Ed448"]), changes=st.dictionaries(MEMBERS, JSON, max_size=4))
@settings(derandomize=True, max_examples=150, deadline=None)
def test_arbitrary_members(kind: str, changes: dict[str, Any]) -> None:
    """A key either fits or is skipped, whatever its members are."""
    keys = KeySet(key_set({**jwk(private_key(kind)), **changes}, GOOD))
    assert keys.find("good", "ES256")
