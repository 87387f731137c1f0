"""An example entrance: `GET /lines/CHANNEL` gets a response that does not end."""

from collections.abc import Sequence

from gateway.entrances.channel_url import one_channel
from gateway.entrances.credentials import token_of
from gateway.entrances.entrance import Entrance, OverHttpStream, Welcome
from gateway.protocols.wire_protocol import Message
from gateway.transports.handshake import Handshake
from tests.entrances.lines_protocol import LinesProtocol


def _lines(messages: Sequence[Message]) -> bytes:
    return b"".join(message.data + b"\n" for message in messages)


def _welcome(handshake: Handshake, cookie: str) -> Welcome:
    return one_channel(handshake, token_of(handshake, cookie))


LINES_STREAM = Entrance(
    name="lines",
    path="/lines/{channel:path}",
    carrier=OverHttpStream("http_stream", "text/plain; charset=utf-8", _lines, keep_alive=b"\n"),
    protocol=LinesProtocol(),
    welcome=_welcome,
)
