"""What a session promises to every client, whatever it speaks: each wire protocol and framing runs this suite."""

from collections.abc import Callable

import pytest

from gateway import errors
from gateway.control import RevokeTokens
from gateway.entrances.credentials import position
from gateway.hub.encoder import Encoder
from gateway.messages import Channel, Connect, Publication, Subscribe
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.centrifuge_protobuf import CentrifugeProtobufProtocol
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.sse import SseProtocol
from gateway.protocols.wire_protocol import Message, WireProtocol
from gateway.transports.http_stream.stream_framing import BodyFraming, ChunkedFraming
from tests.entrances.lines_protocol import LinesProtocol
from tests.fakes import PlainFraming
from tests.session.conftest import Client, World, lines

CHANNEL = "open:a"
OPEN = {"allow_subscribe": ["client", "anonymous"], "allow_publish": ["client", "anonymous"]}

# The protocol, its framing, and whether the client has one channel that it names when it comes in.
KINDS: dict[str, tuple[WireProtocol, Callable[[], PlainFraming | BodyFraming], bool]] = {
    "centrifuge": (CentrifugeProtocol(), lambda: PlainFraming(lines), False),
    "centrifuge in Protobuf": (CentrifugeProtobufProtocol(), lambda: PlainFraming(lines), False),
    "plain": (PlainProtocol(), lambda: PlainFraming(lines, b"PING"), True),
    "centrifuge over a response": (CentrifugeProtocol(), lambda: BodyFraming(lines, b"\n"), False),
    "server-sent events": (SseProtocol(), lambda: BodyFraming(lines, b":\n\n"), True),
    "lines": (LinesProtocol(), lambda: BodyFraming(lines, b"\n"), True),
    "lines in chunks": (LinesProtocol(), lambda: ChunkedFraming(lines, b"\n"), True),
}


class Kind:
    """A protocol over a framing, and clients that speak it."""

    def __init__(self, name: str, world: World) -> None:
        self.protocol, framing, self.has_one_channel = KINDS[name]
        self.encoder = Encoder.of(self.protocol, framing())
        self._world = world

    def subscriber(self, *, user: str = "ann", since: str = "") -> Client:
        """A client that is subscribed, and has read what that brought."""
        world = self._world
        token = world.token(user)
        initial = (Connect(1, token), Subscribe(2, CHANNEL, since=position(since)))
        home = CHANNEL if self.has_one_channel else ""
        client = Client(world, self.encoder, home=home, initial=initial)
        world.scheduler.run()
        assert client.closed_with() is None
        return client


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    kept = {"delivery": "recoverable", **OPEN}
    return make_world(namespaces={"open": kept, "closed": {}}, limits={"outbox": 4096})


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, world: World) -> Kind:
    return Kind(request.param, world)


def shown(*texts: str) -> list[bytes]:
    """How publications of these texts look in every protocol here."""
    return [f'"{text}"'.encode() for text in texts]


def order_of(written: bytes, texts: list[bytes]) -> list[int]:
    """Where these stand; fails where one is missing or there twice."""
    assert [written.count(text) for text in texts] == [1] * len(texts)
    return [written.index(text) for text in texts]


def publish(world: World, *texts: str) -> None:
    spec = world.services.channels.resolve("default", CHANNEL)
    for text in texts:
        publication = Publication(Channel("default", CHANNEL), f'"{text}"'.encode(), time=1)
        world.messaging.publish(publication, spec.publishing, lambda outcome: None)
    world.scheduler.run()


def test_publications_arrive_once_and_in_order(world: World, kind: Kind) -> None:
    client = kind.subscriber()
    client.transport.take()
    publish(world, "one", "two", "three")
    places = order_of(client.transport.take(), shown("one", "two", "three"))
    assert places == sorted(places)


def test_what_was_missed_comes_before_what_is_new(world: World, kind: Kind) -> None:
    publish(world, "one", "two", "three")
    epoch = world.broker.streams.top(world.services.channels.resolve("default", CHANNEL).channel).epoch
    client = kind.subscriber(since=f"{epoch}:1")
    publish(world, "four")
    written = client.transport.take()
    assert b'"one"' not in written
    places = order_of(written, shown("two", "three", "four"))
    assert places == sorted(places)


def test_a_closed_connection_gets_its_goodbye_and_nothing_more(world: World, kind: Kind) -> None:
    client = kind.subscriber()
    client.transport.take()
    client.session.disconnect(errors.FORCE_DISCONNECT)
    publish(world, "late")
    assert client.transport.take() == kind.encoder.goodbye(errors.FORCE_DISCONNECT, kind.protocol.open())
    assert client.closed_with() == errors.FORCE_DISCONNECT


