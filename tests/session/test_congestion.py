"""Clients that read too slowly."""

from collections.abc import Callable

from gateway import errors
from tests.reconnection import reconnects
from tests.session.conftest import World

MakeWorld = Callable[..., World]


def test_what_a_congested_client_misses_waits_for_it_in_order(world: World) -> None:
    slow, quick = world.subscriber("news"), world.subscriber("news")
    slow.session.pause_writing()
    for number in range(3):
        world.publish("news", number)
    slow.send({"id": 9, "unsubscribe": {"channel": "other"}})
    world.publish("news", 3)
    assert slow.got() == []
    assert len(quick.got()) == 4
    assert sum(outbox.size for outbox in world.services.outboxes) > 0
    slow.session.resume_writing()
    got = slow.got()
    assert [message["push"]["pub"]["data"] for message in got if "push" in message] == [0, 1, 2, 3]
    assert got[3] == {"id": 9, "unsubscribe": {}}
    assert not world.services.outboxes
    world.publish("news", 4)
    assert len(slow.got()) == 1


def test_congestion_from_within_a_delivery(world: World) -> None:
    """The socket may pause in the middle of a fan-out."""
    slow, quick = world.subscriber("news"), world.subscriber("news")
    slow.transport.capacity = 1
    world.publish("news", 0)
    world.publish("news", 1)
    assert len(quick.got()) == 2
    assert len(slow.got()) == 1
    slow.transport.capacity = 1
    slow.session.resume_writing()
    # The block of what waited congested it again.
    world.publish("news", 2)
    assert len(slow.got()) == 1
    slow.session.resume_writing()
    assert [message["push"]["pub"]["data"] for message in slow.got()] == [2]


def test_a_client_that_is_too_slow_is_closed_and_delays_nobody(make_world: MakeWorld) -> None:
    """3008 at the byte limit; what waited is dropped."""
    world = make_world(limits={"outbox": 200})
    slow, quick = world.subscriber("news"), world.subscriber("news")
    slow.session.pause_writing()
    for number in range(10):
        world.publish("news", number)
    world.scheduler.run()
    assert slow.closed_with() == errors.SLOW
    assert reconnects(errors.SLOW)
    assert slow.got() == []
    assert len(quick.got()) == 10
    assert not world.services.outboxes
    assert world.metrics.closed.values == {"3008": 1}
    slow.session.resume_writing()
    slow.session.pause_writing()
    assert slow.got() == []


def test_a_congested_client_may_subscribe_and_leave(world: World) -> None:
    client = world.subscriber("news")
    client.session.pause_writing()
    client.session.pause_writing()
    client.send({"id": 5, "subscribe": {"channel": "sport"}})
    world.publish("sport", 1)
    assert client.got() == []
    client.session.resume_writing()
    client.session.resume_writing()
    assert [message.get("id", "push") for message in client.got()] == [5, "push"]
    client.session.pause_writing()
    client.session.closed(1006, "")
    assert not world.services.outboxes
    assert world.broker.subscribed == set()


def test_nothing_follows_a_hole(make_world: MakeWorld) -> None:
    """A socket that is free again before the close takes nothing: a client would take it for the continuation."""
    world = make_world(limits={"outbox": 200})
    slow = world.subscriber("news")
    slow.session.pause_writing()
    for number in range(10):
        world.publish("news", number)
    slow.session.resume_writing()
    world.publish("news", 10)
    assert slow.got() == []
    world.scheduler.run()
    assert slow.closed_with() == errors.SLOW


def test_congestion_while_a_subscription_begins_and_ends(world: World) -> None:
    """Whoever joins is written to where its connection is written to at that moment."""
    client, quick = world.subscriber("sport"), world.subscriber("sport")
    world.broker.hold = True
    client.send({"id": 5, "subscribe": {"channel": "news"}})
    client.session.pause_writing()
    world.broker.release()
    world.publish("news", "waits")
    client.session.resume_writing()
    world.publish("news", "at once")
    assert [message.get("id") or message["push"]["pub"]["data"] for message in client.got()] == [5, "waits", "at once"]

    client.session.pause_writing()
    client.send({"id": 6, "unsubscribe": {"channel": "news"}})
    client.session.resume_writing()
    world.publish("news", "too late")
    assert client.got() == [{"id": 6, "unsubscribe": {}}]

    world.broker.hold = True
    client.send({"id": 7, "subscribe": {"channel": "other"}})
    client.session.pause_writing()
    client.session.resume_writing()
    world.broker.release()
    world.publish("other", 1)
    assert len(client.got()) == 2
    world.publish("sport", 1)
    assert len(client.got()) == len(quick.got()) == 1


def test_who_congests_in_a_sliced_fanout_gets_it_all_in_order(world: World) -> None:
    """Also when it leaves the channel, or comes back, while the slices go on."""
    clients = [world.subscriber("news") for _ in range(600)]
    slow, gone = clients[550], clients[560]
    world.publish("news", 0)
    world.scheduler.turn()
    slow.session.pause_writing()
    gone.session.closed(1006, "")
    world.publish("news", 1)
    world.scheduler.run()
    slow.session.resume_writing()
    assert [message["push"]["pub"]["data"] for message in slow.got()] == [0, 1]
    assert gone.got() == []
    assert all(len(client.got()) == 2 for client in clients if client not in (slow, gone))


def test_pings_wait_in_the_outbox_too(world: World) -> None:
    """A congested client that does not read is found by its missing pong."""
    client = world.subscriber("news")
    client.session.pause_writing()
    world.scheduler.advance(35)
    assert client.got() == []
    assert client.closed_with() == errors.NO_PONG
