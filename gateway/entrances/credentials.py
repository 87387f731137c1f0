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


def position(text: str) -> Position | None:
    """The position after which a client continues, from `EPOCH:OFFSET`; None for an empty text.

    Any other text becomes a position in an epoch that never existed, so the client is told that its position is gone.
    """
    if not text:
        return None
    epoch, _, offset = text.rpartition(":")
    return Position(int(offset), epoch) if _OFFSET.fullmatch(offset) else Position(0, text)
