"""Connection tokens: JSON Web Tokens with HMAC (RFC 7519), as Centrifugo and the gateway take them."""

import secrets
import time
import warnings

import jwt
from jwt.warnings import InsecureKeyLengthWarning

LIFETIME = 24 * 3600


def connection_token(secret: str) -> str:
    """For a user of its own; empty without a secret."""
    if not secret:
        return ""
    claims = {"sub": f"load-{secrets.token_hex(6)}", "exp": int(time.time()) + LIFETIME}
    # Whether the secret is a good one is the server's business.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        return jwt.encode(claims, secret, algorithm="HS256")
