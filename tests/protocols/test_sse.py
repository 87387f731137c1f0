"""Server-sent events, as a client reads them."""

import json
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors
from gateway.entrances.credentials import position
from gateway.entrances.entrance import OverHttpStream
from gateway.entrances.sse import SSE
from gateway.errors import CloseCode
from gateway.messages import Channel, ClientInfo, Kind, Membership, Position, Publication, SubscribeResult
from gateway.protocols.wire_protocol import Message
from tests.protocols.event_source import EventSource
from tests.reconnection import reconnects

PROTOCOL = SSE.protocol
CHANNEL = Channel("default", "a")


def shown(messages: Iterable[Message], source: EventSource | None = None) -> list[tuple[str, str]]:
    """The events in these messages."""
    assert isinstance(SSE.carrier, OverHttpStream)
    text = SSE.carrier.delimit(list(messages)).decode()
    return list((source or EventSource()).read([line + "\n" for line in re.split("\r\n|\r|\n", text)[:-1]]))


@pytest.mark.parametrize(
    ("data", "kind", "value"),
    [
        (b'{"a":1}', Kind.JSON, {"a": 1}),
        ("a\r\n\nid: x\u2028 ü".encode(), Kind.TEXT, "a\r\n\nid: x\u2028 ü"),
        (b"", Kind.TEXT, ""),
        (b"\x00\xff", Kind.BINARY, {"base64": "AP8="}),
    ],
)
def test_every_payload_is_json(data: bytes, kind: Kind, value: object) -> None:
    ((name, text),) = shown(PROTOCOL.events([Publication(CHANNEL, data, kind)]))
    assert (name, json.loads(text)) == ("message", value)


@given(st.lists(st.text(max_size=20), max_size=5))
def test_no_text_breaks_out_of_its_event(texts: list[str]) -> None:
    found = shown(PROTOCOL.events([Publication(CHANNEL, text.encode(), Kind.TEXT) for text in texts]))
    assert [json.loads(text) for _, text in found] == texts


def test_the_id_is_the_position() -> None:
    """In the form that is asked for again. A publication without a position does not touch the one before."""
    source = EventSource()
    kept = Publication(CHANNEL, b"1", offset=7, epoch="a:b")
    assert shown(PROTOCOL.events([kept, Publication(CHANNEL, b"2")]), source) == [("message", "1"), ("message", "2")]
    assert position(source.last_event_id) == Position(7, "a:b")


def test_events_have_their_name_and_members_are_not_shown() -> None:
    joined = Membership(CHANNEL, ClientInfo("ann", "c"), joined=True)
    moved = Publication(CHANNEL, b"1", event="moved")
    assert shown(PROTOCOL.events([joined, moved])) == [("moved", "1")]


def test_a_subscription_begins_with_its_position_in_silence() -> None:
    """So that nothing is missed, even if the connection breaks before the first event."""
    source = EventSource()
    assert shown(PROTOCOL.open().subscribed(1, "a", SubscribeResult(position=Position(3, "e"))), source) == []
    assert source.last_event_id == "e:3"
    assert shown(PROTOCOL.open().subscribed(1, "a", SubscribeResult())) == []


def test_what_was_missed_comes_with_its_positions() -> None:
    source = EventSource()
    missed = [Publication(CHANNEL, b"%d" % offset, offset=offset, epoch="e") for offset in (4, 5)]
    result = SubscribeResult(position=Position(3, "e"), recovered=True, publications=missed)
    assert shown(PROTOCOL.open().subscribed(1, "a", result), source) == [("message", "4"), ("message", "5")]
    assert source.last_event_id == "e:5"


@pytest.mark.parametrize(("now", "id"), [(Position(9, "f"), "f:9"), (None, "")], ids=["history", "no history"])
def test_a_gap_is_told_and_the_old_position_forgotten(now: Position | None, id: str) -> None:
    source = EventSource()
    source.last_event_id = "e:3"
    result = SubscribeResult(position=now, recovered=False)
    assert shown(PROTOCOL.open().subscribed(1, "a", result), source) == [("gateway:gap", "{}")]
    assert source.last_event_id == id


@pytest.mark.parametrize("code", [each for each in vars(errors).values() if isinstance(each, CloseCode)], ids=str)
def test_the_goodbye_says_why_and_delays_who_should_not_come_back(code: CloseCode) -> None:
    source = EventSource()
    ((name, text),) = shown(PROTOCOL.open().goodbye(code, is_told=False), source)
    assert (name, json.loads(text)) == (
        "gateway:disconnect",
        {"code": code.code, "reason": code.reason, "reconnect": reconnects(code)},
    )
    assert source.retry == (None if reconnects(code) else 60_000)
    assert code.is_final is not reconnects(code)


def test_a_reason_cannot_break_out_of_its_event() -> None:
    found = shown(PROTOCOL.open().goodbye(CloseCode(4000, "a\n\ndata: b"), is_told=False))
    assert [json.loads(text)["reason"] for _, text in found] == ["a\n\ndata: b"]
