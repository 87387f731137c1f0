"""From the name of a protocol to what speaks it."""

from typing import assert_never

from loadtest.plan import Protocol
from loadtest.tokens import connection_token
from loadtest.wire.base import Wire
from loadtest.wire.centrifuge import Centrifuge
from loadtest.wire.nats import Nats
from loadtest.wire.raw import Raw
from loadtest.wire.socketio import SocketIO


def make_wire(protocol: Protocol, token_secret: str, *, subscribes: bool = True) -> Wire:
    """For one connection. Only the protocol centrifuge has tokens; without a secret its clients are anonymous."""
    match protocol:
        case "centrifuge":
            return Centrifuge(lambda: connection_token(token_secret))
        case "raw":
            return Raw("sub" if subscribes else "pub")
        case "nats":
            return Nats()
        case "socketio":
            return SocketIO()
        case _:
            assert_never(protocol)
