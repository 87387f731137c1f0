"""Where clients that cannot send a connect command put their token and their position in a stream."""

from re import compile as compile_pattern

from gateway.messages import Position
from gateway.transports.handshake import Handshake

_OFFSET = compile_pattern("[0-9]{1,18}")


def token_of(handshake: Handshake, cookie: str) -> str:
    """The first token found, or an empty string.

    Looks in `Authorization: Bearer TOKEN`, the cookie named `cookie` (unless that is empty), and `?token=TOKEN`.
    """
    scheme, _, credentials = handshake.header("authorization").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    if cookie and (token := handshake.cookie(cookie)):
        return token
    return handshake.parameter("token")


def misplaced(handshake: Handshake) -> str:
    """What is wrong with the places of a token, if a client that has none has sent something like it; or empty.

    Quotes nothing that was sent: it may be the token.
    """
    if handshake.header("authorization"):
        return "the Authorization header is not Bearer TOKEN"
    if handshake.has_parameters_beside("since"):
        return "the query string has other parameters, but no token=TOKEN"
    return ""


def position(text: str) -> Position | None:
    """The position after which a client continues, from `EPOCH:OFFSET`; None for an empty text.

    Raises ValueError for any other text.
    """
    if not text:
        return None
    epoch, found, offset = text.rpartition(":")
    if not found or not _OFFSET.fullmatch(offset):
        raise ValueError("not EPOCH:OFFSET")
    return Position(int(offset), epoch)
