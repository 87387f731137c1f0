"""What one session makes fail stays with it: the others keep their deadlines, and it is closed rather than stuck."""

from typing import Any

import pytest

from gateway import errors
from gateway.control import SubscribeUser
from gateway.session.inbox import LONGEST_WAIT
from gateway.session.session import Session
from gateway.session.wheel import RESOLUTION, TimingWheel
from tests.fakes import GUARD, ManualScheduler
from tests.session.conftest import Client, World


class Failing:
    """A deadline that raises."""

    due = 0
    weight = 1

    def on_timer(self) -> None:
        raise KeyError("room")


class Noting:
    """A deadline that is kept."""

    weight = 1

    def __init__(self) -> None:
        self.due = 0
        self.fired = 0

    def on_timer(self) -> None:
        self.fired += 1


def test_a_deadline_that_fails_stops_no_other() -> None:
    """Neither those of its slot nor those of later ones."""
    scheduler = ManualScheduler()
    wheel = TimingWheel(scheduler, GUARD)
    kept = [Noting() for _ in range(3)]
    wheel.schedule(kept[0], 1)
    wheel.schedule(Failing(), 1)
    wheel.schedule(kept[1], 1)
    wheel.schedule(kept[2], 5)
    scheduler.advance(10)
    assert [each.fired for each in kept] == [1, 1, 1]


@pytest.mark.parametrize("first", ["server", "client"])
def test_subscriptions_that_expire_together_end_the_connection_and_no_deadline_of_others(first: str) -> None:
    """One of the server closes the connection (3006), and with it the other one of the same tick."""
    world = World(heartbeat={"expired_grace": 0})
    other = world.connect("41")
    client = world.connect("42")
    at = int(world.scheduler.time()) + 5

    def by_server() -> None:
        world.node.on_control(SubscribeUser("default", "42", "one", expire_at=at))
        world.scheduler.run()
        client.got()

    def by_client() -> None:
        token = world.grant("42", "two", expires_in=5)
        (reply,) = client.send({"id": 2, "subscribe": {"channel": "two", "token": token}})
        assert "subscribe" in reply

    for subscribe in (by_server, by_client) if first == "server" else (by_client, by_server):
        subscribe()
    world.scheduler.advance(6)
    assert client.closed_with() == errors.SUBSCRIPTION_EXPIRED
    # The other one is still pinged, and closed when it does not answer.
    world.scheduler.advance(60)
    assert other.got() == [{}]
    assert other.closed_with() == errors.NO_PONG
    assert world.metrics.faults.values == {}


def test_the_end_of_all_subscriptions_may_be_the_end_of_the_connection(world: World) -> None:
    """As an operator asks for with an empty channel, of a plain connection among others."""
    client = world.subscriber("one", "two", user="42")
    world.node.on_control(SubscribeUser("default", "42", "three"))
    world.scheduler.run()
    assert client.session.unsubscribe_by_server("", errors.UNSUBSCRIBED_INSUFFICIENT)
    assert client.closed_with() == errors.INSUFFICIENT_STATE
    assert client.session.subs == {}


CONTINUATIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "connected": (["connect"], {}),
    "subscribed": (["subscribe"], {"channel": "room"}),
    "published": (["publish"], {"channel": "room", "data": 1}),
    "history": (["history"], {"channel": "kept:room"}),
    "presence": (["presence"], {"channel": "seen:room"}),
    "presence_stats": (["presence_stats"], {"channel": "seen:room"}),
    "refreshed": (["refresh"], {}),
    "sub_refreshed": (["sub_refresh"], {"channel": "closed:room"}),
}


@pytest.mark.parametrize("answer", CONTINUATIONS)
def test_an_answer_that_cannot_be_given_closes_the_connection(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a code after which it comes back: it must not wait for ever, and nobody else notices."""
    everybody = ["client", "anonymous"]
    world = World(
        namespaces={
            "kept": {"history_size": 10, "allow_history": everybody},
            "seen": {"presence": True, "allow_presence": everybody},
        }
    )
    other = world.subscriber("room")
    client = world.open() if answer == "connected" else world.connect("42")
    body = dict(CONTINUATIONS[answer][1])
    if answer in ("connected", "refreshed"):
        body["token"] = world.token("42")
    if answer == "sub_refreshed":
        body["token"] = world.grant("42", "closed:room")
        client.send({"id": 2, "subscribe": body})

    def failing(*arguments: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(type(world.centrifuge.protocol), answer, failing)
        client.send({"id": 3, CONTINUATIONS[answer][0][0]: body})
        world.scheduler.run()
    assert client.closed_with() == errors.SERVER_ERROR
    assert sum(world.metrics.faults.values.values()) == 1
    (reply,) = other.send({"id": 9, "publish": {"channel": "room", "data": 1}})[:1]
    assert reply
    assert other.closed_with() is None


def test_a_message_that_breaks_the_decoder_closes_its_connection_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, client = world.connect(), world.connect()

    def failing(*arguments: object, binary: bool) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(type(world.centrifuge.protocol), "decode", failing)
        client.raw(b"{}")
    assert client.closed_with() == errors.SERVER_ERROR
    assert other.closed_with() is None


def test_a_deadline_whose_session_fails_closes_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no deadline any more: a dead peer would stay for ever."""
    client = world.connect()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "_expire", lambda session: 1 / 0)
        world.scheduler.advance(26)
    assert client.closed_with() == errors.SERVER_ERROR


def stuck(world: World) -> Client:
    """A client whose subscribe is never answered, and that sends on."""
    client = world.connect()
    world.broker.hold = True
    client.send({"id": 2, "subscribe": {"channel": "room"}}, {"id": 3, "publish": {"channel": "room", "data": 1}})
    assert not client.transport.reading
    return client


def test_a_request_that_waits_for_what_does_not_come_ends_the_connection(world: World) -> None:
    """The pong deadline is not prolonged for ever, whoever is to blame."""
    client = stuck(world)
    world.scheduler.advance(LONGEST_WAIT + 33 + 8 + RESOLUTION)
    assert client.closed_with() == errors.SERVER_ERROR


def test_a_request_that_waits_for_a_slow_broker_does_not_end_it(world: World) -> None:
    """It is answered late, and the next ones do not inherit its waiting."""
    client = stuck(world)
    world.scheduler.advance(LONGEST_WAIT - 20)
    world.broker.release()
    world.scheduler.run()
    assert [reply.get("id") for reply in client.got() if reply] == [2]
    world.broker.release()
    world.broker.hold = False
    world.scheduler.run()
    assert client.transport.reading
    assert client.closed_with() is None


def test_a_subscription_that_cannot_be_left_keeps_no_socket_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.subscriber("one", "two")
    with monkeypatch.context() as patch:
        patch.setattr(type(world.messaging), "leave", lambda *arguments: 1 / 0)
        client.session.disconnect(errors.FORCE_DISCONNECT)
    assert client.closed_with() == errors.FORCE_DISCONNECT
    assert world.metrics.faults.values == {"leave": 2}
