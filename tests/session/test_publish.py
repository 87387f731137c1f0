"""Publish, and the commands without a handler."""

from collections.abc import Callable

import pytest

from gateway import errors
from gateway.errors import OutcomeUnknown
from gateway.messages import Connect, Kind, Subscribe
from tests.reconnection import reconnects
from tests.session.conftest import Client, World

MakeWorld = Callable[..., World]


def publish(channel: str, data: object = 1, id: int = 5) -> dict[str, object]:
    return {"id": id, "publish": {"channel": channel, "data": data}}


def test_acknowledged_only_when_the_broker_has_it(world: World) -> None:
    client = world.connect()
    world.broker.hold = True
    assert client.send(publish("news")) == []
    world.broker.release()
    assert client.got() == [{"id": 5, "publish": {}}]


def test_a_publish_that_the_broker_refuses_or_loses_is_answered(world: World) -> None:
    client = world.connect()
    world.broker.up = False
    (reply,) = client.send(publish("news"))
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}


def test_an_unknown_outcome_is_not_an_acknowledgement(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.connect()
    monkeypatch.setattr(world.broker, "publish", lambda publication, options, done: done(OutcomeUnknown("cut")))
    (reply,) = client.send(publish("news"))
    assert reply["error"]["code"] == 100


def test_an_answer_for_a_client_that_left_goes_nowhere(world: World) -> None:
    client = world.connect()
    world.broker.hold = True
    client.send(publish("news"))
    client.session.closed(1006, "")
    world.broker.release()
    assert client.got() == []
    assert len(world.broker.published) == 1


@pytest.mark.parametrize(
    ("user", "channel", "code"),
    [
        ("ann", "closed:x", 103),
        ("ann", "members:x", 103),
        ("", "members:x", 103),
        ("ann", "$private", 103),
        ("ann", "room#bob", 103),
        ("ann", "nowhere:x", 102),
        ("ann", "bad name", 107),
    ],
)
def test_refusals(world: World, user: str, channel: str, code: int) -> None:
    (reply,) = world.connect(user).send(publish(channel))
    assert reply["error"]["code"] == code
    assert world.broker.published == []


def test_subscribers_may_publish_where_the_namespace_says_so(world: World) -> None:
    client = world.subscriber("members:x", user="ann")
    assert client.send(publish("members:x"))[0] == {"id": 5, "publish": {}}


def test_no_data_is_a_bad_request(world: World) -> None:
    (reply,) = world.connect().send({"id": 5, "publish": {"channel": "news"}})
    assert reply["error"]["code"] == 107


def test_the_publish_rate_is_limited(make_world: MakeWorld) -> None:
    world = make_world(limits={"publishes_per_second": 3})
    client = world.connect()
    replies = client.send(*(publish("news", id=number) for number in range(10, 15)))
    assert [("error" in reply) for reply in replies] == [False, False, False, True, True]
    assert replies[3]["error"]["code"] == 111
    world.scheduler.advance(1)
    assert client.send(publish("news", id=20)) == [{"id": 20, "publish": {}}]


def test_publishes_of_a_user_are_counted_over_all_its_connections(make_world: MakeWorld) -> None:
    """And of an anonymous client by itself; whoever comes back has no new share."""
    world = make_world(limits={"publishes_per_second": 3})

    def accepted(client: Client) -> int:
        replies = client.send(*(publish("news", id=number) for number in range(10, 15)))
        return sum("publish" in reply for reply in replies)

    one, other = world.connect("42"), world.connect("42")
    assert [accepted(client) for client in (one, other, world.connect("43"))] == [3, 0, 3]
    assert [accepted(world.connect()) for _ in range(2)] == [3, 3]
    one.session.closed(1000, "")
    other.session.closed(1000, "")
    assert accepted(world.connect("42")) == 0
    world.scheduler.advance(1)
    assert accepted(world.connect("42")) == 3


def test_other_commands_have_no_handler_yet(world: World) -> None:
    client = world.connect()
    for command in ({"rpc": {"method": "m"}}, {"presence": {"channel": "news"}}, {"history": {"channel": "news"}}):
        (reply,) = client.send({"id": 5, **command})
        assert reply["error"]["code"] == 108
    client.send({"send": {"data": 1}})
    assert client.closed_with() == errors.NO_HANDLER


def test_malformed_input_closes_and_nobody_else_notices(world: World) -> None:
    other = world.subscriber("news")
    for frame, binary in ((b"{", False), (b"", False), (b"\x00\x01", True), (b'{"id":1}', False)):
        client = world.connect()
        client.raw(frame, binary=binary)
        assert client.closed_with() == errors.BAD_COMMAND
    world.publish("news", 1)
    assert len(other.got()) == 1


def test_an_error_of_ours_closes_to_reconnect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.connect()

    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.messaging, "publish", broken)
    client.send(publish("news"))
    assert client.closed_with() == errors.SERVER_ERROR


