"""One client's requests have their share of a turn of the loop."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway import errors
from gateway.hub.encoder import Encoder
from gateway.messages import Request
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.session.inbox import LEAST_REQUESTS, TURN_REQUESTS
from tests.fakes import PlainFraming
from tests.session.conftest import World, lines

OPEN = {"delivery": "recoverable", "allow_history": ["client", "anonymous"]}
UNLIMITED = {"publishes_per_second": 0, "commands_per_second": 0}


class Counting(CentrifugeProtocol):
    """Counts the commands that it decodes."""

    decoded = 0

    def open(self) -> "Counting":
        return self

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        self.decoded += 1
        return super().decode(command, binary=binary)


def counting(world: World) -> Counting:
    """The protocol of the clients that come from now on."""
    protocol = Counting()
    world.centrifuge = Encoder(protocol, PlainFraming(lines))
    return protocol


def frame(commands: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, commands)).encode()


def publishes(count: int) -> list[dict[str, Any]]:
    return [{"id": number, "publish": {"channel": "room", "data": number}} for number in range(1, count + 1)]


def test_many_requests_of_one_frame_are_carried_out_in_turns() -> None:
    """Nothing is read meanwhile; all are answered, in order."""
    world = World(limits=UNLIMITED)
    client = world.connect()
    world.scheduler.advance(1)
    client.session.received(frame(publishes(500)), binary=False)
    assert world.metrics.commands.values["publish"] == TURN_REQUESTS
    turns = 0
    while not client.transport.reading:
        world.scheduler.turn()
        turns += 1
    assert turns == 500 // TURN_REQUESTS
    assert [reply["id"] for reply in client.got()] == list(range(1, 501))


def test_requests_of_all_clients_share_a_turn() -> None:
    """One read of a socket may bring thousands of frames. Each client has a few all the same, and the next turn."""
    world = World(limits=UNLIMITED)
    clients = [world.connect() for _ in range(3)]
    world.scheduler.run()

    def ran() -> list[int]:
        """Requests of each, as far as they go in this turn."""
        for client in clients:
            while client.transport.reading:
                client.session.received(frame(publishes(1)), binary=False)
        return [len(client.got()) for client in clients]

    first = [TURN_REQUESTS, LEAST_REQUESTS, LEAST_REQUESTS]
    assert ran() == first
    for _ in range(2):
        world.scheduler.turn()
        assert sum(ran()) <= sum(first)
        assert all(client.transport.reading is False for client in clients)


@pytest.mark.parametrize("after", [1, 3])
def test_what_waits_for_its_turn_is_dropped_with_the_connection(after: int) -> None:
    world = World(limits=UNLIMITED)
    client = world.connect()
    client.session.received(frame(publishes(500)), binary=False)
    for _ in range(after):
        world.scheduler.turn()
    done = world.metrics.commands.values["publish"]
    client.session.disconnect(errors.FORCE_DISCONNECT)
    world.scheduler.run()
    assert world.metrics.commands.values["publish"] == done < 500


def test_what_comes_before_a_connect_is_not_decoded() -> None:
    """Nobody knows who sent the frame, and the first command ends it."""
    world = World(limits=UNLIMITED)
    protocol = counting(world)
    client = world.open()
    client.raw(frame(publishes(5000)))
    assert client.closed_with() == errors.BAD_COMMAND
    assert protocol.decoded == 1


def test_what_waits_for_its_turn_is_not_decoded() -> None:
    world = World(limits=UNLIMITED)
    protocol = counting(world)
    client = world.open()
    world.verifier.hold = True
    token = world.token("42")
    client.session.received(frame([{"id": 1, "connect": {"token": token}}, *publishes(500)]), binary=False)
    assert protocol.decoded == 1
    world.verifier.release()
    assert protocol.decoded == TURN_REQUESTS
    world.scheduler.turn()
    assert protocol.decoded == 2 * TURN_REQUESTS


def test_a_refused_connect_ends_what_came_with_it() -> None:
    """Before the client could know: none of it is carried out, or even read."""
    world = World(limits=UNLIMITED)
    protocol = counting(world)
    client = world.open()
    token = world.token("42", expires_in=-100)
    got = client.send({"id": 1, "connect": {"token": token}}, *publishes(500))
    assert [reply["id"] for reply in got] == [1]
    assert protocol.decoded == 1
    world.scheduler.run()
    assert (client.got(), client.closed_with(), world.services.inboxes) == ([], None, set())


def test_an_sdk_subscribes_to_all_that_it_had_with_its_connect() -> None:
    """As many channels as are allowed, each with a token, in one frame of more than one message may have."""
    world = World(limits={"subscribes_per_second": 0})
    names = [f"room{number}" for number in range(world.settings.limits.channels)]
    grants = [world.grant("42", name, info={"name": "x" * 250}) for name in names]
    subscribes = [
        {"id": number, "subscribe": {"channel": name, "token": grant}}
        for number, (name, grant) in enumerate(zip(names, grants, strict=True), 2)
    ]
    commands = [{"id": 1, "connect": {"token": world.token("42")}}, *subscribes]
    assert len(frame(commands)) > world.settings.limits.message_size
    client = world.open()
    got = client.send(*commands)
    world.scheduler.run()
    replies = got + client.got()
    assert [reply["id"] for reply in replies] == list(range(1, len(names) + 2))
    assert not any("error" in reply for reply in replies)


@pytest.mark.parametrize("wrong", [b'{"id":}', b'{"id":9,"publish":{}}{"id":10,"publish":{}}', b'{"id":9}'])
def test_what_came_before_a_wrong_command_is_carried_out(wrong: bytes) -> None:
    world = World(limits=UNLIMITED)
    client = world.connect()
    client.raw(frame(publishes(3)) + b"\n" + wrong + b"\n" + frame(publishes(3)))
    assert [reply["id"] for reply in client.got()] == [1, 2, 3]
    assert client.closed_with() == errors.BAD_COMMAND


def test_a_command_that_is_too_large_ends_what_comes_behind_it() -> None:
    world = World(limits={**UNLIMITED, "message_size": 1000})
    client = world.connect()
    large = {"id": 5, "publish": {"channel": "room", "data": "x" * 1000}}
    client.raw(frame([*publishes(2), large, *publishes(2)]))
    assert [reply["id"] for reply in client.got()] == [1, 2]
    assert client.closed_with() == errors.MESSAGE_TOO_BIG


@pytest.fixture
def busy() -> World:
    return World(namespaces={"kept": OPEN}, limits=UNLIMITED)


HISTORIES = [{"id": number, "history": {"channel": "kept:a"}} for number in range(1, 3001)]


def test_what_waits_is_counted_until_it_has_run(busy: World) -> None:
    """The frame, and no more than that: it is not decoded before its turn."""
    client = busy.connect("42")
    data = frame(HISTORIES)
    busy.broker.hold = True
    client.raw(data)
    (inbox,) = busy.services.inboxes
    assert (inbox.held, inbox.concerned, inbox.payer) == (len(data), 1, client.session.user)
    busy.broker.hold = False
    busy.broker.release()
    busy.scheduler.run()
    assert [reply["id"] for reply in client.got()] == list(range(1, 3001))
    assert (inbox.held, busy.services.inboxes) == (0, set())


@pytest.mark.parametrize("unknown", [{}, {"unknown": 1}])
@pytest.mark.parametrize("others", [[], [{"id": 2, "subscribe": {"channel": "kept:a"}}]])
def test_a_request_that_others_wait_for_is_counted(
    busy: World, unknown: dict[str, int], others: list[dict[str, object]]
) -> None:
    """Even if it is the last of several requests in a command, alone in its message or not."""
    client = busy.open()
    busy.verifier.hold = True
    data = frame([{"id": 1, "connect": {"token": busy.token("42"), "data": "x" * 10_000, **unknown}}, *others])
    client.raw(data)
    (inbox,) = busy.services.inboxes
    assert (inbox.held, inbox.payer) == (len(data), None)
    busy.verifier.release()
    assert (inbox.held, busy.services.inboxes) == (0, set())


@pytest.mark.parametrize("shed", [False, True])
def test_nothing_is_counted_of_who_is_gone(busy: World, *, shed: bool) -> None:
    client = busy.connect("42")
    busy.broker.hold = True
    client.raw(frame(HISTORIES))
    (inbox,) = busy.services.inboxes
    if shed:
        inbox.shed()
        assert client.closed_with() == errors.SLOW
    else:
        client.session.closed(1006, "")
    assert (inbox.held, busy.services.inboxes) == (0, set())
