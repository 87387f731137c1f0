"""From what hooks return to decisions. Raises TypeError or ValueError for what is not of the right type."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from gateway.config.settings import EVENT_HOOKS, HookKind
from gateway.encoding import encoded
from gateway.errors import PERMISSION_DENIED, RequestError
from gateway.hooks.answers import (
    ConnectResult,
    PublishResult,
    RefreshResult,
    ServerSubscription,
    SubRefreshResult,
    SubscribeResult,
)
from gateway.hooks.decisions import Accepted, Admitted, Allowed, Extended, Opened
from gateway.messages import Kind

R = TypeVar("R", bound=msgspec.Struct)


def _admitted(answer: Any) -> Admitted:
    result = _checked(answer, ConnectResult)
    # Half a surrogate pair, which JSON can hold, has no UTF-8 and would fail wherever the user is named.
    (result.user or "").encode()
    return Admitted(
        result.user,
        json(result.info) or None,
        json(result.data),
        result.expire_at,
        {name: _opened(each) for name, each in _channels(result).items()},
        result.meta,
    )


def _channels(result: ConnectResult) -> Mapping[str, ServerSubscription]:
    if isinstance(result.channels, Mapping):
        return result.channels
    return dict.fromkeys(result.channels, ServerSubscription())


def _opened(subscription: ServerSubscription) -> Opened:
    return Opened(json(subscription.info), json(subscription.data))


def _extended(answer: Any) -> Extended:
    result = _checked(answer, RefreshResult)
    return Extended(result.expire_at, json(result.info) or None)


def _sub_extended(answer: Any) -> Extended:
    result = _checked(answer, SubRefreshResult)
    return Extended(result.expire_at, json(result.info) or None)


def _allowed(answer: Any) -> Allowed | RequestError:
    if answer is False:
        return _denied()
    result = SubscribeResult() if answer is True else _checked(answer, SubscribeResult)
    return Allowed(json(result.info), json(result.data), result.expire_at)


def _accepted(answer: Any) -> Accepted | RequestError:
    if answer is False:
        return _denied()
    result = PublishResult() if answer is True else _checked(answer, PublishResult)
    data: bytes | None = None
    kind = Kind.JSON
    if isinstance(result.data, bytes | bytearray | memoryview):
        data, kind = bytes(result.data), Kind.BINARY
    elif result.data is not UNSET:
        data = encoded(result.data)
    return Accepted(data, kind, result.tags, result.idempotency_key, result.skip_history)


def _heard(answer: Any) -> None:
    """Nothing is asked, so nothing is answered."""


def _denied() -> RequestError:
    return RequestError(PERMISSION_DENIED, "a hook returned False")


def _checked(answer: Any, expected: type[R]) -> R:
    if not isinstance(answer, expected):
        yes_or_no = "True, False or " if expected in (SubscribeResult, PublishResult) else ""
        raise TypeError(f"returned {type(answer).__name__}, expected {yes_or_no}{expected.__name__}")
    try:
        return msgspec.convert(msgspec.structs.asdict(answer), expected)
    except msgspec.ValidationError as error:
        raise TypeError(f"{expected.__name__}: {error}") from None


def json(value: Any) -> bytes:
    """A value as JSON in one line, empty for None."""
    return b"" if value is None else encoded(value)


CONVERSIONS: Mapping[HookKind, Callable[[Any], Any]] = {
    "connect": _admitted,
    "refresh": _extended,
    "subscribe": _allowed,
    "sub_refresh": _sub_extended,
    "publish": _accepted,
    "rpc": encoded,
    **dict.fromkeys(EVENT_HOOKS, _heard),
}
