"""Answers calls when the team has no code of its own in the gateway."""

from collections.abc import Callable

from gateway.errors import NOT_AVAILABLE, RequestError
from gateway.messages import ClientInfo


class NoApplication:
    """Implements the Application port: refuses everything."""

    def call(self, client: ClientInfo, event: str, data: bytes, done: Callable[[bytes | RequestError], None]) -> None:
        """Refuse with error 108."""
        done(RequestError(NOT_AVAILABLE, "no application handles calls"))
