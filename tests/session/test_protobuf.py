"""Sessions of the native protocol in Protobuf, beside others on one channel."""

from typing import Any

from gateway import errors
from gateway.hub.encoder import Encoder
from gateway.messages import Connect, Subscribe
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobufProtocol
from gateway.protocols.wire_protocol import Message
from tests.fakes import PlainFraming
from tests.protocols.encodings import ProtobufEncoding
from tests.session.conftest import Client, World

ENCODING = ProtobufEncoding()


def joined(messages: Any) -> bytes:
    return b"".join(message.data for message in messages)


class ProtobufClient(Client):
    """A connection that speaks Protobuf."""

    def __init__(self, world: World) -> None:
        super().__init__(world, Encoder.of(CentrifugeProtobufProtocol(), PlainFraming(joined)))

    def send(self, *commands: dict[str, Any]) -> list[Any]:
        self.raw(ENCODING.frame(*commands), binary=True)
        return self.got()

    def got(self) -> list[Any]:
        self.session.out.uncork()
        return ENCODING.replies(self.transport.take())


def connected(world: World, *more: dict[str, Any]) -> ProtobufClient:
    client = ProtobufClient(world)
    replies = client.send({"id": 1, "connect": {}}, *more)
    assert replies[0].connect.client
    return client


def test_all_read_what_one_publishes(world: World) -> None:
    """JSON by its value, other bytes as they are or, in JSON, in base64."""
    protobuf = connected(world, {"id": 2, "subscribe": {"channel": "room"}})
    json = world.subscriber("room")
    plain = world.open_plain(Connect(1), Subscribe(2, "room"), channel="room")
    for payload in (b'{"a":1}', b"\x00\xff"):
        answers = protobuf.send({"id": 3, "publish": {"channel": "room", "data": payload}})
        assert [each.push.pub.data for each in answers if each.HasField("push")] == [payload]
        assert [each.id for each in answers if each.HasField("publish")] == [3]
    assert [each["push"]["pub"]["data"] for each in json.got()] == [{"a": 1}, {"base64": "AP8="}]
    plain.raw(b"text")
    (push,) = protobuf.got()
    assert push.push.pub.data == b"text"
    (push,) = json.got()
    assert push["push"]["pub"]["data"] == "text"


def test_errors_do_not_end_the_connection(world: World) -> None:
    client = connected(world)
    (reply,) = client.send({"id": 2, "publish": {"channel": "room"}})
    assert (reply.id, reply.error.code, reply.error.temporary) == (2, errors.BAD_REQUEST.code, False)
    (reply,) = client.send({"id": 3, "rpc": {"method": "m", "data": b"\xff"}})
    assert (reply.id, reply.error.code) == (3, errors.NOT_AVAILABLE.code)
    assert client.closed_with() is None


def test_commands_before_a_malformed_one_are_carried_out(world: World) -> None:
    client = connected(world)
    json = world.subscriber("room")
    publish = ENCODING.frame({"id": 2, "publish": {"channel": "room", "data": 1}})
    client.raw(publish + b"\x09\x08", binary=True)
    assert [each["push"]["pub"]["data"] for each in json.got()] == [1]
    assert client.closed_with() == errors.BAD_COMMAND


def test_a_text_message_closes(world: World) -> None:
    client = connected(world)
    client.raw(ENCODING.frame({"id": 2, "ping": {}}))
    assert client.closed_with() == errors.BAD_COMMAND


def test_a_frame_of_many_commands_is_a_flood(make_world: Any) -> None:
    """They are counted before any of them is read."""
    world: World = make_world(limits={"commands_per_second": 10, "channels": 1})
    client = connected(world)
    client.raw(b"\x02\x62\x00" * 20_000, binary=True)
    assert client.closed_with() == errors.TOO_MANY_COMMANDS


def test_a_command_that_is_too_large_closes(make_world: Any) -> None:
    """limits.message_size, as in JSON."""
    world: World = make_world(limits={"message_size": 2000})
    for others in ((), ({"id": 3, "ping": {}},)):
        client = connected(world)
        client.send({"id": 2, "publish": {"channel": "room", "data": b"x" * 2000}}, *others)
        assert client.closed_with() == errors.MESSAGE_TOO_BIG


def test_pings_are_answered_by_empty_commands(world: World) -> None:
    client = connected(world)
    (ping,) = CentrifugeProtobufProtocol().ping()
    assert ping == Message(b"\0", binary=True)
    for _ in range(3):
        written, seconds = b"", 0
        while not written and seconds < 2 * world.settings.heartbeat.ping_interval:
            world.scheduler.advance(1)
            written, seconds = client.transport.take(), seconds + 1
        assert (written, client.closed_with()) == (ping.data, None)
        client.raw(b"\0", binary=True)
    world.scheduler.advance(2 * world.settings.heartbeat.ping_interval)
    assert client.closed_with() == errors.NO_PONG
