"""Tokens for clients, for backends to make.

    >>> from gateway.tokens import connection_token, subscription_token
    >>> secret = "a secret of at least 32 bytes, as in auth.hmac_secret"
    >>> token = connection_token(secret, "42", info={"name": "Ada"}, expires_in=600)
    >>> grant = subscription_token(secret, "42", "$chat:room", expires_in=600)

The connection token says who the client is; the subscription token opens one channel to that user. Both are JSON Web
Tokens (RFC 7519). `secret` is the gateway's `auth.hmac_secret` or, for RS256, ES256 and EdDSA, the PEM text of the
private key that belongs to the gateway's public key.
"""

import operator
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.errors import ConfigError

Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"]

PRIVATE_KEYS = {"RS256": RSAPrivateKey, "ES256": EllipticCurvePrivateKey, "EdDSA": Ed25519PrivateKey}


def connection_token(
    secret: str | bytes,
    user: str | int,
    *,
    expires_in: float | None = 3600,
    info: Any = None,
    channels: Iterable[str] = (),
    subs: Mapping[str, Mapping[str, Any]] | None = None,
    expire_at: int | None = None,
    jti: str | None = None,
    audience: str | None = None,
    issuer: str | None = None,
    algorithm: Algorithm = "HS256",
    key_id: str | None = None,
    now: float | None = None,
) -> str:
    """A token to connect with. Raises ConfigError when `secret` does not fit `algorithm`.

    `user`: the user's id, empty for an anonymous client.
    `expires_in`: seconds for which it is accepted, None for ever. The connection lives equally long, unless `expire_at`
    (Unix seconds, 0 for ever) is given; a client that can fetch a fresh token continues without a break.
    `info`: a JSON value that others see with the publications of the client (`conn_info`).
    `channels`: channels that the server subscribes the connection to; `subs` is the same with options,
    `{"news": {"info": ..., "data": ...}}`: `info` is shown to others on that channel, `data` goes to the client.
    `jti`: an id by which this one token can be revoked.
    `audience`, `issuer`: as in the gateway's `auth.audience` and `auth.issuer`.
    `key_id`: the `kid` of the key, for a gateway that knows it from a key set (JWKS).
    `now`: the time of issue in Unix seconds; by default the current time.

    >>> token = connection_token("a secret of at least 32 bytes, as in auth.hmac_secret", "42")
    >>> token.count(".")
    2
    """
    claims: dict[str, Any] = {"info": info, "channels": list(channels) or None, "subs": subs}
    _add_common(claims, user, now, expires_in, expire_at, jti, audience, issuer)
    return _signed(claims, secret, algorithm, key_id)


def subscription_token(
    secret: str | bytes,
    user: str | int,
    channel: str,
    *,
    client: str = "",
    expires_in: float | None = 3600,
    info: Any = None,
    latest_interval: float | None = None,
    expire_at: int | None = None,
    jti: str | None = None,
    audience: str | None = None,
    issuer: str | None = None,
    algorithm: Algorithm = "HS256",
    key_id: str | None = None,
    now: float | None = None,
) -> str:
    """A token that opens one channel to one user. Parameters and errors as for `connection_token`, and:

    `channel`: the whole name, with namespace and `$` if it has them.
    `client`: only for the connection with this id (which a client learns on connect).
    `info`: a JSON value that others see with the publications of the client in the channel (`chan_info`).
    `latest_interval`: with latest values, seconds between two publications of a key; by default as configured.
    `expires_in`: seconds for which it is accepted; the subscription lives equally long, unless `expire_at` is given.
    """
    claims: dict[str, Any] = {
        "channel": channel,
        "client": client or None,
        "info": info,
        "latest_interval": latest_interval,
    }
    _add_common(claims, user, now, expires_in, expire_at, jti, audience, issuer)
    return _signed(claims, secret, algorithm, key_id)


def _add_common(
    claims: dict[str, Any],
    user: str | int,
    now: float | None,
    expires_in: float | None,
    expire_at: int | None,
    jti: str | None,
    audience: str | None,
    issuer: str | None,
) -> None:
    issued_at = time.time() if now is None else now
    # The gateway takes text only; a missing user (None) must not become the user "None".
    claims["sub"] = user if isinstance(user, str) else str(operator.index(user))
    # Revocation by user compares it.
    claims["iat"] = int(issued_at)
    claims["exp"] = None if expires_in is None else int(issued_at + expires_in)
    claims["expire_at"] = expire_at
    claims["jti"] = jti
    claims["aud"] = audience
    claims["iss"] = issuer


def _signed(claims: dict[str, Any], secret: str | bytes, algorithm: Algorithm, key_id: str | None) -> str:
    key = _signing_key(secret, algorithm)
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key, algorithm, headers={"kid": key_id} if key_id is not None else None)


def _signing_key(secret: str | bytes, algorithm: Algorithm) -> Any:
    """The key, loaded once for checking and signing."""
    key: Any = secret
    kind = PRIVATE_KEYS.get(algorithm)
    if kind is not None:
        try:
            key = load_pem_private_key(secret.encode() if isinstance(secret, str) else secret, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError(f"secret: {algorithm} needs the PEM text of a private key without a password") from None
        if not isinstance(key, kind):
            raise ConfigError(f"secret: the private key is not one for {algorithm}")
    implementation = jwt.get_algorithm_by_name(algorithm)
    try:
        key = implementation.prepare_key(key)
    except jwt.InvalidKeyError as error:
        raise ConfigError(f"secret: {error}") from None
    # RFC 7518 sections 3.2 and 3.3 say how long keys have to be.
    problem = implementation.check_key_length(key)
    if problem is not None:
        raise ConfigError(f"secret: {problem}")
    return key
