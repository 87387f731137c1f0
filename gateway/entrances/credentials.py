"""Where clients that cannot send a connect say who they are, and where they stand in a stream."""

from re import compile as compile_pattern

from gateway.messages import Position
from gateway.transports.handshake import Handshake

_OFFSET = compile_pattern("[0-9]{1,18}")


def token_of(handshake: Handshake, cookie: str) -> str:
    """The token in the first place that has one, empty where none has.

    `Authorization: Bearer TOKEN`, the cookie of that name (none where it is empty), `?token=TOKEN`.
    """
    scheme, _, credentials = handshake.header("authorization").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    if cookie and (token := handshake.cookie(cookie)):
        return token
    return handshake.parameter("token")


def position(text: str) -> Position | None:
    """The `EPOCH:OFFSET` from which a client goes on; None for an empty text.

    Any other text is a position in an epoch that never was, so that the client is told that its place is gone.
    """
    if not text:
        return None
    epoch, _, offset = text.rpartition(":")
    return Position(int(offset), epoch) if _OFFSET.fullmatch(offset) else Position(0, text)
