"""What one channel, client or message makes fail on a node harms no other, and nobody misses something unnoticed."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.control import DisconnectUser, RefreshUser, SubscribeUser, UnsubscribeUser
from gateway.errors import UNSUBSCRIBED_INSUFFICIENT, CloseCode, UnsubscribeCode
from gateway.hub.encoder import Encoder
from gateway.hub.hub import TURN_WRITES
from gateway.messages import Channel, Event, Latest, Publication
from gateway.node.latest_channel import LatestChannel
from gateway.node.slices import SLICE
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.wire_protocol import Message
from tests.fakes import PlainFraming
from tests.node.site import FakeClient, Site

BAD, GOOD = Channel("default", "bad"), Channel("default", "good")


class Fault(Exception):
    """Of the parts under test."""


class FaultyProtocol(PlainProtocol):
    """Fails at everything that comes to one channel."""

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        if events[0].channel == BAD:
            raise Fault
        return super().events(events)


class Faulty(FakeClient):
    """A client whose every action fails, and that says what became of that."""

    def __init__(self, number: int, **fields: Any) -> None:
        super().__init__(number, **fields)
        self.failed: list[str] = []
        self.unwritten = 0

    def fail(self, part: str) -> None:
        self.failed.append(part)

    def write_failed(self) -> None:
        self.unwritten += 1

    def disconnect(self, code: CloseCode) -> None:
        raise Fault

    def subscribe_by_server(self, message: SubscribeUser) -> None:
        raise Fault

    def unsubscribe_by_server(self, name: str, code: UnsubscribeCode) -> bool:
        raise Fault

    def refresh_by_server(self, *, expired: bool, expire_at: int) -> None:
        raise Fault


def frame(messages: Sequence[Message]) -> bytes:
    return b"".join(message.data for message in messages)


def joined(site: Site, channel: Channel, client: FakeClient, write: Any, encoder: Encoder) -> None:
    site.messaging.acquire(channel, lambda error: None)
    site.messaging.join(channel, channel, client, encoder, write)


def publication(channel: Channel) -> Publication:
    return Publication(channel, b"1", time=1)


@pytest.mark.parametrize("members", [1, TURN_WRITES + 1])
def test_a_channel_that_cannot_be_encoded_harms_no_other(members: int) -> None:
    """Delivered at once, or in slices; its own subscribers are told that they miss something."""
    site, encoder = Site(), Encoder(FaultyProtocol(), PlainFraming(frame))
    got: list[bytes] = []
    clients = [FakeClient(number) for number in range(members)]
    for client in clients:
        joined(site, BAD, client, got.append, encoder)
    other = FakeClient(members)
    joined(site, GOOD, other, got.append, encoder)
    for channel in (BAD, GOOD, BAD, GOOD):
        site.node.on_events(channel, [publication(channel)])
    site.scheduler.run()
    assert got == [b"1", b"1"]
    assert all((BAD.name, UNSUBSCRIBED_INSUFFICIENT) in client.asked for client in clients)
    assert other.asked == []
    assert sum(site.metrics.faults.values.values()) >= 1


@pytest.mark.parametrize("members", [10, TURN_WRITES + 10])
def test_a_write_that_fails_keeps_nothing_from_the_other_subscribers(members: int) -> None:
    """At once, or in slices; its subscriber is told."""
    site, encoder = Site(), Encoder(PlainProtocol(), PlainFraming(frame))
    got: list[bytes] = []

    def failing(block: bytes) -> None:
        raise Fault

    broken = Faulty(0)
    joined(site, GOOD, broken, failing, encoder)
    for number in range(1, members):
        joined(site, GOOD, FakeClient(number), got.append, encoder)
    site.node.on_events(GOOD, [publication(GOOD)])
    site.scheduler.run()
    assert len(got) == members - 1
    assert broken.unwritten == 1


@pytest.mark.parametrize(
    "message",
    [
        DisconnectUser("default", "42"),
        SubscribeUser("default", "42", "room"),
        UnsubscribeUser("default", "42"),
        RefreshUser("default", "42"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_client_that_fails_keeps_a_control_message_from_no_other(message: Any) -> None:
    """It is closed, and counted only where that was asked for; the answer comes."""
    site = Site()
    clients = [FakeClient(0), Faulty(1), FakeClient(2)]
    for client in clients:
        site.book.add(client)
    assert site.node.on_control(message) == (3 if isinstance(message, DisconnectUser) else 2)
    assert [len(client.asked) for client in clients] == [1, 0, 1]
    assert clients[1].failed == ["control"]  # type: ignore[attr-defined]  # a Faulty


def test_many_are_disconnected_in_turns_of_the_loop(site: Site) -> None:
    """To leave hundreds of channels takes milliseconds for each."""
    mine = site.clients(100, channels=50)
    assert site.node.on_control(DisconnectUser("default", "42")) == 100
    turns = 0
    while any(not client.asked for client in mine):
        assert sum(bool(client.asked) for client in mine) <= (turns + 1) * SLICE / 50
        turns += 1
        site.scheduler.turn()
    assert turns >= 100 * 50 / SLICE - 1


def test_a_client_that_fails_keeps_a_gap_from_no_other() -> None:
    """Nor the channels after its own, in whichever slice they are told."""
    site, encoder = Site(), Encoder(PlainProtocol(), PlainFraming(frame))
    clients: list[FakeClient] = [Faulty(number) if number == 1 else FakeClient(number) for number in range(SLICE)]
    for client in clients:
        joined(site, BAD, client, list[bytes]().append, encoder)
    last = FakeClient(len(clients))
    joined(site, GOOD, last, list[bytes]().append, encoder)
    site.node.on_gap([BAD, GOOD])
    site.scheduler.run()
    assert [bool(client.asked) for client in clients].count(False) == 1
    assert last.asked == [(GOOD.name, UNSUBSCRIBED_INSUFFICIENT)]


def test_a_channel_that_fails_after_a_gap_keeps_it_from_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    site, encoder = Site(), Encoder(PlainProtocol(), PlainFraming(frame))
    client = FakeClient(1)
    joined(site, GOOD, client, list[bytes]().append, encoder)
    find = site.messaging.tracker.find

    def failing(channel: Channel) -> Any:
        if channel == BAD:
            raise Fault
        return find(channel)

    with monkeypatch.context() as patch:
        patch.setattr(site.messaging.tracker, "find", failing)
        site.node.on_gap([BAD, GOOD])
        site.scheduler.run()
    assert client.asked == [(GOOD.name, UNSUBSCRIBED_INSUFFICIENT)]
    assert site.metrics.faults.values == {"gap": 1}


def test_a_fault_in_a_channel_with_latest_values_is_told_in_its_lanes(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    """Its subscribers have joined a lane, not the channel itself."""
    spec = Channels(ServerSettings()).resolve(*GOOD)._replace(latest=Latest(tag="key", keys=1, ttl=60, interval=1.0))
    client, encoder = FakeClient(1), Encoder(PlainProtocol(), PlainFraming(frame))
    site.messaging.acquire(GOOD, lambda error: None)
    joiner = site.messaging.prepare_join(spec, None, lambda error: None, interval=None)
    assert joiner is not None
    site.scheduler.run()
    joiner.finish()
    site.messaging.join(GOOD, joiner.lane, client, encoder, list[bytes]().append)
    with monkeypatch.context() as patch:
        patch.setattr(LatestChannel, "receive", lambda channel, publications: 1 / 0)
        site.node.on_events(GOOD, [Publication(GOOD, b"1", offset=1, epoch="e", tags={"key": "a"})])
    assert client.asked == [(GOOD.name, UNSUBSCRIBED_INSUFFICIENT)]
    assert site.metrics.faults.values == {"delivery": 1}
