"""Where clients are let in: the part of an endpoint that does not depend on what carries the connection."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.auth.origins import OriginPolicy
from gateway.extensions import DETACH
from gateway.metrics import Metrics
from gateway.transports.admission import Admission, Place, Refusal
from gateway.transports.asgi_transport import AsgiTransport
from gateway.transports.client_addresses import Network
from gateway.transports.handshake import Handshake, HandshakeRefused, Scope, peer_of
from gateway.transports.responses import error_body, refusal_headers


class Doorkeeping(NamedTuple):
    """What all endpoints of a node share."""

    origins: OriginPolicy
    admission: Admission
    trusted_proxies: Sequence[Network]
    metrics: Metrics


def foreign_page(origins: OriginPolicy, handshake: Handshake) -> Refusal | None:
    """Why a page that may not connect is refused; None for all other clients."""
    reason = origins.check(handshake.origin)
    return None if reason is None or handshake.is_of_own_page else Refusal(403, "origin", "", reason)


class Endpoint(ABC):
    """An ASGI application: checks the origin and the limits, and hands the connection over.

    Under our HTTP class that is final; elsewhere it carries the connection over plain `receive()` and `send()`.
    """

    def __init__(self, shared: Doorkeeping) -> None:
        self._origins, self._admission, self._trusted_proxies, self._metrics = shared
        # Plain ASGI transports whose clients do not read.
        self.congested: set[AsgiTransport] = set()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one handshake and, on plain ASGI, the connection until it ends."""
        detachment = scope.get("extensions", {}).get(DETACH) or {}
        place: Place | None = detachment.get("place")
        if place is not None:
            await self._serve(scope, receive, send, place)
            return
        # This connection was not counted when it arrived.
        place = self._admission.enter(peer_of(scope))
        detached = False
        try:
            detached = await self._serve(scope, receive, send, place)
        finally:
            if not detached:
                place.leave()

    async def _serve(self, scope: Scope, receive: Any, send: Any, place: Place) -> bool:
        """True when the connection lives on by itself."""
        body = await self._take(scope, receive, send)
        if body is None:
            return False
        try:
            return await self._let_in(Handshake(scope, self._trusted_proxies, body), scope, receive, send, place)
        except HandshakeRefused as error:
            refusal = error.detach().refusal
            place.refused(refusal)
            headers = [*refusal_headers(refusal), (b"content-type", b"application/json")]
            await self._refuse(scope, send, refusal.status, headers, error_body(refusal.status, str(error)))
        return False

    def _admit(self, handshake: Handshake, place: Place) -> None:
        """Raises HandshakeRefused with the first reason not to let the client in."""
        self._check_origin(handshake)
        refusal = place.check(handshake.address)
        if refusal is not None:
            raise HandshakeRefused(refusal, refusal.message)

    def _check_origin(self, handshake: Handshake) -> None:
        """Raises HandshakeRefused for a page that may not connect."""
        foreign = foreign_page(self._origins, handshake)
        if foreign is not None:
            raise HandshakeRefused(foreign, foreign.detail)

    @abstractmethod
    async def _take(self, scope: Scope, receive: Any, send: Any) -> bytes | None:
        """Take the request; returns its body. None if it is of another kind, which has then been answered."""

    @abstractmethod
    async def _let_in(self, handshake: Handshake, scope: Scope, receive: Any, send: Any, place: Place) -> bool:
        """Admit and serve. True when the connection lives on by itself. Raises HandshakeRefused."""

    @abstractmethod
    async def _refuse(
        self, scope: Scope, send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Answer with an error."""
