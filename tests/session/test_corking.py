"""What a session says in one turn of the loop is one write, and one frame where the protocol allows it."""

import json
from typing import Any

import pytest

from gateway.errors import FORCE_DISCONNECT, SERVER_ERROR
from gateway.protocols.wire_protocol import Message
from tests.session.conftest import Client, World


def written(client: Client) -> list[list[dict[str, Any]]]:
    """The messages of each write since the last call."""
    writes = [[json.loads(line) for line in block.splitlines()] for block in client.transport.written]
    client.transport.written.clear()
    return writes


def publishes(count: int) -> bytes:
    commands = [{"id": 10 + n, "publish": {"channel": "sport", "data": n}} for n in range(count)]
    return "\n".join(map(json.dumps, commands)).encode()


def test_replies_to_one_frame_are_one_frame(world: World) -> None:
    client = world.connect()
    client.raw(publishes(5))
    world.scheduler.run()
    (write,) = written(client)
    assert [reply["id"] for reply in write] == [10, 11, 12, 13, 14]


def test_replies_that_come_together_are_one_frame(world: World) -> None:
    """Of requests that came one after the other, and are answered by one read from the broker."""
    client = world.connect()
    world.broker.hold = True
    for line in publishes(3).splitlines():
        client.raw(line)
    world.broker.release()
    assert written(client) == []
    world.scheduler.turn()
    assert [[reply["id"] for reply in write] for write in written(client)] == [[10, 11, 12]]


def test_what_is_delivered_in_between_keeps_its_place(world: World) -> None:
    """A reply before it, and one behind it."""
    client = world.subscriber("news")
    world.broker.hold = True
    client.raw(b'{"id":5,"publish":{"channel":"sport","data":1}}')
    client.raw(b'{"id":6,"publish":{"channel":"sport","data":2}}')
    first, second = world.broker.held
    world.broker.held.clear()
    first()
    world.publish("news", "between")
    second()
    world.scheduler.run()
    found = [message for write in written(client) for message in write]
    assert [message.get("id", "push") for message in found] == [5, "push", 6]


def test_a_connection_that_is_closed_says_all_before(world: World) -> None:
    """The goodbye of the transport stands behind it."""
    client = world.connect()
    world.broker.hold = True
    client.raw(b'{"id":5,"publish":{"channel":"sport","data":1}}')
    world.broker.release()
    client.session.disconnect(FORCE_DISCONNECT)
    assert [message["id"] for write in written(client) for message in write] == [5]
    assert client.closed_with() == FORCE_DISCONNECT
    world.scheduler.run()
    assert written(client) == []


def test_what_was_said_to_a_client_that_is_gone_goes_nowhere(world: World) -> None:
    client = world.connect()
    world.broker.hold = True
    client.raw(b'{"id":5,"publish":{"channel":"sport","data":1}}')
    world.broker.release()
    client.session.closed(1006, "")
    world.scheduler.run()
    assert written(client) == []


def test_messages_that_cannot_be_framed_close_the_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back, and asks again; and nobody else is harmed."""
    client, other = world.connect(), world.connect()

    def fail(messages: list[Message]) -> bytes:
        raise ValueError

    monkeypatch.setattr(world.centrifuge, "frame", fail)
    client.session.out.say([Message(b"a")])
    other.session.out.say([Message(b"b")])
    monkeypatch.undo()
    monkeypatch.setattr(client.session.out, "encoder", Failing(world))
    world.scheduler.turn()
    assert client.closed_with() == SERVER_ERROR
    assert other.transport.take() == b"b\n"


class Failing:
    """An encoder whose frames cannot be made."""

    def __init__(self, world: World) -> None:
        self.protocol = world.centrifuge.protocol
        self.goodbye = world.centrifuge.goodbye
        self.delta = None

    def frame(self, messages: list[Message]) -> bytes:
        raise ValueError
