"""What a client sends with the request that opens its connection."""

from gateway.transports.admission import Refusal
from gateway.transports.handshake import Handshake, HandshakeRefused

PROTOBUF_TYPE = "application/octet-stream"


def is_protobuf(handshake: Handshake) -> bool:
    """Whether the body is Protobuf."""
    return handshake.header("content-type").partition(";")[0].strip().lower() == PROTOBUF_TYPE


def first_message(handshake: Handshake) -> bytes:
    """The body, or else the parameter `cf_connect`, in JSON; empty if there is neither.

    Raises HandshakeRefused unless it is UTF-8, and for Protobuf.
    """
    if is_protobuf(handshake):
        raise refusal(415, "Protobuf", "this path speaks JSON (content-type application/json)")
    if not handshake.body:
        return handshake.parameter("cf_connect").encode()
    try:
        handshake.body.decode()
    except UnicodeDecodeError as error:
        raise refusal(400, "invalid UTF-8", f"the body is not UTF-8: {error.reason}") from None
    return handshake.body


def refusal(status: int, reason: str, message: str) -> HandshakeRefused:
    """`reason` is for the metrics, `message` for the client and the log."""
    return HandshakeRefused(Refusal(status, reason, "", message), message)
