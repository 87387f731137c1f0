"""From the name of a protocol to what speaks it."""

from collections.abc import Callable

from loadtest.plan import Protocol
from loadtest.tokens import connection_token
from loadtest.wire.base import Wire
from loadtest.wire.centrifuge import Centrifuge
from loadtest.wire.nats import Nats
from loadtest.wire.raw import Raw
from loadtest.wire.socketio import SocketIo

_OTHERS: dict[Protocol, Callable[[], Wire]] = {"raw": Raw, "nats": Nats, "socketio": SocketIo}


def make_wire(protocol: Protocol, token_secret: str) -> Wire:
    """For one connection. Only the protocol centrifuge has tokens; without a secret its clients are anonymous."""
    if protocol == "centrifuge":
        return Centrifuge(lambda: connection_token(token_secret))
    return _OTHERS[protocol]()
