"""From the name of a protocol to what speaks it."""

from typing import assert_never

from gateway_loadtest.planning.plan import Protocol
from gateway_loadtest.wires.centrifuge_wire import Centrifuge, connection_token
from gateway_loadtest.wires.contract import HttpWire, WebSocketWire
from gateway_loadtest.wires.emulation_wires import EmulatedEvents, EmulatedLines
from gateway_loadtest.wires.nats_wire import Nats
from gateway_loadtest.wires.raw_wire import Raw
from gateway_loadtest.wires.socketio_wire import SocketIO
from gateway_loadtest.wires.sse_wire import Sse, SsePublisher


def make_wire(protocol: Protocol, token_secret: str, *, subscribes: bool = True) -> WebSocketWire | HttpWire:
    """For one connection. Without a secret, clients of the protocols with tokens are anonymous."""

    def token() -> str:
        return connection_token(token_secret)

    match protocol:
        case "centrifuge":
            return Centrifuge(token)
        case "centrifuge_http_stream":
            return EmulatedLines(token)
        case "centrifuge_sse":
            return EmulatedEvents(token)
        case "sse":
            return Sse(token) if subscribes else SsePublisher(token)
        case "raw":
            return Raw("sub" if subscribes else "pub")
        case "nats":
            return Nats()
        case "socketio":
            return SocketIO()
        case _:
            assert_never(protocol)
