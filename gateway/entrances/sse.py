"""One channel as server-sent events: what `EventSource` in a browser reads, and `curl -N`."""

from collections.abc import Sequence

from gateway.entrances.channel_url import one_channel
from gateway.entrances.credentials import token_of
from gateway.entrances.entrance import Entrance, OverHttpStream, Welcome
from gateway.protocols.sse import SseProtocol
from gateway.protocols.wire_protocol import Message
from gateway.transports.handshake import Handshake


def _blocks(messages: Sequence[Message]) -> bytes:
    return b"".join(message.data + b"\n\n" for message in messages)


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    """`Last-Event-ID` takes precedence over `?since=`: an `EventSource` reconnects with the URL it began with."""
    return one_channel(handshake, token_of(handshake, cookie), position_in="Last-Event-ID")


SSE = Entrance(
    name="sse",
    path="/sse/{channel:path}",
    carrier=OverHttpStream("sse", "text/event-stream", _blocks, keep_alive=b":\n\n"),
    protocol=SseProtocol(),
    welcome=_welcome,
)
