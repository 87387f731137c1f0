"""A node with sessions, driven by calls: no socket, no loop, no Redis."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.auth.identity import Grant, Identity, TokenDone
from gateway.auth.revocations import Revocations
from gateway.auth.token_verifier import TokenVerifier
from gateway.broker.memory.memory_presence import MemoryPresence
from gateway.channels import Channels
from gateway.config.settings import ServerSettings
from gateway.control import NodeId
from gateway.errors import INTERNAL, CloseCode, RequestError
from gateway.guard import Guard
from gateway.hooks.decisions import NO_APPLICATION
from gateway.hooks.questions import Peer
from gateway.hub.encoder import Encoder
from gateway.log import Refusals
from gateway.messages import DEFAULT_APP, Channel, Publication, Request
from gateway.metrics import Metrics
from gateway.node.administration import Profile
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.wire_protocol import Message
from gateway.session.commands import run
from gateway.session.decoding import decode, read
from gateway.session.services import SessionServices
from gateway.session.session import Session
from gateway.session.wheel import TimingWheel
from gateway.tokens import connection_token, subscription_token
from gateway.transports.handshake import Handshake
from tests.fakes import Assembly, DictRegistry, ManualBroker, ManualScheduler, PlainFraming, RecordingTransport

SECRET = "a secret that only tests know, 32+"

SETTINGS: dict[str, Any] = {
    # Without leeway, so that tokens expire to the second.
    "auth": {"hmac_secret": SECRET, "anonymous": True, "leeway": 0},
    "channels": {"allow_subscribe": ["client", "anonymous"], "allow_publish": ["client", "anonymous"]},
    "namespaces": {
        "closed": {},
        "price": {"delivery": "latest"},
        "members": {"allow_subscribe": ["client"], "allow_publish": ["subscriber"]},
        "quiet": {"allow_subscribe": ["client", "anonymous"], "announce_gaps": False},
        "own": {},
    },
}


def lines(messages: Sequence[Message]) -> bytes:
    return b"".join(message.data + b"\n" for message in messages)


class LateVerifier(TokenVerifier):
    """Answers when the test says so, as one that has to fetch a key first; or not at all."""

    hold = False
    # The key set cannot be fetched, so that nothing can be said of a token.
    unreachable = False

    def __init__(self, *options: Any) -> None:
        super().__init__(*options)
        self.held: list[Callable[[], object]] = []

    def release(self) -> None:
        """Answer what is held."""
        held, self.held = self.held, []
        for answer in held:
            answer()

    def connection(self, token: str, done: TokenDone[Identity]) -> None:
        self._answer(lambda: super(LateVerifier, self).connection(token, done), done)

    def subscription(self, token: str, done: TokenDone[Grant]) -> None:
        self._answer(lambda: super(LateVerifier, self).subscription(token, done), done)

    def either(self, token: str, done: TokenDone[Identity | Grant]) -> None:
        self._answer(lambda: super(LateVerifier, self).either(token, done), done)

    def _answer(self, verify: Callable[[], object], done: Callable[[RequestError], object]) -> None:
        def answer() -> None:
            if self.unreachable:
                done(RequestError(INTERNAL, "the key set cannot be fetched"))
            else:
                verify()

        if self.hold:
            self.held.append(answer)
        else:
            answer()


class Client:
    """One connection: what it sends and what it got, as JSON."""

    def __init__(self, world: "World", encoder: Encoder, **options: Any) -> None:
        self.transport = RecordingTransport()
        peer = Peer(world.handshake, address="192.0.2.1", protocol="centrifuge", transport="websocket")
        self.session = Session(world.services, encoder, peer=peer, **options)
        self.transport.connection = self.session
        self.session.opened(self.transport)
        self._scheduler = world.scheduler
        self._scheduler.turn()

    def raw(self, data: bytes, *, binary: bool = False) -> None:
        self.session.received(data, binary=binary)
        self._scheduler.turn()

    def send(self, *commands: dict[str, Any]) -> list[Any]:
        """Send commands in one frame; what came back."""
        self.raw("\n".join(map(json.dumps, commands)).encode())
        return self.got()

    def got(self) -> list[Any]:
        """What arrived since the last call: the turn of the loop is over."""
        self.session.out.uncork()
        return [json.loads(line) for line in self.transport.take().splitlines()]

    def closed_with(self) -> CloseCode | None:
        return self.transport.close_code


class World:
    """The parts of one node."""

    def __init__(self, **settings: Any) -> None:
        merged = {key: {**SETTINGS.get(key, {}), **settings.get(key, {})} for key in {*SETTINGS, *settings}}
        self.settings = ServerSettings.model_validate(merged)
        self.scheduler = ManualScheduler()
        self.metrics = Metrics()
        # What clients of this node opened their connection with.
        self.handshake = Handshake({"path": "/", "headers": [(b"cookie", b"session=s3")], "query_string": b""}, ())
        self.broker = ManualBroker()
        self.registry = DictRegistry()
        revocations = Revocations(self.scheduler.time)
        channels = Channels(self.settings)
        self.presence = MemoryPresence(lambda channel, event: self.node.on_events(channel, [event]), self.metrics)
        assembly = Assembly(
            Profile(NodeId("node-uid"), "node-name"),
            broker=self.broker,
            registry=self.registry,
            presence=self.presence,
            channels=channels,
            revocations=revocations,
            scheduler=self.scheduler,
            metrics=self.metrics,
            max_publications=self.settings.limits.history,
            max_bytes=self.settings.limits.outbox // 2,
        )
        self.node, self.messaging, self.clients = assembly.node, assembly.messaging, assembly.clients
        self.broker.receiver = self.node
        self.verifier = LateVerifier(self.settings.auth, revocations, self.scheduler.time)
        guard = Guard(self.metrics.faults, self.scheduler.now)
        self.services = SessionServices[Session](
            app=DEFAULT_APP,
            node_name="node-name",
            clients=self.clients,
            messaging=self.messaging,
            application=NO_APPLICATION,
            channels=channels,
            verifier=self.verifier,
            limits=self.settings.limits,
            heartbeat=self.settings.heartbeat,
            anonymous=self.settings.auth.anonymous,
            wheel=TimingWheel(self.scheduler, guard),
            scheduler=self.scheduler,
            corks=self.messaging.hub.corks,
            metrics=self.metrics,
            guard=guard,
            refusals=Refusals(clock=self.scheduler.now),
            notes=None,
            read=read,
            decode=decode,
            run=run,
        )
        self.centrifuge = Encoder(CentrifugeProtocol(), PlainFraming(lines))
        self.plain = Encoder(PlainProtocol(), PlainFraming(lines, b"PING"))

    def open(self) -> Client:
        """A client that has not connected yet."""
        return Client(self, self.centrifuge)

    def connect(self, user: str = "", **claims: Any) -> Client:
        """A client that is connected, as `user` or anonymous."""
        client = self.open()
        token = self.token(user, **claims) if user else ""
        (reply,) = client.send({"id": 1, "connect": {"token": token}})
        assert "connect" in reply, reply
        return client

    def subscriber(self, *channels: str, user: str = "") -> Client:
        client = self.connect(user)
        for number, channel in enumerate(channels, 2):
            (reply,) = client.send({"id": number, "subscribe": {"channel": channel}})
            assert "subscribe" in reply, reply
        return client

    def open_plain(self, *initial: Request, channel: str) -> Client:
        return Client(self, self.plain, home=channel, initial=initial)

    def token(self, user: str, *, expires_in: float | None = 3600, **claims: Any) -> str:
        return connection_token(SECRET, user, expires_in=expires_in, now=self.scheduler.time(), **claims)

    def grant(self, user: str, channel: str, *, expires_in: float | None = 3600, **claims: Any) -> str:
        return subscription_token(SECRET, user, channel, expires_in=expires_in, now=self.scheduler.time(), **claims)

    def publish(self, channel: str, data: object, **fields: Any) -> None:
        """A publication of another node arrives."""
        key = Channel(DEFAULT_APP, channel)
        publication = Publication(key, json.dumps(data).encode(), time=int(self.scheduler.time() * 1000), **fields)
        self.node.on_events(key, [publication])


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> Callable[..., World]:
    return World
