"""From the name of a protocol to what speaks it."""

from loadtest.plan import Protocol
from loadtest.tokens import connection_token
from loadtest.wire.base import Wire
from loadtest.wire.centrifuge import Centrifuge


def make_wire(protocol: Protocol, token_secret: str) -> Wire:
    """For one connection. Only the protocol centrifuge has tokens; without a secret its clients are anonymous."""
    return Centrifuge(lambda: connection_token(token_secret))
