"""From what hooks return to decisions."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

from gateway.errors import RequestError
from gateway.hooks import (
    ConnectResult,
    PublishResult,
    RefreshResult,
    ServerSubscription,
    SubRefreshResult,
    SubscribeResult,
)
from gateway.hooks.conversion import CONVERSIONS
from gateway.hooks.decisions import Accepted, Admitted, Allowed, Extended, Opened
from gateway.messages import Kind

convert = CONVERSIONS


def test_an_empty_result_changes_nothing() -> None:
    assert convert["connect"](ConnectResult()) == Admitted(None, None, b"", None, {}, None)
    for allowed in (True, SubscribeResult()):
        assert convert["subscribe"](allowed) == Allowed(b"", b"", 0)
    for accepted in (True, PublishResult()):
        assert convert["publish"](accepted) == Accepted(None, Kind.JSON, None, "", skip_history=False)


def test_false_denies() -> None:
    for kind in ("subscribe", "publish"):
        denied = convert[kind](False)
        assert isinstance(denied, RequestError)
        assert denied.error.code == 103


def test_values_become_json() -> None:
    channels = {"a": ServerSubscription(info=1, data=2)}
    result = ConnectResult(user="ann", info={"n": 1}, data=[1], expire_at=5, channels=channels, meta="m")
    assert convert["connect"](result) == Admitted("ann", b'{"n":1}', b"[1]", 5, {"a": Opened(b"1", b"2")}, "m")
    assert convert["connect"](ConnectResult(channels=["a"])).channels == {"a": Opened(b"", b"")}
    assert convert["subscribe"](SubscribeResult(info="i", data=0, expire_at=7)) == Allowed(b'"i"', b"0", 7)
    assert convert["refresh"](RefreshResult(expire_at=3)) == Extended(3)
    assert convert["sub_refresh"](SubRefreshResult(expire_at=3)) == Extended(3)
    assert convert["rpc"](None) == b"null"


def test_a_user_without_utf_8_is_refused() -> None:
    """A JSON text of a backend can hold half a surrogate pair."""
    with pytest.raises(ValueError, match="surrogates not allowed"):
        convert["connect"](ConnectResult(user="\ud800"))


def test_a_publish_can_become_another() -> None:
    result = PublishResult(data=None, tags={"a": "b"}, idempotency_key="k", skip_history=True)
    assert convert["publish"](result) == Accepted(b"null", Kind.JSON, {"a": "b"}, "k", skip_history=True)
    assert convert["publish"](PublishResult(data=b"\xff"))[:2] == (b"\xff", Kind.BINARY)


@dataclass
class Row:
    at: datetime
    id: UUID


class Model(pydantic.BaseModel):
    at: datetime
    row: Row


def test_common_types_have_a_json() -> None:
    """Dataclasses, datetime, UUID, models of pydantic and msgspec; it stands on one line."""
    row = Row(datetime(2026, 1, 2, tzinfo=UTC), UUID(int=1))
    encoded = {"at": "2026-01-02T00:00:00Z", "id": str(UUID(int=1))}
    assert json.loads(convert["rpc"](row)) == encoded
    assert json.loads(convert["rpc"]([Model(at=row.at, row=row)])) == [{"at": encoded["at"], "row": encoded}]
    assert convert["rpc"](msgspec.Raw(b'{"a":\n1}')) == b'{"a": 1}'


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


WRONG: list[tuple[str, Any, str]] = [
    ("connect", None, "returned NoneType, expected ConnectResult"),
    ("connect", True, "returned bool, expected ConnectResult"),
    ("connect", ConnectResult(user=7), "ConnectResult: .*user"),  # type: ignore[arg-type]
    ("connect", ConnectResult(user="x" * 256), "ConnectResult: .*user"),
    ("connect", ConnectResult(expire_at=-1), "ConnectResult: .*expire_at"),
    ("connect", ConnectResult(expire_at=1.5), "ConnectResult: .*expire_at"),  # type: ignore[arg-type]
    ("connect", ConnectResult(channels=[7]), "ConnectResult: .*channels"),  # type: ignore[list-item]
    ("connect", ConnectResult(channels="news"), "ConnectResult: .*channels"),
    ("connect", ConnectResult(info=object()), "object has no JSON"),
    ("subscribe", None, "returned NoneType, expected True, False or SubscribeResult"),
    ("subscribe", ConnectResult(), "returned ConnectResult"),
    ("publish", 1, "returned int"),
    ("publish", PublishResult(tags={"a": 1}), "PublishResult: .*tags"),  # type: ignore[dict-item]
    ("refresh", True, "returned bool, expected RefreshResult"),
    ("rpc", object(), "object has no JSON"),
    ("rpc", msgspec.Raw(b"{"), "JSON|truncated"),
    ("rpc", nested(129), "nested deeper than 128 levels"),
    # Where the encoder ends before it is asked how deep that is.
    ("rpc", nested(100_000), "nested deeper than 128 levels"),
]


@pytest.mark.parametrize(
    ("kind", "answer", "text"), WRONG, ids=[f"{kind}-{text}-{index}" for index, (kind, _, text) in enumerate(WRONG)]
)
def test_wrong_types_are_named(kind: Any, answer: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        convert[kind](answer)
