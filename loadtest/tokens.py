"""Connection tokens: JSON Web Tokens with HMAC (RFC 7519), as Centrifugo and the gateway take them."""

import secrets
import time

import jwt

LIFETIME = 24 * 3600


def connection_token(secret: str) -> str:
    """For a user of its own; empty without a secret."""
    if not secret:
        return ""
    claims = {"sub": f"load-{secrets.token_hex(6)}", "exp": int(time.time()) + LIFETIME}
    return jwt.encode(claims, secret, algorithm="HS256")
