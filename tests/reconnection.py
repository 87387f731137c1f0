"""The rule of the Centrifuge client protocol by which clients come back after a close."""

from gateway.errors import CloseCode


def reconnects(code: CloseCode) -> bool:
    """Whether SDKs connect again: below 3500, and from 4000 to 4499. RFC 6455 has 1009 for a message, which stays."""
    return 3000 <= code.code < 3500 or 4000 <= code.code < 4500
