"""What may be written into the outbox, and what the relay makes of it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from gateway.outbox.rows import Row, request_of, values

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Order:
    id: UUID
    at: datetime


def row(**columns: str) -> Row:
    return Row(7, columns["channel"], columns["publication"], NOW)


def test_a_row_becomes_the_request_that_was_meant() -> None:
    """With its options, and with the key that it got when it was written."""
    data = Order(UUID(int=1), NOW)
    first, second = (row(**values("orders", data, tags={"a": "b"}, skip_history=True)) for _ in range(2))
    request = request_of(first)
    assert json.loads(bytes(request.data)) == {"id": str(UUID(int=1)), "at": "2026-01-02T00:00:00Z"}  # type: ignore[arg-type]
    assert (request.channel, request.tags, request.skip_history) == ("orders", {"a": "b"}, True)
    assert request.idempotency_key
    assert request_of(first) == request
    assert request_of(second).idempotency_key != request.idempotency_key


def test_bytes_stay_bytes() -> None:
    request = request_of(row(**values("orders", b"\x00\xff")))
    assert (request.b64data, request.binary) == ("AP8=", True)


def test_a_row_written_by_hand_has_a_key_that_stays() -> None:
    """Nothing is needed but a channel and data."""
    by_hand = row(channel="orders", publication='{"data": 1}')
    assert request_of(by_hand).idempotency_key == request_of(by_hand).idempotency_key
    assert request_of(by_hand).idempotency_key != request_of(by_hand._replace(id=8)).idempotency_key


@pytest.mark.parametrize(
    ("channel", "data", "options"),
    [
        ("", 1, {}),
        ("a b", 1, {}),
        ("ä", 1, {}),
        ("a" * 256, 1, {}),
        ("a", object(), {}),
        ("a", {1, object()}, {}),
        ("a", 1, {"tags": {"a": 1}}),
        ("a", 1, {"tags": {str(number): "" for number in range(65)}}),
        ("a", 1, {"exclude_client": "c" * 256}),
        ("a", 1, {"version": -1}),
        ("a", 1, {"version": 1, "version_epoch": "e" * 65}),
        ("a", "\ud800", {}),
    ],
)
def test_what_no_gateway_would_publish_is_refused_where_it_is_written(
    channel: str, data: Any, options: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, TypeError)):
        values(channel, data, **options)


@pytest.mark.parametrize("publication", ["", "{", "[]", '{"data": 1, "misspelt": 2}', '{"tags": 1}', "[" * 100_000])
def test_other_rows_are_told_apart(publication: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expected|data|deep|unknown"):
        request_of(row(channel="a", publication=publication))


def test_a_row_needs_a_channel() -> None:
    with pytest.raises(ValueError, match="channel"):
        request_of(row(channel="", publication='{"data": 1}'))
