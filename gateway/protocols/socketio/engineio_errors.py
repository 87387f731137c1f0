"""The errors that Engine.IO answers HTTP requests with, as the reference numbers and words them."""

from typing import NamedTuple

import msgspec


class EngineError(NamedTuple):
    """An error in the answer to a request, and the status of that answer."""

    code: int
    message: str
    status: int = 400


UNKNOWN_TRANSPORT = EngineError(0, "Transport unknown")
UNKNOWN_SESSION = EngineError(1, "Session ID unknown")
BAD_HANDSHAKE_METHOD = EngineError(2, "Bad handshake method")
BAD_REQUEST = EngineError(3, "Bad request")
FORBIDDEN = EngineError(4, "Forbidden", status=403)
UNSUPPORTED_VERSION = EngineError(5, "Unsupported protocol version")

# The status of a body with more bytes than `maxPayload`: the reference answers without an error in it.
TOO_LARGE = 413


def error_body(error: EngineError) -> bytes:
    """The JSON body of the answer."""
    return msgspec.json.encode({"code": error.code, "message": error.message})
