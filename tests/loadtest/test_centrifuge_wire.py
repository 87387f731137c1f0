"""The client's side of the protocol of Centrifugal Labs."""

import json
from typing import Any

import pytest

from gateway_loadtest.wires.centrifuge_wire import FIRST_PUBLISH_ID, Centrifuge
from gateway_loadtest.wires.contract import (
    Acknowledged,
    Answer,
    Event,
    Failed,
    Foreign,
    Opened,
    Subscribed,
    Unsubscribed,
)


def received(wire: Centrifuge, *messages: Any) -> list[Event]:
    return list(wire.received("\n".join(json.dumps(each, separators=(",", ":")) for each in messages).encode()))


def asked(wire: Centrifuge, channel: str = "news") -> Any:
    (frame,) = wire.subscribe(channel)
    return json.loads(frame)


def standing(channel: str = "news", **reply: Any) -> Centrifuge:
    """A wire with a subscription."""
    wire = Centrifuge(lambda: "token")
    wire.opening()
    assert received(wire, {"id": 1, "connect": {"client": "c"}}) == [Opened()]
    number = asked(wire, channel)["id"]
    assert received(wire, {"id": number, "subscribe": reply}) == [Subscribed(channel)]
    return wire


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("ws://a:1", "ws://a:1/connection/websocket"),
        ("ws://a:1/", "ws://a:1/connection/websocket"),
        ("wss://a/some/path", "wss://a/some/path"),
    ],
)
def test_the_usual_path_need_not_be_given(target: str, url: str) -> None:
    assert Centrifuge(lambda: "").url(target, []) == url


def test_a_token_is_made_for_every_connection() -> None:
    tokens = iter(("one", "two", ""))
    wire = Centrifuge(lambda: next(tokens))
    connects = [json.loads(wire.opening()[0])["connect"] for _ in range(3)]
    assert [each.get("token") for each in connects] == ["one", "two", None]


def test_pings_are_answered() -> None:
    wire = Centrifuge(lambda: "")
    assert received(wire, {}) == [Answer(b"{}")]
    assert received(wire, {}, {"id": 1, "connect": {}}) == [Answer(b"{}"), Opened()]


def test_publications_are_not_read_unless_they_are_needed() -> None:
    """After a loss the subscription goes on behind the newest of them."""
    wire = standing(recoverable=True, epoch="e", offset=3)
    push = {"push": {"channel": "news", "pub": {"data": 1, "offset": 4}}}
    assert received(wire, push) == []
    assert received(wire, {**push}, {"push": {"channel": "news", "join": {}}}, push) == []
    wire.opening()
    assert asked(wire)["subscribe"] == {"channel": "news", "recover": True, "offset": 4, "epoch": "e"}


@pytest.mark.parametrize("channel", ['a"b', "néws", "a\\b"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_channel_is_known_however_it_is_escaped(channel: str, ascii_only: bool) -> None:
    wire = standing(channel, recoverable=True, epoch="e", offset=3)
    push = {"push": {"channel": channel, "pub": {"data": 1, "offset": 4}}}
    assert wire.received(json.dumps(push, separators=(",", ":"), ensure_ascii=ascii_only).encode()) == ()
    wire.opening()
    assert asked(wire, channel)["subscribe"]["offset"] == 4


def test_what_nobody_asked_for_is_told_with_its_channel() -> None:
    """In a frame of its own, and beside others."""
    wire = standing()
    push = {"push": {"channel": "other", "pub": {"data": 1}}}
    line = json.dumps(push, separators=(",", ":")).encode()
    assert received(wire, push) == [Foreign("other", line)]
    assert received(wire, {}, push) == [Answer(b"{}"), Foreign("other", line)]


def test_what_a_reply_recovers_moves_the_position() -> None:
    wire = standing(recoverable=True, epoch="e", offset=3)
    wire.opening()
    number = asked(wire)["id"]
    reply = {"recoverable": True, "epoch": "e", "offset": 3, "was_recovering": True, "recovered": True}
    publications = [{"data": 1, "offset": 4}, {"data": 1, "offset": 5}]
    assert received(wire, {"id": number, "subscribe": {**reply, "publications": publications}}) == [
        Subscribed("news", recovered=True)
    ]
    wire.opening()
    assert asked(wire)["subscribe"]["offset"] == 5


def test_what_cannot_be_recovered_is_said() -> None:
    wire = standing(recoverable=True, epoch="e", offset=3)
    wire.opening()
    reply = {"recoverable": True, "epoch": "f", "offset": 9, "was_recovering": True}
    assert received(wire, {"id": asked(wire)["id"], "subscribe": reply}) == [Subscribed("news", recovered=False)]
    wire.opening()
    assert asked(wire)["subscribe"]["epoch"] == "f"


def test_without_positions_it_subscribes_anew() -> None:
    wire = standing()
    received(wire, {"push": {"channel": "news", "pub": {"data": 1}}})
    wire.opening()
    assert asked(wire)["subscribe"] == {"channel": "news"}


def test_answers_to_publishes_are_told_apart() -> None:
    wire = standing()
    frame = json.loads(wire.publish('a"b', "text", 5))
    assert frame == {"id": FIRST_PUBLISH_ID + 5, "publish": {"channel": 'a"b', "data": "text"}}
    assert received(
        wire,
        {"id": FIRST_PUBLISH_ID + 5, "publish": {}},
        {"id": FIRST_PUBLISH_ID + 6, "error": {"code": 103, "message": "permission denied"}},
    ) == [Acknowledged(5), Acknowledged(6, "publish error 103: permission denied")]


def test_ends_of_subscriptions_and_refusals() -> None:
    """A temporary error is asked again; another ends the client, with the server's words."""
    wire = standing()
    end = {"push": {"channel": "news", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
    assert received(wire, end) == [Unsubscribed("news", "unsubscribed 2500")]
    number = asked(wire)["id"]
    temporary = {"id": number, "error": {"code": 100, "message": "internal", "temporary": True}}
    assert received(wire, temporary) == [Unsubscribed("news", "subscribe error 100: internal")]
    final = {"id": number, "error": {"code": 103, "message": "permission denied"}}
    assert received(wire, final) == [Failed("subscribe to news: error 103: permission denied")]
    refused = {"id": 1, "error": {"code": 101, "message": "unauthorized"}}
    assert received(wire, refused) == [Failed("connect error 101: unauthorized")]
    assert received(wire, {"id": 999, "subscribe": {}}, {"push": {"channel": "news", "join": {}}}, {"else": 1}) == []


@pytest.mark.parametrize("frame", [b"hello", b"[1]", b"\xff\xfe", b'{"push":{"channel":"unfinished', b'{"id":1'])
def test_nonsense_is_an_error(frame: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        standing().received(frame)
