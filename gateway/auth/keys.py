"""Keys that tokens are verified with. A key determines its algorithms; the header of a token cannot choose others.

| key         | algorithms          | refused                    |
|-------------|---------------------|----------------------------|
| secret      | HS256, HS384, HS512 | below 32 bytes, PEM texts  |
| RSA         | RS256               | below 2048 bits            |
| P-256       | ES256               | other curves               |
| Ed25519     | EdDSA               |                            |
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import Algorithm

from gateway.auth.jws import SignedToken
from gateway.config.settings import AuthSettings
from gateway.errors import ConfigError

HMAC_ALGORITHMS = ("HS256", "HS384", "HS512")
# The algorithms of keys in a key set.
PUBLIC_ALGORITHMS = ("RS256", "ES256", "EdDSA")

MIN_SECRET = 32  # bytes: the hash of HS256, RFC 7518 section 3.2
RSA_BITS = range(2048, 8192 + 1)  # RFC 7518 section 3.3, and a bound on the work per token


class Key:
    """Something that verifies signatures, with the algorithms it may be used with."""

    __slots__ = ("_algorithms", "_material")

    def __init__(self, algorithms: Iterable[str], material: Any) -> None:
        """`material` is prepared for the algorithms: bytes or a public key."""
        self._algorithms: dict[str, Algorithm] = {name: jwt.get_algorithm_by_name(name) for name in algorithms}
        self._material = material

    def verifies(self, token: SignedToken) -> bool:
        """Whether the token was signed with this key, by an algorithm that belongs to it."""
        algorithm = self._algorithms.get(token.algorithm)
        return algorithm is not None and algorithm.verify(token.signed, self._material, token.signature)


class KeySet:
    """A JSON Web Key Set (RFC 7517), by key id and algorithm."""

    __slots__ = ("_keys",)

    def __init__(self, document: bytes) -> None:
        """Raises ValueError if the document is not a key set.

        Keys of other types, for encryption, and secret keys are skipped, as section 5 asks. A set in which no key is
        left is valid: earlier keys are then withdrawn.
        """
        self._keys: dict[tuple[str, str], tuple[Key, ...]] = {}
        try:
            members = msgspec.json.decode(document, type=_Document).keys
        except RecursionError:
            raise ValueError("nested too deep") from None
        for member in members:
            found = _public_jwk(member)
            if found is not None:
                key_id, algorithm, key = found
                self._keys[key_id, algorithm] = (*self._keys.get((key_id, algorithm), ()), key)

    @property
    def is_empty(self) -> bool:
        """Whether it holds no RSA, P-256 or Ed25519 key for signatures."""
        return not self._keys

    def find(self, key_id: str, algorithm: str) -> tuple[Key, ...]:
        """The keys with this id (empty for keys without one) and algorithm."""
        return self._keys.get((key_id, algorithm), ())


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]


def configured_keys(settings: AuthSettings) -> tuple[Key, ...]:
    """The keys written in the settings, current ones first. Raises ConfigError."""
    keys = []
    for name in ("hmac_secret", "hmac_secret_previous"):
        secret = getattr(settings, name)
        if secret is not None:
            keys.append(_secret(f"auth.{name}", secret.get_secret_value()))
    for name in ("public_key", "public_key_previous"):
        pem = getattr(settings, name)
        if pem is not None:
            keys.append(_pem(f"auth.{name}", pem))
    return tuple(keys)


def _secret(setting: str, secret: str) -> Key:
    material = secret.encode()
    if len(material) < MIN_SECRET:
        raise ConfigError(f"{setting}: has {len(material)} bytes; {MIN_SECRET} or more are needed")
    try:
        material = jwt.get_algorithm_by_name("HS256").prepare_key(material)
    except jwt.InvalidKeyError as error:
        # A public key used as a secret is known to everybody.
        raise ConfigError(f"{setting}: {error}") from None
    return Key(HMAC_ALGORITHMS, material)


def _pem(setting: str, pem: str) -> Key:
    try:
        # Environment variables often carry line breaks as backslash and n; PEM itself has no backslash.
        material = load_pem_public_key(pem.replace("\\n", "\n").encode())
        return Key((algorithm_of(material),), material)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{setting}: not the PEM text of a public key (RSA of 2048 bits or more, P-256 or Ed25519): {error}"
        ) from None


def algorithm_of(material: object) -> str:
    """The one algorithm that fits a public key. Raises ValueError when there is none."""
    match material:
        case RSAPublicKey():
            if material.key_size in RSA_BITS:
                return "RS256"
            raise ValueError(f"the RSA key has {material.key_size} bits")
        case EllipticCurvePublicKey():
            if isinstance(material.curve, SECP256R1):
                return "ES256"
            raise ValueError(f"the curve is {material.curve.name}")
        case Ed25519PublicKey():
            return "EdDSA"
        case _:
            raise ValueError("the type of the key is not supported")


# The members that define a public key (RFC 7518 section 6, RFC 8037 section 2). Private members are never read.
PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y")
LOADERS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


def _public_jwk(jwk: Mapping[str, Any]) -> tuple[str, str, Key] | None:
    """(key id, algorithm, key), or None for a key that cannot verify tokens here."""
    key_id = jwk.get("kid", "")
    key_type = jwk.get("kty")
    loader = LOADERS.get(key_type) if isinstance(key_type, str) else None
    if loader is None or not isinstance(key_id, str) or jwk.get("use", "sig") != "sig":
        return None
    try:
        if "verify" not in jwk.get("key_ops", ("verify",)):
            return None
        material = jwt.get_algorithm_by_name(loader).from_jwk(
            {name: jwk[name] for name in PUBLIC_MEMBERS if name in jwk}
        )
        algorithm = algorithm_of(material)
    # The library checks little of a key's shape before it computes with it.
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, UnsupportedAlgorithm):
        return None
    if jwk.get("alg", algorithm) != algorithm:
        return None
    return key_id, algorithm, Key((algorithm,), material)
