"""Subscribe, unsubscribe, disconnect, refresh, revoke: methods that act on the connections of a user, on every node."""

import time

from msgspec import UNSET, UnsetType

from gateway.api.publishing import check_size, decoded, spliceable
from gateway.api.schemas import (
    DisconnectRequest,
    EmptyResult,
    RefreshRequest,
    RevokeRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.control import ControlResult, DisconnectUser, RefreshUser, Revocation, SubscribeUser, UnsubscribeUser
from gateway.errors import BAD_REQUEST, EXPIRED, FORCE_DISCONNECT, INTERNAL, CloseCode, RequestError
from gateway.messages import DEFAULT_APP, Position
from gateway.node.administration import Administration
from gateway.protocols.payload import checked_json

DONE = EmptyResult()

# Close codes below are those of RFC 6455 and of the protocol's transports.
LEAST_CLOSE_CODE = 3000
# RFC 6455 section 5.5: a control frame carries 125 bytes, two of them are the code.
REASON_BYTES = 123


class Users:
    """Acts on users through the administration. Every method raises RequestError."""

    def __init__(self, administration: Administration, channels: Channels, settings: ServerSettings) -> None:
        self._administration = administration
        self._channels = channels
        self.apply(settings)

    def apply(self, settings: ServerSettings) -> None:
        """These settings hold from now on."""
        # Of the JSON that is delivered with a subscription.
        self._message_size = settings.limits.message_size
        # Seconds that a connection may outlive its token.
        self._outlives = settings.auth.leeway + settings.heartbeat.expired_grace

    async def subscribe(self, request: SubscribeRequest) -> EmptyResult:
        if 0 < request.expire_at <= time.time():
            raise RequestError(EXPIRED, "expire_at is in the past")
        since = request.recover_since
        message = SubscribeUser(
            DEFAULT_APP,
            request.user,
            self._channels.resolve(DEFAULT_APP, request.channel).channel.name,
            request.client,
            info=self._json(request.info, request.b64info, "b64info"),
            data=self._json(request.data, request.b64data, "b64data"),
            expire_at=request.expire_at,
            since=Position(since.offset, since.epoch) if since is not None else None,
        )
        return _checked(await self._administration.control(message))

    async def unsubscribe(self, request: UnsubscribeRequest) -> EmptyResult:
        message = UnsubscribeUser(DEFAULT_APP, request.user, request.channel, request.client)
        return _checked(await self._administration.control(message))

    async def disconnect(self, request: DisconnectRequest) -> EmptyResult:
        code = _close_code(request.disconnect.code, request.disconnect.reason)
        message = DisconnectUser(
            DEFAULT_APP, request.user, request.client, tuple(request.whitelist), code.code, code.reason
        )
        return _checked(await self._administration.control(message))

    async def refresh(self, request: RefreshRequest) -> EmptyResult:
        message = RefreshUser(
            DEFAULT_APP, request.user, request.client, expired=request.expired, expire_at=request.expire_at
        )
        return _checked(await self._administration.control(message))

    async def revoke(self, request: RevokeRequest) -> EmptyResult:
        if bool(request.user) == bool(request.jti):
            raise RequestError(BAD_REQUEST, "give one of user and jti")
        if 0 < request.expire_at <= time.time() - self._outlives:
            raise RequestError(BAD_REQUEST, "expire_at is in the past: these tokens have expired by themselves")
        issued_before = int(time.time()) if request.user else 0
        revocation = Revocation(DEFAULT_APP, request.user, request.jti, issued_before, request.expire_at)
        return _checked(await self._administration.revoke(revocation))

    def _json(self, value: bytes | memoryview | UnsetType, base64: str | UnsetType, name: str) -> bytes:
        """The JSON of one of two fields, empty when neither is given. Raises RequestError."""
        if value is not UNSET and base64 is not UNSET:
            raise RequestError(BAD_REQUEST, f"give one of {name.removeprefix('b64')} and {name}")
        text = decoded(base64, name) if base64 is not UNSET else b"" if value is UNSET else bytes(value)
        check_size(len(text), self._message_size)
        return checked_json(text) if base64 is not UNSET else spliceable(text)


def _close_code(code: int, reason: str) -> CloseCode:
    if len(reason.encode()) > REASON_BYTES:
        raise RequestError(BAD_REQUEST, f"disconnect.reason has more than {REASON_BYTES} bytes")
    if not code:
        return FORCE_DISCONNECT._replace(reason=reason or FORCE_DISCONNECT.reason)
    if code < LEAST_CLOSE_CODE:
        raise RequestError(BAD_REQUEST, f"disconnect.code is {code}, expected {LEAST_CLOSE_CODE} to 4999")
    return CloseCode(code, reason)


def _checked(result: ControlResult) -> EmptyResult:
    """Raises RequestError unless every node has acted."""
    if result.replies < result.nodes:
        raise RequestError(
            INTERNAL,
            f"{result.replies} of {result.nodes} nodes answered; the others act on it when they reach Redis again, "
            "before they deliver anything",
        )
    return DONE
