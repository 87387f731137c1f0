"""Tokens made by hand: also the wrong ones that no library would sign."""

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

SECRET = "a secret of thirty-two bytes or more"

# Kind of key -> the algorithm it is for.
ALGORITHMS = {"RSA": "RS256", "P-256": "ES256", "Ed25519": "EdDSA"}


@cache
def private_key(kind: str, number: int = 1) -> Any:
    """The `number`th private key of this kind, the same one for the whole run."""
    match kind:
        case "RSA":
            return generate_rsa_key(65537, 2048)
        case "RSA 1024":
            return generate_rsa_key(65537, 1024)
        case "P-256":
            return generate_private_key(SECP256R1())
        case "P-384":
            return generate_private_key(SECP384R1())
        case "Ed448":
            return Ed448PrivateKey.generate()
        case _:
            return Ed25519PrivateKey.generate()


def private_pem(key: Any) -> str:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def public_pem(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def as_json(value: object) -> bytes:
    """JSON, or bytes as they are."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def sign(claims: object, key: Any = SECRET, algorithm: str = "HS256", *, header: object = None, **fields: Any) -> str:
    """A token of these claims and header, both possibly nonsense, with a genuine signature over them."""
    head = header if header is not None else {"alg": algorithm, "typ": "JWT", **fields}
    text = f"{base64url(as_json(head))}.{base64url(as_json(claims))}"
    material = key.encode() if isinstance(key, str) else key
    return f"{text}.{base64url(jwt.get_algorithm_by_name(algorithm).sign(text.encode(), material))}"


def jwk(key: Any, **members: Any) -> dict[str, Any]:
    """The public JSON Web Key of a private key, with members added or (None) removed."""
    match key:
        case RSAPrivateKey():
            algorithm = "RS256"
        case EllipticCurvePrivateKey():
            algorithm = "ES256"
        case _:
            algorithm = "EdDSA"
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in {**public, **members}.items() if value is not None}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()
