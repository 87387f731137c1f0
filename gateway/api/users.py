"""Subscribe, unsubscribe, disconnect, refresh, revoke, kick: act on the connections of a user, on every node."""

import time

from msgspec import Raw, UnsetType, structs

from gateway.api.history import position
from gateway.api.publications import check_size, decoded, given, spliceable
from gateway.api.request_shapes import (
    CloseReason,
    DisconnectRequest,
    KickRequest,
    RefreshRequest,
    RevokeRequest,
    SubscribeRequest,
    UnsubscribeRequest,
    UserRequest,
)
from gateway.api.result_shapes import EmptyResult, KickResult, RevokeResult
from gateway.auth.revocations import ahead
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.control import ControlResult, DisconnectUser, RefreshUser, Revocation, SubscribeUser, UnsubscribeUser
from gateway.errors import BAD_REQUEST, EXPIRED, FORCE_DISCONNECT, INTERNAL, NOT_AVAILABLE, CloseCode, RequestError
from gateway.json_text import mended
from gateway.messages import DEFAULT_APP
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
        self._ahead = ahead(settings.auth.leeway)

    async def subscribe(self, request: SubscribeRequest) -> EmptyResult:
        _check_served(request, "override")
        expire_at = request.expire_at or 0
        if 0 < expire_at <= time.time():
            raise RequestError(EXPIRED, "expire_at is in the past")
        message = SubscribeUser(
            DEFAULT_APP,
            request.user,
            self._channels.resolve(DEFAULT_APP, request.channel).channel.name,
            request.client or "",
            info=self._json(request.info, request.b64info, "b64info"),
            data=self._json(request.data, request.b64data, "b64data"),
            expire_at=expire_at,
            since=position(request.recover_since),
        )
        return _checked(await self._administration.control(message))

    async def unsubscribe(self, request: UnsubscribeRequest) -> EmptyResult:
        _check_served(request)
        message = UnsubscribeUser(DEFAULT_APP, request.user, request.channel or "", request.client or "")
        return _checked(await self._administration.control(message))

    async def disconnect(self, request: DisconnectRequest) -> EmptyResult:
        _check_served(request)
        code = _close_code(request.disconnect or request.go_disconnect or CloseReason())
        whitelist = tuple(request.whitelist or request.go_whitelist or ())
        message = DisconnectUser(DEFAULT_APP, request.user, request.client or "", whitelist, code.code, code.reason)
        return _checked(await self._administration.control(message))

    async def refresh(self, request: RefreshRequest) -> EmptyResult:
        _check_served(request)
        if given(request.info):
            raise RequestError(NOT_AVAILABLE, "field info")
        message = RefreshUser(
            DEFAULT_APP,
            request.user,
            request.client or "",
            expired=bool(request.expired),
            expire_at=request.expire_at or 0,
        )
        return _checked(await self._administration.control(message))

    async def revoke(self, request: RevokeRequest) -> RevokeResult:
        user, jti, expire_at = request.user or "", request.jti or "", request.expire_at or 0
        if bool(user) == bool(jti):
            raise RequestError(BAD_REQUEST, "give one of user and jti")
        connections, issued_before = await self._revoke(Revocation(DEFAULT_APP, user, jti, expire_at=expire_at))
        return RevokeResult(connections, issued_before)

    async def kick(self, request: KickRequest) -> KickResult:
        channel = self._channels.resolve(DEFAULT_APP, request.channel).channel.name
        kick = Revocation(DEFAULT_APP, request.user, expire_at=request.expire_at or 0, channel=channel)
        return KickResult(*await self._revoke(kick))

    async def _revoke(self, revocation: Revocation) -> tuple[int, int]:
        """The number of connections that it affected, and the `issued_before` in force."""
        now = time.time()
        if 0 < revocation.expire_at <= now - self._outlives:
            raise RequestError(BAD_REQUEST, "expire_at is in the past: these tokens have expired by themselves")
        if revocation.user:
            revocation = structs.replace(revocation, issued_before=int(now) + self._ahead)
        revocation, result = await self._administration.revoke(revocation, self._ahead)
        _checked(result)
        return result.affected, revocation.issued_before

    def _json(self, value: Raw | UnsetType, base64: str | None, name: str) -> bytes:
        """The JSON of one of two fields, empty when neither is given. Raises RequestError."""
        text = given(value)
        if text and base64:
            raise RequestError(BAD_REQUEST, f"give one of {name.removeprefix('b64')} and {name}")
        if base64:
            text = decoded(base64, name)
        check_size(len(text), self._message_size)
        return checked_json(mended(text)) if base64 else spliceable(text)


def _check_served(request: UserRequest, *names: str) -> None:
    """Raises RequestError if one of the fields that are not served, `names` and those of all, has a value."""
    for name in ("session", "label_filter", "all_users", *names):
        value = getattr(request, name)
        if any(each is not None for each in value.values()) if isinstance(value, dict) else value:
            raise RequestError(NOT_AVAILABLE, f"field {name}")


def _close_code(close: CloseReason) -> CloseCode:
    code, reason = close.code or 0, close.reason or ""
    if close.reconnect:
        raise RequestError(NOT_AVAILABLE, "field disconnect.reconnect; the code says whether clients reconnect")
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
