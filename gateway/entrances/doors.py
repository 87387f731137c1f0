"""Turns entrances into routes, each with an endpoint that opens sessions."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Protocol

from starlette.routing import BaseRoute, Route, WebSocketRoute

from gateway.auth.origins import OriginPolicy
from gateway.config.settings import ServerSettings
from gateway.entrances.directory import Directory
from gateway.entrances.emulation import Emulated
from gateway.entrances.emulation_endpoint import PATH as EMULATION_PATH
from gateway.entrances.emulation_endpoint import EmulationEndpoint
from gateway.entrances.engineio_socket import EngineHost, EngineSocket, OpenSession
from gateway.entrances.entrance import Entrance, OverHttpStream, Welcome
from gateway.entrances.lost import lost_routes
from gateway.entrances.socketio import NAME as SOCKETIO
from gateway.entrances.socketio import SocketIODoor, in_one_room, protocols_of
from gateway.extensions import FRAMING
from gateway.hooks.decisions import NO_APPLICATION
from gateway.hooks.questions import Peer, chosen
from gateway.hub.budget import Holder
from gateway.hub.encoder import Encoder, Framing
from gateway.metrics import Metrics
from gateway.protocols.wire_protocol import WireProtocol
from gateway.session.services import SessionServices
from gateway.session.session import Session
from gateway.session.transport import Connection
from gateway.transports.admission import Admission
from gateway.transports.client_endpoint import Doorkeeping, Endpoint
from gateway.transports.handshake import Handshake
from gateway.transports.http_stream.stream_endpoint import StreamEndpoint
from gateway.transports.http_stream.stream_framing import BodyFraming, ChunkedFraming
from gateway.transports.websocket.frames import WebSocketFraming
from gateway.transports.websocket.websocket_endpoint import WebSocketEndpoint


class _Sized(Protocol):
    message_size: int


class Doors:
    """The entrances of one node."""

    def __init__(
        self,
        entrances: Sequence[Entrance],
        settings: ServerSettings,
        *,
        services: SessionServices[Session],
        origins: OriginPolicy,
        admission: Admission,
        metrics: Metrics,
        directory: Directory,
    ) -> None:
        self._services = services
        self._directory = directory
        self._websockets: list[WebSocketEndpoint] = []
        self._streams: list[StreamEndpoint] = []
        self._shared = Doorkeeping(origins, admission, settings.trusted_proxies, metrics)
        self._emulation = EmulationEndpoint(directory, origins, settings.limits.frame_size)
        plain = WebSocketFraming()
        # Connections of Socket.IO that have no session yet.
        self.unjoined: set[EngineSocket] = set()
        protocols = protocols_of(settings)
        host = EngineHost(
            services, protocols, in_one_room(protocols), _encoders_by_framing(), directory, admission, self.unjoined
        )
        has_peers = settings.redis.url is not None
        self._socketio = SocketIODoor(host, self._shared, self._opener, plain, has_peers=has_peers)
        self.routes = [
            *map(self._route, entrances),
            *self._socketio.routes(),
            *self._emulation_route(entrances),
            *lost_routes(entrances, settings.trusted_proxies),
        ]
        self.apply(settings)

    def apply(self, settings: ServerSettings) -> None:
        """Use these settings from now on."""
        self._cookie = settings.auth.cookie
        sized: Sequence[_Sized] = (
            *self._websockets,
            *self._streams,
            self._emulation,
            self._socketio.websocket,
            self._socketio.polling,
        )
        for endpoint in sized:
            endpoint.message_size = settings.limits.frame_size

    def congested(self) -> Iterator[Holder]:
        """Connections that hold bytes their clients have not read: those over plain ASGI, and those that poll."""
        endpoints: Iterator[Endpoint] = chain(self._websockets, self._streams, (self._socketio.websocket,))
        congested = chain.from_iterable(endpoint.congested for endpoint in endpoints)
        return chain(congested, self._socketio.polling.polling_congested)

    def _route(self, entrance: Entrance) -> BaseRoute:
        if isinstance(entrance.carrier, OverHttpStream):
            return Route(entrance.path, self._stream(entrance, entrance.carrier))
        return WebSocketRoute(entrance.path, self._websocket(entrance))

    def _emulation_route(self, entrances: Sequence[Entrance]) -> Iterator[BaseRoute]:
        carriers = (entrance.carrier for entrance in entrances)
        if any(isinstance(carrier, OverHttpStream) and carrier.is_emulated for carrier in carriers):
            yield Route(EMULATION_PATH, self._emulation)

    def _websocket(self, entrance: Entrance) -> WebSocketEndpoint:
        plain = WebSocketFraming()
        encoders = _encoders_by_framing()

        def open_connection(handshake: Handshake) -> tuple[Session, str | None]:
            welcome = entrance.welcome(handshake, self._cookie)
            framing = handshake.scope.get("extensions", {}).get(FRAMING, plain)
            encoder = encoders(framing)(welcome.variant or entrance.protocol)
            return self._open(entrance, "websocket", handshake, welcome, encoder), welcome.subprotocol

        endpoint = WebSocketEndpoint(self._shared, open_connection=open_connection)
        self._websockets.append(endpoint)
        return endpoint

    def _open(
        self,
        entrance: Entrance,
        transport: str,
        handshake: Handshake,
        welcome: Welcome,
        encoder: Encoder,
        secret: str = "",
    ) -> Session:
        peer = self._peer(entrance.name, transport, handshake)
        return Session(self._services, encoder, home=welcome.home, initial=welcome.initial, peer=peer, secret=secret)

    def _opener(self, handshake: Handshake, transport: str) -> OpenSession:
        """Opens the sessions of a client of Socket.IO. It keeps the handshake only for an application that asks."""
        if self._services.application is NO_APPLICATION:
            return partial(Session, self._services)
        return lambda encoder: Session(self._services, encoder, peer=self._peer(SOCKETIO, transport, handshake))

    def _peer(self, protocol: str, transport: str, handshake: Handshake) -> Peer | None:
        """Who the client is; None where no application asks."""
        application = self._services.application
        if application is NO_APPLICATION:
            return None
        seen = None
        if application.connect is not None:
            seen = handshake if application.reads_cookies else handshake.without_cookies()
        return Peer(
            seen,
            address=handshake.address,
            protocol=protocol,
            transport=transport,
            forwarded=chosen(handshake.scope["headers"], application.forwarded),
        )

    def _stream(self, entrance: Entrance, carrier: OverHttpStream) -> StreamEndpoint:
        whole = _encoders(BodyFraming(carrier.delimit, carrier.keep_alive, answers_pings=carrier.is_emulated))
        chunked = _encoders(ChunkedFraming(carrier.delimit, carrier.keep_alive, answers_pings=carrier.is_emulated))

        def open_connection(handshake: Handshake, is_framed: bool) -> tuple[Connection, str]:
            welcome = entrance.welcome(handshake, self._cookie)
            encoder = (chunked if is_framed else whole)(welcome.variant or entrance.protocol)
            secret = self._directory.new_secret() if carrier.is_emulated else ""
            session = self._open(entrance, carrier.name, handshake, welcome, encoder, secret)
            content_type = welcome.content_type or carrier.content_type
            if not secret:
                return session, content_type
            return Emulated(session, self._directory, welcome.first, is_binary=welcome.is_binary), content_type

        endpoint = StreamEndpoint(self._shared, open_connection=open_connection, methods=carrier.methods)
        self._streams.append(endpoint)
        return endpoint


def _encoders(framing: Framing) -> Callable[[WireProtocol], Encoder]:
    """One encoder for all connections of a protocol: its identity defines their delivery group."""
    encoders: dict[WireProtocol, Encoder] = {}

    def encoder_of(protocol: WireProtocol) -> Encoder:
        if protocol not in encoders:
            encoders[protocol] = Encoder.of(protocol, framing)
        return encoders[protocol]

    return encoder_of


def _encoders_by_framing() -> Callable[[Framing], Callable[[WireProtocol], Encoder]]:
    """The same for any framing."""
    found: dict[Framing, Callable[[WireProtocol], Encoder]] = {}

    def encoders_of(framing: Framing) -> Callable[[WireProtocol], Encoder]:
        if framing not in found:
            found[framing] = _encoders(framing)
        return found[framing]

    return encoders_of
