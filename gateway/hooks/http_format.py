"""The format of Centrifugo's proxy: requests to a backend, and its replies. Does no I/O.

Each kind has a request (a JSON object) and a reply `{"result": {...}}`, `{"error": {...}}` or `{"disconnect": {...}}`.
Fields of a reply that are not known are ignored. Those that are known there and missing here, and would change what a
client may do or gets, make the reply invalid.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from gateway.config.settings import EVENT_HOOKS, HookKind
from gateway.errors import EXPIRED, CloseCode, ErrorCode, RequestError
from gateway.errors import Disconnect as Closing
from gateway.hooks.answers import (
    LEAST_CLOSE,
    MOST_CLOSE,
    MOST_ERROR,
    REASON_BYTES,
    ConnectResult,
    PublishResult,
    RefreshResult,
    ServerSubscription,
    SubRefreshResult,
    SubscribeResult,
)
from gateway.hooks.conversion import CONVERSIONS, json
from gateway.hooks.events import META_BYTES, Event
from gateway.hooks.questions import (
    ConnectRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RpcRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from gateway.json_text import TOO_DEEP, mended
from gateway.messages import Kind

# Codes below are those of the SDKs.
LEAST_ERROR = 100

R = TypeVar("R", bound=Struct)
_Message = Annotated[str, Meta(max_length=1_024)]
_NOTHING = Raw(b"")
# What the fields of proto3 are when they are not set.
_ZERO = frozenset({b"", b"null", b"false", b"0", b'""', b"{}", b"[]"})


def signature(secret: bytes, now: int, body: bytes) -> str:
    """The value of X-Gateway-Signature. `now` in Unix seconds."""
    signed = hmac.new(secret, b"%d." % now + body, hashlib.sha256)
    return f"t={now},v1={signed.hexdigest()}"


def encode(request: Request | Event) -> bytes:
    """The body that asks or tells this. Raises TypeError or ValueError if its `meta` has no JSON."""
    return _told(request) if isinstance(request, Event) else _asked(request)


def _asked(request: Request) -> bytes:
    body: dict[str, Any] = {
        "client": request.client,
        **_way(request.protocol, request.transport),
        "encoding": "json",
    }
    # In a connect only a token names a user.
    if request.user or not isinstance(request, ConnectRequest):
        body["user"] = request.user
    if isinstance(request, SubscribeRequest | SubRefreshRequest | PublishRequest):
        body["channel"] = request.channel
    elif isinstance(request, RpcRequest):
        body["method"] = request.method
    if isinstance(request, PublishRequest) and request.kind is Kind.BINARY:
        body |= {"encoding": "binary", "b64data": request.raw}
    elif isinstance(request, PublishRequest) and request.kind is Kind.TEXT:
        body["data"] = request.raw.decode()
    elif not isinstance(request, RefreshRequest | SubRefreshRequest) and (raw := _raw(request)):
        body["data"] = Raw(raw)
    if isinstance(request, ConnectRequest):
        told = {"name": request.name, "version": request.version, "channels": request.channels}
        body |= {name: value for name, value in told.items() if value}
    if request.meta is not None:
        body["meta"] = Raw(_meta(request.meta))
    if request.address:
        body["address"] = request.address
    return msgspec.json.encode(body)


def _told(event: Event) -> bytes:
    body = msgspec.structs.asdict(event)
    body["time_ms"] = body.pop("time")
    if "protocol" in body:
        body |= _way(body["protocol"], body["transport"])
    for name in ("address", "meta"):
        if not body.get(name):
            body.pop(name, None)
    return msgspec.json.encode(body)


def _way(protocol: str, transport: str) -> dict[str, str]:
    """How the client came, in the words of Centrifugo: its protocol is the encoding."""
    if protocol == "centrifuge_uni":
        return {"protocol": "json", "transport": f"uni_{transport}"}
    return {"protocol": "json" if protocol == "centrifuge" else protocol, "transport": transport}


def _meta(meta: Any) -> bytes:
    try:
        return json(meta)
    except NotImplementedError as error:
        # A hook in Python may keep any object.
        raise TypeError(str(error)) from None


def _raw(request: Request) -> bytes:
    assert isinstance(request, ConnectRequest | SubscribeRequest | PublishRequest | RpcRequest)
    return request.raw


def decode(kind: HookKind, reply: bytes) -> Any:
    """The decision in a reply (`decisions`). Raises TypeError or ValueError for what is none.

    What a backend says to an event does not matter: it has heard of it.
    """
    if kind in EVENT_HOOKS:
        return None
    try:
        read = _DECODERS[kind].decode(mended(reply))
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    # The order of Centrifugo, should there be several.
    if read.disconnect is not None:
        code, reason = read.disconnect.code, read.disconnect.reason
        if len(reason.encode()) > REASON_BYTES:
            raise ValueError(f"the reason of the disconnect has more than {REASON_BYTES} bytes")
        return Closing(CloseCode(code, reason), f"the {kind} hook closed it")
    if read.error is not None:
        error = read.error
        return RequestError(ErrorCode(error.code, error.message, error.temporary), f"the {kind} hook denied it")
    if read.result is None:
        raise ValueError("none of result, error and disconnect")
    _check_supported(read.result)
    if getattr(read.result, "expired", False):
        return RequestError(EXPIRED, f"the {kind} hook says that it has expired")
    return CONVERSIONS[kind](read.result.answer())


class _Error(Struct):
    code: Annotated[int, Meta(ge=LEAST_ERROR, le=MOST_ERROR)]
    message: _Message = ""
    temporary: bool = False


class _Disconnect(Struct):
    code: Annotated[int, Meta(ge=LEAST_CLOSE, le=MOST_CLOSE)]
    reason: _Message = ""


class _Reply(Struct, Generic[R]):
    result: R | None = None
    error: _Error | None = None
    disconnect: _Disconnect | None = None


class _Result(Struct):
    # Names of fields that may not be set.
    unsupported: ClassVar[tuple[str, ...]] = ()

    def answer(self) -> Any:
        """What a hook in Python would have returned."""
        raise NotImplementedError


def _check_supported(given: "_Result | _Opened") -> None:
    if unsupported := [name for name in given.unsupported if bytes(getattr(given, name)) not in _ZERO]:
        raise ValueError(f"the result has {', '.join(unsupported)}, which the gateway does not support")


def _value(text: Raw, coded: bytes | None = None) -> Any:
    """A JSON value, or one in Base64; None for none."""
    if coded:
        return Raw(coded)
    return None if bytes(text) in (b"", b"null") else text


class _Opened(Struct):
    info: Raw = _NOTHING
    b64info: bytes | None = None
    data: Raw = _NOTHING
    b64data: bytes | None = None
    expire_at: Raw = _NOTHING
    override: Raw = _NOTHING
    cache_recover: Raw = _NOTHING

    unsupported: ClassVar[tuple[str, ...]] = ("expire_at", "override", "cache_recover")


class _Connected(_Result):
    user: str | None = None
    expire_at: int | None = None
    info: Raw = _NOTHING
    b64info: bytes | None = None
    data: Raw = _NOTHING
    b64data: bytes | None = None
    channels: list[str] | None = None
    subs: dict[str, _Opened] | None = None
    meta: Raw = _NOTHING
    caps: Raw = _NOTHING
    labels: Raw = _NOTHING

    unsupported: ClassVar[tuple[str, ...]] = ("caps", "labels")

    def answer(self) -> ConnectResult:
        if len(bytes(self.meta)) > META_BYTES:
            raise ValueError(f"meta has more than {META_BYTES} bytes")
        channels = dict.fromkeys(self.channels or (), ServerSubscription())
        for name, each in (self.subs or {}).items():
            _check_supported(each)
            channels[name] = ServerSubscription(
                info=_value(each.info, each.b64info), data=_value(each.data, each.b64data)
            )
        meta = json(_value(self.meta))
        return ConnectResult(
            user=self.user,
            info=_value(self.info, self.b64info),
            data=_value(self.data, self.b64data),
            expire_at=self.expire_at,
            channels=channels,
            meta=msgspec.json.decode(meta) if meta else None,
        )


class _Extended(_Result):
    expired: bool | None = None
    expire_at: int | None = None
    info: Raw = _NOTHING
    b64info: bytes | None = None


class _Refreshed(_Extended):
    meta: Raw = _NOTHING

    unsupported: ClassVar[tuple[str, ...]] = ("meta",)

    def answer(self) -> RefreshResult:
        return RefreshResult(expire_at=self.expire_at or 0, info=_value(self.info, self.b64info))


class _SubRefreshed(_Extended):
    def answer(self) -> SubRefreshResult:
        return SubRefreshResult(expire_at=self.expire_at or 0, info=_value(self.info, self.b64info))


class _Subscribed(_Result):
    info: Raw = _NOTHING
    b64info: bytes | None = None
    data: Raw = _NOTHING
    b64data: bytes | None = None
    expire_at: int | None = None
    override: Raw = _NOTHING
    allow: Raw = _NOTHING
    cache_recover: Raw = _NOTHING

    unsupported: ClassVar[tuple[str, ...]] = ("override", "allow", "cache_recover")

    def answer(self) -> SubscribeResult:
        return SubscribeResult(
            info=_value(self.info, self.b64info),
            data=_value(self.data, self.b64data),
            expire_at=self.expire_at or 0,
        )


class _Published(_Result):
    data: Raw = _NOTHING
    b64data: bytes | None = None
    skip_history: bool | None = None
    tags: dict[str, str] | None = None
    idempotency_key: str | None = None
    delta: Raw = _NOTHING
    version: Raw = _NOTHING
    version_epoch: Raw = _NOTHING

    unsupported: ClassVar[tuple[str, ...]] = ("delta", "version", "version_epoch")

    def answer(self) -> PublishResult:
        data = self.b64data or _value(self.data)
        return PublishResult(
            data=UNSET if data is None else data,
            tags=self.tags,
            idempotency_key=self.idempotency_key or "",
            skip_history=bool(self.skip_history),
        )


class _Answered(_Result):
    data: Raw = _NOTHING
    b64data: bytes | None = None

    def answer(self) -> Any:
        return _value(self.data, self.b64data)


_DECODERS: Mapping[HookKind, msgspec.json.Decoder[Any]] = {
    "connect": msgspec.json.Decoder(_Reply[_Connected]),
    "refresh": msgspec.json.Decoder(_Reply[_Refreshed]),
    "subscribe": msgspec.json.Decoder(_Reply[_Subscribed]),
    "sub_refresh": msgspec.json.Decoder(_Reply[_SubRefreshed]),
    "publish": msgspec.json.Decoder(_Reply[_Published]),
    "rpc": msgspec.json.Decoder(_Reply[_Answered]),
}