def test_a_slow_client_gets_all_once_it_reads(world: World, kind: Kind) -> None:
    client = kind.subscriber()
    client.transport.take()
    client.session.pause_writing()
    publish(world, "one", "two")
    assert client.transport.take() == b""
    client.session.resume_writing()
    places = order_of(client.transport.take(), shown("one", "two"))
    assert places == sorted(places)


def test_a_client_that_is_too_slow_is_closed(world: World, kind: Kind) -> None:
    """What waits is bounded in bytes; and nothing stands behind the hole."""
    client = kind.subscriber()
    client.transport.take()
    client.session.pause_writing()
    publish(world, *["x" * 1000] * 6)
    world.scheduler.run()
    assert client.closed_with() == errors.SLOW
    assert client.transport.take() == kind.encoder.goodbye(errors.SLOW, kind.protocol.open())


def test_a_connection_ends_with_its_token(world: World, kind: Kind) -> None:
    client = kind.subscriber()
    world.scheduler.advance(3600 + world.settings.heartbeat.expired_grace + 1)
    assert client.closed_with() in (errors.CONNECTION_EXPIRED, errors.NO_PONG)


def test_a_revoked_connection_is_closed(world: World, kind: Kind) -> None:
    client = kind.subscriber()
    assert client.session.revoke(RevokeTokens("default", "ann", "", 2**53))
    assert client.closed_with() == errors.CONNECTION_EXPIRED


def test_pings_are_written_and_only_some_have_to_be_answered(world: World, kind: Kind) -> None:
    """A client that can only read is gone when its transport says so."""
    client = kind.subscriber()
    client.transport.take()
    heartbeat = world.settings.heartbeat
    world.scheduler.advance(heartbeat.ping_interval)
    assert kind.encoder.ping_frame in client.transport.take()
    world.scheduler.advance(heartbeat.pong_timeout + 1)
    assert client.closed_with() == (errors.NO_PONG if kind.encoder.answers_pings else None)


def test_a_client_that_does_not_read_does_not_live_for_ever(world: World, kind: Kind) -> None:
    """Neither by pongs nor by reading has it shown that it is there."""
    client = kind.subscriber()
    client.session.pause_writing()
    heartbeat = world.settings.heartbeat
    world.scheduler.advance(2 * (heartbeat.ping_interval + heartbeat.pong_timeout) + 1)
    assert client.closed_with() == errors.NO_PONG


@pytest.mark.parametrize("kind", ["lines", "centrifuge over a response"], indirect=True)
def test_a_client_that_can_only_read_lives_as_long_as_it_does(world: World, kind: Kind) -> None:
    """However slowly."""
    client = kind.subscriber()
    for _ in range(30):
        client.session.pause_writing()
        world.scheduler.advance(world.settings.heartbeat.pong_timeout / 2)
        client.session.resume_writing()
    assert client.closed_with() is None


def test_another_node_can_end_the_subscription(world: World, kind: Kind) -> None:
    """The client is told, or loses the connection where it has one channel."""
    client = kind.subscriber()
    client.transport.take()
    assert client.session.unsubscribe_by_server(CHANNEL, errors.UNSUBSCRIBED_BY_SERVER)
    publish(world, "late")
    written = client.transport.take()
    assert b'"late"' not in written
    assert client.closed_with() == (errors.FORCE_DISCONNECT if kind.has_one_channel else None)
    assert b"server unsubscribe" in written or kind.has_one_channel


def test_a_connection_that_moves_loses_nothing(world: World, kind: Kind) -> None:
    client = kind.subscriber()
    client.transport.take()
    publish(world, "one")
    other = Kind(next(name for name, (protocol, _, _) in KINDS.items() if protocol is kind.protocol), world)
    before = client.transport
    after = Client(world, other.encoder).transport
    client.session.move(after, other.encoder)
    publish(world, "two")
    written = before.take() + after.take()
    places = order_of(written, shown("one", "two"))
    assert places == sorted(places)


def test_messages_of_one_turn_are_batched_without_loss(kind: Kind) -> None:
    messages = [Message(b'{"n":%d}' % number) for number in range(5)]
    framed = kind.encoder.frame(kind.protocol.batch(messages))
    places = order_of(framed, [message.data for message in messages])
    assert places == sorted(places)
