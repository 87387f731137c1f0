"""Socket.IO v5 over Engine.IO v4: long polling, WebSocket, and the change from one to the other."""

from collections.abc import Callable, Iterator, Mapping

from starlette.routing import BaseRoute, Route, WebSocketRoute

from gateway.config.settings import ServerSettings
from gateway.entrances.engineio_endpoint import EngineEndpoint, violation
from gateway.entrances.engineio_socket import EngineHost, EngineSocket, OpenSession
from gateway.entrances.engineio_upgrade import EngineUpgrade
from gateway.entrances.first_message import refusal
from gateway.extensions import FRAMING
from gateway.hub.encoder import Framing
from gateway.protocols.socketio.engineio_packets import encode_body, handshake
from gateway.protocols.socketio.socketio_packets import DEFAULT_NAMESPACE
from gateway.protocols.socketio.socketio_protocol import Namespace, OneRoomProtocol, SocketIOProtocol
from gateway.transports.client_endpoint import Doorkeeping
from gateway.transports.handshake import Handshake
from gateway.transports.http_stream.stream_framing import BodyFraming
from gateway.transports.websocket.websocket_endpoint import WebSocketEndpoint

NAME = "socketio"
# With and without the slash: clients have an option for it.
PATHS = ("/socket.io/", "/socket.io")

# What opens the sessions of a client: its handshake, and "polling" or "websocket".
Opener = Callable[[Handshake, str], OpenSession]


def protocols_of(settings: ServerSettings) -> Mapping[str, SocketIOProtocol]:
    """The namespaces, by name, with their events and channels."""
    namespaces = {DEFAULT_NAMESPACE: settings.main_namespace, **settings.socketio.namespaces}
    most = settings.limits.frame_size
    # Without a key no token is good: what applications of Socket.IO have there is for their own connect hook.
    reads = settings.auth.has_key
    return {
        name: SocketIOProtocol(Namespace(each.events, each.everyone, most, each.own, reads, each.recovery, name))
        for name, each in namespaces.items()
    }


def in_one_room(protocols: Mapping[str, SocketIOProtocol]) -> Mapping[str, OneRoomProtocol]:
    """The same for clients in a single room, of the namespaces whose clients recover."""
    return {name: OneRoomProtocol(each.namespace) for name, each in protocols.items() if each.namespace.recovers}


class SocketIODoor:
    """The routes of Socket.IO."""

    def __init__(
        self, host: EngineHost, shared: Doorkeeping, opener: Opener, plain: Framing, *, has_peers: bool
    ) -> None:
        """`plain`: the framing of WebSockets without an extension. `has_peers`: as in EngineEndpoint."""
        self._host = host
        self._opener = opener
        self._plain = plain
        self._polling_framing = BodyFraming(encode_body, b"", answers_pings=True)
        heartbeat = host.services.heartbeat
        self._interval, self._timeout = heartbeat.ping_interval, heartbeat.pong_timeout
        self.websocket = WebSocketEndpoint(shared, open_connection=self._open_websocket)
        self.polling = EngineEndpoint(
            shared,
            host.directory,
            open_connection=self._open_polling,
            poll_limit=self._interval + self._timeout,
            has_peers=has_peers,
        )

    def routes(self) -> Iterator[BaseRoute]:
        for path in PATHS:
            yield Route(path, self.polling)
            yield WebSocketRoute(path, self.websocket)

    def _open_polling(self, request: Handshake) -> EngineSocket:
        secret = self._host.directory.new_secret()
        return EngineSocket(
            self._host,
            self._polling_framing,
            self._opener(request, "polling"),
            secret=secret,
            greeting=self._greeting(secret, ["websocket"]),
        )

    def _open_websocket(self, request: Handshake) -> tuple[EngineUpgrade | EngineSocket, None]:
        error = violation(request, "websocket")
        if error is not None:
            raise refusal(error.status, "malformed handshake", error.message)
        framing = request.scope.get("extensions", {}).get(FRAMING, self._plain)
        opener = self._opener(request, "websocket")
        if secret := request.parameter("sid"):
            # If the client goes on at this node, hooks are shown the handshake of its WebSocket.
            socket = EngineSocket(self._host, framing, opener)
            return EngineUpgrade(secret, self._host.directory, framing, socket), None
        greeting = self._greeting(self._host.directory.new_secret(), [])
        return EngineSocket(self._host, framing, opener, greeting=greeting), None

    def _greeting(self, secret: str, upgrades: list[str]) -> bytes:
        interval, timeout = (round(1000 * seconds) for seconds in (self._interval, self._timeout))
        return handshake(secret, upgrades, interval, timeout, self.polling.message_size)