# Flood


def test_a_flood_stops_the_reading_and_then_the_connection(make_world: MakeWorld) -> None:
    world = make_world(limits={"commands_per_second": 10})
    client = world.connect()
    client.send(*({"id": number, "unsubscribe": {"channel": "x"}} for number in range(2, 22)))
    paused = not client.transport.reading
    world.scheduler.advance(2)
    assert paused
    assert client.transport.reading
    client.send(*({"id": number, "unsubscribe": {"channel": "x"}} for number in range(100)[1:]))
    assert client.closed_with() == errors.TOO_MANY_COMMANDS
    assert reconnects(errors.TOO_MANY_COMMANDS)


# Plain


def open_plain(world: World, channel: str, user: str = "") -> Client:
    token = world.token(user) if user else ""
    return world.open_plain(Connect(1, token), Subscribe(2, channel), channel=channel)


def test_plain_publishes_and_receives_its_own(world: World) -> None:
    client = open_plain(world, "news")
    reader = world.subscriber("news")
    client.raw(b"hi there")
    assert client.transport.take() == b"hi there\n"
    client.raw(b"\x00\xff", binary=True)
    assert client.transport.take() == b"\x00\xff\n"
    assert [push["push"]["pub"]["data"] for push in reader.got()] == ["hi there", {"base64": "AP8="}]
    assert [publication.kind for publication, _ in world.broker.published] == [Kind.TEXT, Kind.BINARY]


def test_plain_gets_native_json_as_text(world: World) -> None:
    client = open_plain(world, "news")
    world.publish("news", {"a": 1})
    assert client.transport.take() == b'{"a": 1}\n'


def test_plain_messages_wait_for_the_subscription(world: World) -> None:
    world.broker.hold = True
    client = open_plain(world, "news")
    client.raw(b"one")
    client.raw(b"two")
    assert world.broker.published == []
    world.broker.hold = False
    world.broker.release()
    assert client.transport.take() == b"one\ntwo\n"


def test_plain_empty_messages_are_messages(world: World) -> None:
    client = open_plain(world, "news")
    client.raw(b"")
    assert client.transport.take() == b"\n"


@pytest.mark.parametrize(
    ("channel", "code"),
    [("closed:x", errors.NOT_PERMITTED), ("nowhere:x", (3501, "unknown channel")), ("$x", errors.NOT_PERMITTED)],
)
def test_plain_refusals_close(world: World, channel: str, code: tuple[int, str]) -> None:
    assert open_plain(world, channel).closed_with() == code


def test_plain_publishing_without_permission_closes(world: World) -> None:
    client = open_plain(world, "quiet:x")
    assert client.closed_with() is None
    client.raw(b"hi")
    assert client.closed_with() == errors.NOT_PERMITTED


def test_plain_with_the_broker_down_closes_to_reconnect(world: World) -> None:
    client = open_plain(world, "news")
    world.broker.up = False
    client.raw(b"hi")
    assert client.closed_with() == errors.SERVER_ERROR


def test_plain_expired_token_closes(world: World) -> None:
    client = world.open_plain(Connect(1, world.token("a", expires_in=-9)), Subscribe(2, "news"), channel="news")
    assert client.closed_with() == (errors.CONNECTION_EXPIRED.code, "token expired")


def test_plain_by_grant(world: World) -> None:
    """A subscription token alone opens its channel, for the user it names."""
    grant = world.grant("ann", "$room", expires_in=100)
    client = world.open_plain(Connect(1, grant, by_grant=True), Subscribe(2, "$room", grant), channel="$room")
    assert client.closed_with() is None
    assert client.session.user.name == "ann"
    world.publish("$room", 1)
    assert client.transport.take() == b"1\n"
    for _ in range(130):
        world.scheduler.advance(1)
        client.session.ponged()
    assert client.closed_with() == errors.SUBSCRIPTION_EXPIRED


def test_plain_gap_closes_to_reconnect(world: World) -> None:
    client = open_plain(world, "news")
    world.node.on_gap([client.session.subs["news"].channel])
    assert client.closed_with() == errors.INSUFFICIENT_STATE
