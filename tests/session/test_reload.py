"""Rules that change while clients are connected."""

from typing import Any

import pytest

from gateway import errors
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.control import SubscribeUser
from gateway.messages import Channel, Connect, Publication, Subscribe
from tests.session.conftest import SETTINGS, World

CHAT = {"allow_subscribe": ["client", "anonymous"], "allow_publish": ["subscriber"], "presence": True}
GONE = {"code": errors.UNKNOWN_CHANNEL.code, "message": errors.UNKNOWN_CHANNEL.message}
ROOM = Channel("default", "chat:room")


def chat_world(**options: Any) -> World:
    return World(namespaces={"chat": {**CHAT, **options}})


def change(world: World, **options: Any) -> None:
    """The namespace `chat` has these options now."""
    set_namespaces(world, chat={**CHAT, **options})


def set_namespaces(world: World, **namespaces: Any) -> None:
    settings = ServerSettings.model_validate({**SETTINGS, "namespaces": namespaces})
    world.services.channels.adopt(Channels(settings))


def subscribe(channel: str = "chat:room", **fields: Any) -> dict[str, Any]:
    return {"id": 7, "subscribe": {"channel": channel, **fields}}


def publish(channel: str = "chat:room") -> dict[str, Any]:
    return {"id": 8, "publish": {"channel": channel, "data": 1}}


def test_a_subscription_outlives_its_namespace() -> None:
    """It goes on, and ends in any way without harm; nothing new begins."""
    world = chat_world()
    clients = [world.subscriber("chat:room", user="ann") for _ in range(3)]
    set_namespaces(world)
    world.publish("chat:room", "still")
    assert [client.got()[-1]["push"]["pub"]["data"] for client in clients] == ["still"] * 3
    assert clients[0].send(publish())[-1]["error"] == GONE
    assert clients[0].send({"id": 9, "history": {"channel": "chat:room"}})[-1]["error"] == GONE
    assert clients[0].send({"id": 9, "presence": {"channel": "chat:room"}})[-1]["error"] == GONE
    assert clients[0].send({"id": 9, "unsubscribe": {"channel": "chat:room"}})[-1] == {"id": 9, "unsubscribe": {}}
    assert clients[0].send(subscribe())[-1]["error"] == GONE
    world.node.on_gap([ROOM])
    world.scheduler.turn()
    assert clients[1].got()[-1]["push"]["unsubscribe"]["code"] == 2500
    assert clients[1].closed_with() is None
    clients[2].session.closed(1006, "")
    assert world.broker.subscribed == set()
    assert world.registry.occupancy[ROOM] == 0


def test_who_was_present_leaves_whatever_the_rules_are_by_now() -> None:
    """And who came before there was presence is not there."""
    world = chat_world()
    before = world.subscriber("chat:room", user="ann")
    change(world, presence=False)
    after = world.subscriber("chat:room", user="bob")
    change(world)
    counted: list[Any] = []
    world.presence.counts(ROOM, counted.append)
    before.session.closed(1006, "")
    after.session.closed(1006, "")
    world.presence.counts(ROOM, counted.append)
    assert [tuple(counts) for counts in counted] == [(1, 1), (0, 0)]


def test_new_commands_see_new_rules() -> None:
    """Of a client that is subscribed as well; its subscription stays."""
    world = chat_world()
    client = world.subscriber("chat:room", user="ann")
    assert client.send(publish())[0] == {"id": 8, "publish": {}}
    change(world, allow_publish=[], allow_subscribe=[])
    assert client.send(publish())[-1]["error"]["code"] == 103
    assert client.send(subscribe("chat:other"))[-1]["error"]["code"] == 103
    world.publish("chat:room", "still")
    assert client.got()[-1]["push"]["pub"]["data"] == "still"


@pytest.mark.parametrize("delivery", ["live", "recoverable", "latest"])
def test_a_namespace_that_goes_during_a_subscribe(delivery: str) -> None:
    """What has not come far enough is answered with the error; nothing is left behind."""
    world = chat_world(delivery=delivery)
    client = world.connect("ann")
    world.broker.hold = True
    assert client.send(subscribe()) == []
    set_namespaces(world)
    world.broker.hold = False
    world.broker.release()
    world.scheduler.turn()
    (reply,) = client.got()
    assert reply["error"] == GONE
    assert world.broker.subscribed == set()
    # Commands are not kept waiting.
    assert client.send(publish("news"))[-1] == {"id": 8, "publish": {}}


@pytest.mark.parametrize("delivery", ["recoverable", "latest"])
def test_a_namespace_that_goes_while_the_stream_is_read(delivery: str) -> None:
    """The subscription stands, as one that was there before."""
    world = chat_world(delivery=delivery, delta=True)
    client = world.connect("ann")
    world.broker.hold = True
    client.send(subscribe(delta="fossil"))
    world.broker.release()
    world.scheduler.turn()
    set_namespaces(world)
    world.broker.hold = False
    world.broker.release()
    world.scheduler.turn()
    (reply,) = client.got()
    assert "subscribe" in reply
    client.session.closed(1006, "")
    assert world.broker.subscribed == set()


def test_a_namespace_that_goes_during_a_subscribe_by_the_server() -> None:
    """Or that only other nodes have: the client goes on without it."""
    world = chat_world()
    client = world.connect("ann")
    set_namespaces(world)
    world.node.on_control(SubscribeUser("default", "ann", "chat:room"))
    world.scheduler.turn()
    assert client.got() == []
    assert world.broker.subscribed == set()
    assert client.send(publish("news"))[-1] == {"id": 8, "publish": {}}


def test_a_namespace_that_goes_during_a_connect() -> None:
    """The client is told to come back, and then why not."""
    world = chat_world()
    client = world.open()
    world.broker.hold = True
    token = world.token("ann", channels=["chat:room"])
    client.send({"id": 1, "connect": {"token": token}})
    set_namespaces(world)
    world.broker.hold = False
    world.broker.release()
    world.scheduler.turn()
    assert client.closed_with() == errors.SERVER_ERROR
    assert world.broker.subscribed == set()
    (reply,) = world.open().send({"id": 1, "connect": {"token": token}})
    assert reply["error"] == GONE


def test_a_plain_connection_outlives_its_namespace() -> None:
    world = chat_world()
    client = world.open_plain(Connect(1, ""), Subscribe(2, "chat:room"), channel="chat:room")
    set_namespaces(world)
    world.publish("chat:room", "still")
    assert client.got() == ["still"]
    client.session.closed(1006, "")
    assert world.broker.subscribed == set()


def test_a_stream_that_becomes_shorter() -> None:
    """Subscribers go on; who comes back gets what it missed if that is still there, and is told otherwise."""
    world = chat_world(delivery="recoverable", allow_publish=["client"])
    world.broker.up = True
    client = world.connect("ann")
    (reply,) = client.send(subscribe(recoverable=True))
    epoch = reply["subscribe"]["epoch"]
    change(world, delivery="recoverable", history_size=2, allow_publish=["client"])
    spec = world.services.channels.resolve("default", "chat:room")
    for number in range(5):
        world.messaging.publish(Publication(ROOM, b"%d" % number), spec.publishing, lambda outcome: None)
        world.scheduler.turn()
    assert [line["push"]["pub"]["offset"] for line in client.got()] == [1, 2, 3, 4, 5]
    for offset, recovered in ((3, True), (1, False)):
        other = world.connect("bob")
        (reply,) = other.send(subscribe(recover=True, offset=offset, epoch=epoch))
        assert reply["subscribe"].get("recovered", False) is recovered
