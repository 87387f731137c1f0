"""Server-sent events (WHATWG HTML section 9.2): one channel per response, one event per publication.

Every payload is shown as JSON, so that none has a line break and a page can parse all of them alike. The id of an event
is the position of its publication, which `EventSource` sends back when it reconnects.
"""

from collections.abc import Sequence

import msgspec

from gateway.errors import CloseCode
from gateway.messages import Event, Publication, SubscribeResult
from gateway.protocols.one_channel import OneChannel
from gateway.protocols.payload import as_json
from gateway.protocols.wire_protocol import Message

# Milliseconds after which a client comes back that should not: `EventSource` cannot be told to stay away.
FINAL_RETRY = 60_000

# Names of the events that are no publications.
GAP = b"gateway:gap"
DISCONNECT = b"gateway:disconnect"


class SseProtocol(OneChannel):
    """Messages are the lines of an event; the framing adds the empty line that ends it."""

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """Publications only, as on a plain WebSocket."""
        return [Message(_publication(event)) for event in events if type(event) is Publication]

    def subscribed(self, id: int, channel: str, result: SubscribeResult) -> Sequence[Message]:
        """A comment with the position, which an `EventSource` keeps in silence; then the missed publications.

        If these are gone, the client is told with an event and goes on from there: closed with an error, it would only
        come back with the same position.
        """
        id_line = _id(*result.position) if result.position else b""
        first = b": subscribed" + id_line
        if result.recovered is False:
            # An empty id makes the client forget a position that is good for nothing.
            first = b"event: %b\ndata: {}%b" % (GAP, id_line or b"\nid:")
        return [Message(first), *self.events(result.publications)]

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        """An HTTP response has no close code. An `EventSource` comes back, if only later on codes that are final."""
        retry = b"retry: %d\n" % FINAL_RETRY if code.is_final else b""
        told = msgspec.json.encode({"code": code.code, "reason": code.reason, "reconnect": not code.is_final})
        return (Message(b"%bevent: %b\ndata: %b" % (retry, DISCONNECT, told)),)


def _publication(publication: Publication) -> bytes:
    named = b"event: %b\n" % publication.event.encode() if publication.event else b""
    # Without a position a client keeps the one it has.
    id_line = _id(publication.offset, publication.epoch) if publication.offset else b""
    return b"%bdata: %b%b" % (named, as_json(publication), id_line)


def _id(offset: int, epoch: str) -> bytes:
    """A line after others."""
    return b"\nid: %b:%d" % (epoch.encode(), offset)
