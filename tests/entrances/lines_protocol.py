"""An example wire protocol: newline-separated text, one `EVENT DATA` per line, and `! CODE REASON` at the end."""

from collections.abc import Sequence

from gateway.errors import CloseCode
from gateway.messages import Event, Publication
from gateway.protocols.one_channel import OneChannel
from gateway.protocols.payload import as_json
from gateway.protocols.wire_protocol import Message


class LinesProtocol(OneChannel):
    """Payloads of every kind become JSON, so that none has a line break."""

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """Publications."""
        found = [event for event in events if type(event) is Publication]
        return [Message(b"%b %b" % ((each.event or "message").encode(), as_json(each))) for each in found]

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        """The last line."""
        return (Message(f"! {code.code} {code.reason}".encode()),)
