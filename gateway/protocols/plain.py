"""The plain wire protocol: one channel per connection, bare messages without an envelope.

Every message a client sends is published; every publication arrives as one message. There are no replies: the
connection closes with the code that says why something could not be done.
"""

from collections.abc import Sequence

from gateway.messages import Event, Kind, Publication, Publish, Request
from gateway.protocols.one_channel import OneChannel
from gateway.protocols.wire_protocol import Message


class PlainProtocol(OneChannel):
    """Publishes carry no channel name: the session knows its one channel."""

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        return (Publish(0, "", command, Kind.BINARY if binary else Kind.TEXT),)

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """Publications only: joins and leaves could not be told apart from messages."""
        return [Message(event.data, event.kind is Kind.BINARY) for event in events if type(event) is Publication]
