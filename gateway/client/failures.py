"""What the methods of the client raise."""

from gateway.errors import GatewayError


class ClientError(GatewayError):
    """A call failed. Raised itself for an answer that is not one of a gateway."""


class Refused(ClientError):
    """The gateway refuses the request: asking again will not help. The codes are those of docs/protocol.md."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message


class Unauthorized(ClientError):
    """The API key is missing or wrong."""


class Unavailable(ClientError):
    """No connection, no answer in time, or an error that may pass; also when it was tried again."""

    def __init__(self, text: str, *, is_unknown: bool) -> None:
        super().__init__(f"{text}; the request may have been carried out" if is_unknown else text)
        # Whether the request may have been carried out.
        self.is_unknown = is_unknown
