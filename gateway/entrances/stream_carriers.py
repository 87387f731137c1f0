"""How the Centrifuge protocols are carried by an HTTP response: as server-sent events, or as lines."""

from collections.abc import Sequence

from gateway.entrances.entrance import OverHttpStream
from gateway.protocols.wire_protocol import Message


def _events(messages: Sequence[Message]) -> bytes:
    """One event per message; `EventSource` joins the lines of its data again."""
    return b"".join(b"data: %b\n\n" % message.data.replace(b"\n", b"\ndata: ") for message in messages)


def _lines(messages: Sequence[Message]) -> bytes:
    """In JSON a line each. What is binary tells its length itself."""
    return b"".join(message.data if message.binary else message.data + b"\n" for message in messages)


def over_events(*, is_emulated: bool) -> OverHttpStream:
    """Server-sent events (WHATWG HTML section 9.2). `is_emulated`: as in OverHttpStream."""
    return OverHttpStream("sse", "text/event-stream", _events, b":\n\n", ("GET", "POST"), is_emulated)


def over_lines(*, is_emulated: bool) -> OverHttpStream:
    """A JSON text per line, or messages of Protobuf. `is_emulated`: as in OverHttpStream."""
    return OverHttpStream("http_stream", "application/json", _lines, b"\n", ("POST",), is_emulated)
