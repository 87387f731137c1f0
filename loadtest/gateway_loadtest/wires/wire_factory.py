"""From the name of a protocol to what speaks it."""

from typing import assert_never

from gateway_loadtest.planning.plan import Protocol
from gateway_loadtest.wires.centrifuge_wire import Centrifuge, connection_token
from gateway_loadtest.wires.contract import Wire
from gateway_loadtest.wires.nats_wire import Nats
from gateway_loadtest.wires.raw_wire import Raw
from gateway_loadtest.wires.socketio_wire import SocketIO


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
