"""A session that changes its transport and its encoder while it lives, as an upgrade from polling to WebSocket does."""

import json
from random import Random
from typing import Any

import pytest

from gateway.errors import FORCE_DISCONNECT
from gateway.hub.encoder import Encoder
from gateway.hub.hub import TURN_WRITES
from gateway.protocols.centrifuge import CentrifugeProtocol
from tests.fakes import PlainFraming, RecordingTransport
from tests.session.conftest import Client, World, lines


class Moved:
    """A client that reads over all the transports that it has had, in their order."""

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self.client = client
        self.transports = [client.transport]

    def move(self) -> RecordingTransport:
        transport = RecordingTransport()
        encoder = Encoder.of(CentrifugeProtocol(), PlainFraming(lines))
        self.client.session.move(transport, encoder)
        self.transports.append(transport)
        return transport

    def got(self) -> list[dict[str, Any]]:
        self.world.scheduler.run()
        return [json.loads(line) for each in self.transports for line in each.take().splitlines()]


@pytest.fixture
def moved(world: World) -> Moved:
    return Moved(world, world.subscriber("news", user="ann"))


def data(messages: list[dict[str, Any]]) -> list[Any]:
    return [message["push"]["pub"]["data"] for message in messages]


def test_publications_go_on_over_the_new_transport(world: World, moved: Moved) -> None:
    """The old one is released, not closed; the new one knows that the client has proved who it is."""
    world.publish("news", 1)
    new = moved.move()
    world.publish("news", 2)
    old = moved.transports[0]
    assert (old.released, old.close_code) == (True, None)
    assert (new.is_authenticated, new.connection) == (True, moved.client.session)
    assert data([json.loads(line) for line in old.take().splitlines()]) == [1]
    assert data(moved.got()) == [2]


def test_replies_go_where_the_session_is(world: World, moved: Moved) -> None:
    world.broker.hold = True
    moved.client.raw(b'{"id":5,"publish":{"channel":"sport","data":1}}')
    new = moved.move()
    world.broker.release()
    world.scheduler.run()
    assert json.loads(new.take()) == {"id": 5, "publish": {}}


def test_what_was_said_before_goes_out_before(world: World, moved: Moved) -> None:
    """Corked messages are written over the transport that the session leaves."""
    world.broker.hold = True
    moved.client.raw(b'{"id":5,"publish":{"channel":"sport","data":1}}')
    world.broker.release()
    new = moved.move()
    assert json.loads(moved.transports[0].take()) == {"id": 5, "publish": {}}
    world.scheduler.run()
    assert new.take() == b""


def test_a_slow_client_moves_when_it_has_read(world: World, moved: Moved) -> None:
    """What waits for it is written in the old form, to the old transport."""
    session, old = moved.client.session, moved.transports[0]
    session.pause_writing()
    world.publish("news", 1)
    new = moved.move()
    world.publish("news", 2)
    assert (old.released, old.take(), new.take()) == (False, b"", b"")
    session.resume_writing()
    assert (old.released, new.take()) == (True, b"")
    assert data([json.loads(line) for line in old.take().splitlines()]) == [1, 2]
    world.publish("news", 3)
    assert data(moved.got()) == [3]


def test_a_new_transport_that_is_congested_pauses_the_session(world: World, moved: Moved) -> None:
    class Congested(RecordingTransport):
        def drive(self, connection: Any) -> None:
            super().drive(connection)
            connection.pause_writing()

    new = Congested()
    moved.client.session.move(new, Encoder.of(CentrifugeProtocol(), PlainFraming(lines)))
    world.publish("news", 1)
    assert new.take() == b""
    moved.client.session.resume_writing()
    assert data([json.loads(line) for line in new.take().splitlines()]) == [1]


def test_a_pause_of_reading_moves_along(make_world: Any) -> None:
    """A client cannot escape its limits by an upgrade."""
    world = make_world(limits={"commands_per_second": 10})
    moved = Moved(world, world.connect("ann"))
    moved.client.raw("\n".join(['{"id":9,"presence_stats":{"channel":"news"}}'] * 15).encode())
    assert not moved.transports[0].reading
    new = moved.move()
    assert not new.reading
    world.scheduler.advance(5)
    assert new.reading


def test_a_session_that_is_closed_closes_the_new_transport(world: World, moved: Moved) -> None:
    moved.client.session.disconnect(FORCE_DISCONNECT)
    assert moved.move().close_code is not None


def test_the_end_comes_over_the_transport_of_now(world: World, moved: Moved) -> None:
    new = moved.move()
    moved.client.session.disconnect(FORCE_DISCONNECT)
    assert (moved.transports[0].close_code, new.close_code) == (None, FORCE_DISCONNECT)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_doubled_or_out_of_order(world: World, seed: int) -> None:
    """Moves at any moment: in fan-outs of several slices, while the client is slow, many in a row."""
    random = Random(seed)
    moved = Moved(world, world.subscriber("news", user="ann"))
    crowd = [world.subscriber("news") for _ in range(3)]
    hub = world.messaging.hub
    hub._budget = 0
    for number in range(200):
        world.publish("news", number)
        # A turn that is short of budget leaves this delivery for later.
        hub._budget = random.choice([0, TURN_WRITES])
        if random.random() < 0.2:
            moved.move()
        if random.random() < 0.2:
            moved.client.session.pause_writing()
        if random.random() < 0.3:
            world.scheduler.turn()
        if random.random() < 0.3:
            moved.client.session.resume_writing()
    moved.client.session.resume_writing()
    assert data(moved.got()) == list(range(200))
    assert data(crowd[0].got()) == list(range(200))


def test_a_session_that_ends_before_it_moved_closes_the_new_transport(world: World, moved: Moved) -> None:
    """By its own decision."""
    moved.client.session.pause_writing()
    new = moved.move()
    moved.client.session.disconnect(FORCE_DISCONNECT)
    assert new.close_code is not None


def test_a_client_that_leaves_before_it_moved_loses_the_new_transport(world: World, moved: Moved) -> None:
    """Nobody else would ever close it."""
    moved.client.session.pause_writing()
    new = moved.move()
    moved.client.session.closed(1006, "")
    assert new.close_code is not None


def test_another_move_takes_the_place_of_one_that_waits(world: World, moved: Moved) -> None:
    session = moved.client.session
    session.pause_writing()
    first, second = moved.move(), moved.move()
    assert (first.close_code is not None, second.close_code) == (True, None)
    session.resume_writing()
    world.publish("news", 1)
    assert data(moved.got()) == [1]
    assert second.connection is session
