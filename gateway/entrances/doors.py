"""Turns entrances into routes, each with an endpoint that opens sessions."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain

from starlette.routing import BaseRoute, Route, WebSocketRoute

from gateway.auth.origins import OriginPolicy
from gateway.config.settings import ServerSettings
from gateway.entrances.entrance import Entrance, OverHttpStream, Welcome
from gateway.entrances.lost import lost_routes
from gateway.extensions import FRAMING
from gateway.hooks.decisions import NO_APPLICATION
from gateway.hooks.questions import Peer, chosen
from gateway.hub.budget import Holder
from gateway.hub.encoder import Encoder, Framing
from gateway.metrics import Metrics
from gateway.protocols.wire_protocol import WireProtocol
from gateway.session.services import SessionServices
from gateway.session.session import Session
from gateway.transports.admission import Admission
from gateway.transports.client_endpoint import Doorkeeping, Endpoint
from gateway.transports.handshake import Handshake
from gateway.transports.http_stream.stream_endpoint import StreamEndpoint
from gateway.transports.http_stream.stream_framing import BodyFraming, ChunkedFraming
from gateway.transports.websocket.frames import WebSocketFraming
from gateway.transports.websocket.websocket_endpoint import WebSocketEndpoint


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
    ) -> None:
        self._services = services
        self._websockets: list[WebSocketEndpoint] = []
        self._streams: list[StreamEndpoint] = []
        self._shared = Doorkeeping(origins, admission, settings.trusted_proxies, metrics)
        self.routes = [*map(self._route, entrances), *lost_routes(entrances, settings.trusted_proxies)]
        self.apply(settings)

    def apply(self, settings: ServerSettings) -> None:
        """Use these settings from now on."""
        self._cookie = settings.auth.cookie
        for endpoint in self._websockets:
            endpoint.message_size = settings.limits.frame_size

    def congested(self) -> Iterator[Holder]:
        """Plain ASGI connections that hold bytes their clients have not read."""
        endpoints: Iterator[Endpoint] = chain(self._websockets, self._streams)
        return chain.from_iterable(endpoint.congested for endpoint in endpoints)

    def _route(self, entrance: Entrance) -> BaseRoute:
        if isinstance(entrance.carrier, OverHttpStream):
            return Route(entrance.path, self._stream(entrance, entrance.carrier))
        return WebSocketRoute(entrance.path, self._websocket(entrance))

    def _websocket(self, entrance: Entrance) -> WebSocketEndpoint:
        plain = WebSocketFraming()
        encoders = cache(_encoders)

        def open_connection(handshake: Handshake) -> tuple[Session, str | None]:
            welcome = entrance.welcome(handshake, self._cookie)
            framing = handshake.scope.get("extensions", {}).get(FRAMING, plain)
            encoder = encoders(framing)(welcome.variant or entrance.protocol)
            return self._open(entrance, "websocket", handshake, welcome, encoder), welcome.subprotocol

        endpoint = WebSocketEndpoint(self._shared, open_connection=open_connection)
        self._websockets.append(endpoint)
        return endpoint

    def _open(
        self, entrance: Entrance, transport: str, handshake: Handshake, welcome: Welcome, encoder: Encoder
    ) -> Session:
        application = self._services.application
        peer = None
        if application is not NO_APPLICATION:
            seen = None
            if application.connect is not None:
                seen = handshake if application.reads_cookies else handshake.without_cookies()
            peer = Peer(
                seen,
                address=handshake.address,
                protocol=entrance.name,
                transport=transport,
                forwarded=chosen(handshake.scope["headers"], application.forwarded),
            )
        return Session(self._services, encoder, home=welcome.home, initial=welcome.initial, peer=peer)

    def _stream(self, entrance: Entrance, carrier: OverHttpStream) -> StreamEndpoint:
        whole = _encoders(BodyFraming(carrier.delimit, carrier.keep_alive))
        chunked = _encoders(ChunkedFraming(carrier.delimit, carrier.keep_alive))

        def open_connection(handshake: Handshake, is_framed: bool) -> Session:
            welcome = entrance.welcome(handshake, self._cookie)
            encoder = (chunked if is_framed else whole)(welcome.variant or entrance.protocol)
            return self._open(entrance, "http_stream", handshake, welcome, encoder)

        endpoint = StreamEndpoint(self._shared, open_connection=open_connection, content_type=carrier.content_type)
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
