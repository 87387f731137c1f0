"""Tokens of clients: a connection token says who a client is, a subscription token opens a channel.

Claims are those of the Centrifuge protocol: sub, exp, nbf, iat, jti, aud, iss, info, b64info, expire_at, and channels
and subs, or channel and client. Types are strict: ids are strings of at most 255 characters, times are seconds since
1970. A wrong claim is refused, never ignored. Null counts as absent where the claim adds something or names the token.
It is refused where it would lift a limit (exp, nbf, expire_at, aud, iss, channel, client) or say nothing of the user.
"""

import asyncio
import math
from base64 import b64decode
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.auth import jws
from gateway.auth.identity import Grant, Identity, ServerSub, TokenDone
from gateway.auth.jwks import FileKeys, UrlKeys
from gateway.auth.jws import SignedToken
from gateway.auth.keys import PUBLIC_ALGORITHMS, configured_keys
from gateway.auth.revocations import Revocations, ahead, doubtful
from gateway.config.settings import AuthSettings
from gateway.errors import (
    INTERNAL,
    INVALID_TOKEN,
    PERMISSION_DENIED,
    TOKEN_EXPIRED,
    TOKEN_TOO_EARLY,
    Disconnect,
    RequestError,
)
from gateway.json_text import check_json, compact
from gateway.messages import DEFAULT_APP

# Up to the year 9999: larger numbers are milliseconds by mistake.
Time = Annotated[float, Meta(ge=0, le=253_402_300_799)]
Id = Annotated[str, Meta(max_length=255)]


class _SubClaim(msgspec.Struct, frozen=True, gc=False):
    info: msgspec.Raw = msgspec.Raw()
    b64info: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    b64data: str | None = None


class Claims(msgspec.Struct, frozen=True, gc=False):
    """The payload of a token. A claim that may be null is None then, as if it were absent."""

    sub: Id = ""
    exp: Time | UnsetType = UNSET
    nbf: Time = 0
    iat: Time | None = None
    jti: Id | None = None
    aud: str | list[str] | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    info: msgspec.Raw = msgspec.Raw()
    b64info: str | None = None
    expire_at: Time | UnsetType = UNSET
    channels: list[str] | None = None
    subs: dict[str, _SubClaim | None] | None = None
    channel: str | UnsetType = UNSET
    client: Id = ""
    latest_interval: Annotated[float, Meta(ge=0, le=3600)] | None = None


CLAIMS = msgspec.json.Decoder(Claims)

T = TypeVar("T", Identity, Grant, Identity | Grant)


class TokenVerifier:
    """Checks tokens: signature, times, audience, issuer, revocation, kicks."""

    def __init__(
        self,
        settings: AuthSettings,
        revocations: Revocations,
        time: Callable[[], float],
        *,
        app: str = DEFAULT_APP,
    ) -> None:
        """`time` gives Unix seconds; all tokens belong to `app`. Raises ConfigError for a key that cannot be used."""
        self._settings = settings
        self._revocations = revocations
        self._time = time
        self._app = app
        self._keys = configured_keys(settings)
        self._file = FileKeys(settings.jwks_file) if settings.jwks_file is not None else None
        url = settings.jwks_url
        self._url = UrlKeys(url.get_secret_value(), settings.jwks_ttl) if url is not None else None
        # The end of key sets that were replaced.
        self._ending: asyncio.Future[list[object]] | None = None

    async def start(self) -> None:
        """Fetch the key set for the first time, if there is a URL. If that fails, it is fetched again later."""
        if self._url is not None:
            await self._url.start()

    async def stop(self) -> None:
        """Stop fetching; tokens that wait are answered with an error. Safe to call twice, and before start."""
        if self._url is not None:
            await self._url.stop()
        if self._ending is not None:
            await self._ending

    def like(self, settings: AuthSettings) -> "TokenVerifier":
        """A verifier with other settings and the same revocations. Raises ConfigError."""
        return TokenVerifier(settings, self._revocations, self._time, app=self._app)

    def adopt(self, other: "TokenVerifier") -> None:
        """Use the settings of the other, which was not started. A key set at the same URL is not fetched again."""
        self._settings = other._settings
        self._keys = other._keys
        self._file = other._file
        if self._url is not None and other._url is not None and self._url.is_like(other._url):
            return
        if self._url is not None:
            self._ending = asyncio.gather(self._url.stop(), *filter(None, [self._ending]))
        self._url = other._url
        if self._url is not None:
            self._url.begin()

    # `done` is called once: before the method returns, or later on the event loop if the key set has to be fetched. In
    # addition to the results that each method names, that can be RequestError(INTERNAL), which is temporary.

    def connection(self, token: str, done: TokenDone[Identity]) -> None:
        """Who connects: Identity, RequestError (109), or Disconnect(INVALID_TOKEN) with the reason."""
        self._verify(token, self._identity, done)

    def subscription(self, token: str, done: TokenDone[Grant]) -> None:
        """What it grants: Grant, RequestError (109), or RequestError(PERMISSION_DENIED) with the reason.

        The caller has to check whether it is for this channel, user and client.
        """

        def refused(outcome: Grant | RequestError | Disconnect) -> None:
            done(RequestError(PERMISSION_DENIED, outcome.detail) if isinstance(outcome, Disconnect) else outcome)

        self._verify(token, self._grant, refused)

    def either(self, token: str, done: TokenDone[Identity | Grant]) -> None:
        """Identity of a connection token, Grant of a subscription token; errors as for `connection`."""
        self._verify(token, self._identity_or_grant, done)

    def _verify(self, token: str, accept: Callable[[Claims], T], done: TokenDone[T]) -> None:
        try:
            signed = jws.parse(token)
        except Disconnect as error:
            done(error.detach())
            return
        genuine = self._is_genuine(signed)
        if not genuine and self._url is not None and self._is_unknown(signed):
            self._url.ask(partial(self._asked, signed, accept, done))
        else:
            done(self._judge(signed, accept, genuine))

    def _asked(self, signed: SignedToken, accept: Callable[[Claims], T], done: TokenDone[T], problem: str) -> None:
        """The key set was fetched for this token, or there was a problem."""
        try:
            genuine = self._is_genuine(signed)
            if not genuine and problem and self._is_unknown(signed):
                outcome: T | RequestError | Disconnect = RequestError(INTERNAL, problem)
            else:
                outcome = self._judge(signed, accept, genuine)
        except Exception:
            # Otherwise the caller would wait for ever.
            done(RequestError(INTERNAL, "the token could not be checked"))
            raise
        done(outcome)

    def _is_genuine(self, token: SignedToken) -> bool:
        """Whether one of our keys has signed it."""
        if any(key.verifies(token) for key in self._keys):
            return True
        if token.algorithm not in PUBLIC_ALGORITHMS:
            return False
        sources = [source for source in (self._file, self._url) if source is not None]
        return any(key.verifies(token) for source in sources for key in source.find(token.key_id, token.algorithm))

    def _is_unknown(self, token: SignedToken) -> bool:
        """Whether a fetch of the key set could bring the key of this token."""
        return (
            self._url is not None
            and token.algorithm in PUBLIC_ALGORITHMS
            and not self._url.find(token.key_id, token.algorithm)
        )

    def _judge(self, token: SignedToken, accept: Callable[[Claims], T], genuine: bool) -> T | RequestError | Disconnect:
        try:
            if not genuine:
                raise _invalid(f"no key here signed it (alg {token.algorithm[:16]!r}, kid {token.key_id[:64]!r})")
            return accept(_claims(token.payload))
        except (RequestError, Disconnect) as error:
            return error.detach()

    def is_surely_revoked(self, token: Identity | Grant) -> bool:
        """Whether it would be INVALID_TOKEN now: it is revoked, and was not issued after the revocation by a clock that
        is behind."""
        return self._is_old(token.user, token.jti, token.issued_at)

    def check_revocation(self, token: Identity | Grant) -> None:
        """Raises what a token is refused with that has been revoked, or whose user has been kicked, since it was
        verified."""
        self._check_revocation(token.user, token.jti, token.issued_at)
        if isinstance(token, Grant):
            self._check_kick(token)

    def opens(self, token: Identity, channel: str) -> bool:
        """Whether a connection token may still open a channel that it names: not if its user was kicked since."""
        return not self._revocations.is_kicked(self._app, token.user, channel, token.issued_at)

    @property
    def revocations(self) -> int:
        """How often something was revoked, or somebody was kicked, as far as this node knows."""
        return self._revocations.number

    def is_revoked_since(self, revocations: int, user: str, channel: str = "") -> bool:
        """Whether this node has heard, since `revocations` was this, that the user was revoked, or kicked from the
        channel."""
        return self._revocations.is_newer(self._app, user, channel, revocations)

    # From claims to what they mean. These raise Disconnect(INVALID_TOKEN) and RequestError (109).

    def _identity(self, claims: Claims) -> Identity:
        if claims.channel is not UNSET:
            raise _invalid("a subscription token (it has a channel) cannot connect")
        expire_at = self._check(claims)
        subs = dict.fromkeys(claims.channels or (), ServerSub())
        for name, sub in (claims.subs or {}).items():
            info = _json_text("subs info", sub.info, sub.b64info) if sub else b""
            data = _json_text("subs data", sub.data, sub.b64data) if sub else b""
            subs[name] = ServerSub(info, data)
        return Identity(
            self._app,
            claims.sub,
            jti=claims.jti or "",
            issued_at=int(claims.iat or 0),
            expire_at=expire_at,
            info=_json_text("info", claims.info, claims.b64info),
            subs=subs or None,
        )

    def _grant(self, claims: Claims) -> Grant:
        if claims.channel is UNSET or not claims.channel:
            raise _invalid("not a subscription token (it has no channel)")
        expire_at = self._check(claims)
        grant = Grant(
            self._app,
            claims.sub,
            claims.channel,
            client=claims.client,
            info=_json_text("info", claims.info, claims.b64info),
            expire_at=expire_at,
            latest_interval=claims.latest_interval,
            jti=claims.jti or "",
            issued_at=int(claims.iat or 0),
        )
        self._check_kick(grant)
        return grant

    def _identity_or_grant(self, claims: Claims) -> Identity | Grant:
        return self._identity(claims) if claims.channel is UNSET else self._grant(claims)

    def _check(self, claims: Claims) -> int:
        """Check audience, issuer, times and revocation. Returns when the connection or subscription expires (Unix s).

        0 stands for never.
        """
        self._check_audience(claims)
        now, leeway = self._time(), self._settings.leeway
        if claims.nbf > now + leeway:
            raise RequestError(TOKEN_TOO_EARLY, "nbf lies ahead by more than auth.leeway: is a clock wrong?")
        ends = claims.exp if claims.expire_at is UNSET else claims.expire_at or UNSET
        if any(time is not UNSET and time + leeway <= now for time in (claims.exp, ends)):
            raise RequestError(TOKEN_EXPIRED)
        self._check_revocation(claims.sub, claims.jti or "", claims.iat or 0)
        return 0 if ends is UNSET else int(ends)

    def _check_revocation(self, user: str, jti: str, issued_at: float) -> None:
        """Raises Disconnect, or RequestError for a token issued about when the tokens of its user were revoked.

        The client comes back with another token until there is no doubt.
        """
        if not self._revocations.is_revoked(self._app, user, jti, issued_at):
            return
        if self._is_old(user, jti, issued_at):
            raise _invalid("revoked")
        raise RequestError(
            TOKEN_TOO_EARLY,
            "issued within auth.leeway of the revocation of the user's tokens; only one whose iat is not below the "
            "issued_before that revoke returned will do",
        )

    def _check_kick(self, grant: Grant) -> None:
        """Raises RequestError: the client fetches another token, and the backend decides whether it gets one."""
        if self._revocations.is_kicked(self._app, grant.user, grant.channel, grant.issued_at):
            raise RequestError(
                TOKEN_EXPIRED,
                "the user was kicked from the channel; only a token whose iat is not below the issued_before that kick "
                "returned will do",
            )

    def _is_old(self, user: str, jti: str, issued_at: float) -> bool:
        leeway = self._settings.leeway
        # The revocation may be of a clock that is far ahead, but a token of this moment is never surely old.
        is_of_now = issued_at + ahead(leeway) > self._time()
        return self._revocations.is_revoked(
            self._app, user, jti, math.inf if is_of_now else issued_at + doubtful(leeway)
        )

    def _check_audience(self, claims: Claims) -> None:
        settings = self._settings
        if settings.audience is None:
            if claims.aud is not UNSET:
                raise _invalid("it has an audience (aud) and auth.audience is not set")
        elif claims.aud is UNSET or settings.audience not in _as_list(claims.aud):
            raise _invalid("its audience (aud) is not auth.audience")
        if settings.issuer is not None and claims.iss != settings.issuer:
            raise _invalid("its issuer (iss) is not auth.issuer")


def is_subscription_token(token: str) -> bool:
    """What a token claims to be, unverified: for choosing how to verify it where both kinds are accepted."""
    try:
        return _claims(jws.parse(token).payload).channel is not UNSET
    except Disconnect:
        return False


def _invalid(detail: str) -> Disconnect:
    return Disconnect(INVALID_TOKEN, detail)


def _as_list(audience: str | list[str]) -> list[str]:
    return [audience] if isinstance(audience, str) else audience


def _claims(payload: bytes) -> Claims:
    try:
        # The decoder does not check embedded JSON, which is sent on to others.
        check_json(payload)
        return CLAIMS.decode(payload)
    except ValueError as error:
        raise _invalid(f"claims: {error}") from None


def _json_text(claim: str, raw: msgspec.Raw, encoded: str | None) -> bytes:
    """The JSON text of a claim that is given directly or in base64; without line breaks, which would split frames.

    Empty when the claim is absent or null.
    """
    text = bytes(raw)
    try:
        if encoded:
            text = b64decode(encoded, validate=True)
            check_json(text)
    except ValueError as error:
        raise _invalid(f"claims: {claim} is not JSON (in base64, where the name says so): {error}") from None
    return b"" if text == b"null" else compact(text)
