"""A node with fakes around it."""

from collections.abc import Sequence
from typing import Any

from gateway.auth.revocations import Revocations
from gateway.broker.memory.memory_presence import MemoryPresence
from gateway.channels import Channels
from gateway.config.settings import NamespaceSettings, ServerSettings
from gateway.control import KickUser, NodeId, RevokeTokens, SubscribeUser
from gateway.errors import INVALID_TOKEN, CloseCode, UnsubscribeCode
from gateway.hub.encoder import Encoder
from gateway.messages import Channel, ClientId, ClientInfo, User
from gateway.metrics import Metrics
from gateway.node.administration import Profile
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.wire_protocol import Message
from tests.fakes import Assembly, DictRegistry, Faultless, ManualBroker, ManualScheduler, PlainFraming

QUIET = "quiet"
ROOM = Channel("default", "room")


class FakeClient(Faultless):
    """A client that remembers what was asked of it."""

    def __init__(self, number: int, user: str = "42", channels: int = 0) -> None:
        self.client = ClientId(f"c{number}")
        self.user = User("default", user)
        self.asked: list[Any] = []
        self.jti = f"t{number}"
        self.num_channels = channels

    def member(self, name: str) -> ClientInfo:
        return ClientInfo(self.user.name, self.client)

    def shutdown(self) -> None:
        raise NotImplementedError

    def disconnect(self, code: CloseCode) -> None:
        self.asked.append(code)

    def subscribe_by_server(self, message: SubscribeUser) -> None:
        self.asked.append(message)

    def unsubscribe_by_server(self, name: str, code: UnsubscribeCode) -> bool:
        self.asked.append((name, code))
        return True

    def refresh_by_server(self, *, expired: bool, expire_at: int) -> None:
        self.asked.append((expired, expire_at))

    def revoke(self, revoked: RevokeTokens) -> bool:
        if revoked.jti != self.jti:
            return False
        self.asked.append(INVALID_TOKEN)
        return True

    def kick(self, kicked: KickUser, *, late: bool) -> bool:
        self.asked.append((kicked.channel, late))
        return True


class Site:
    """A node with fakes around it."""

    def __init__(self) -> None:
        settings = ServerSettings(namespaces={QUIET: NamespaceSettings(announce_gaps=False)})
        self.broker, self.registry, self.scheduler = ManualBroker(), DictRegistry(), ManualScheduler()
        self.metrics, self.revocations = Metrics(), Revocations(self.scheduler.time)
        self.assemble(settings)

    def assemble(self, settings: ServerSettings, **parts: Any) -> None:
        """Make the node, with other parts where they are given."""
        assembly = Assembly(
            Profile(NodeId("n1"), "first"),
            **{
                "broker": self.broker,
                "registry": self.registry,
                "presence": MemoryPresence(lambda channel, event: None, self.metrics),
                "channels": Channels(settings),
                "revocations": self.revocations,
                "scheduler": self.scheduler,
                "metrics": self.metrics,
                **parts,
            },
        )
        self.node, self.messaging, self.administration = assembly.node, assembly.messaging, assembly.administration
        self.book, self.host = assembly.clients, assembly.host

    def clients(self, count: int, **fields: Any) -> list[FakeClient]:
        made = [FakeClient(number, **fields) for number in range(count)]
        for client in made:
            self.book.add(client)
        return made


def unframed(messages: Sequence[Message]) -> bytes:
    return b"".join(message.data for message in messages)


def joined(site: Site, channel: Channel, client: FakeClient) -> Encoder:
    encoder = Encoder(PlainProtocol(), PlainFraming(unframed, b"ping"))
    site.messaging.acquire(channel, lambda error: None)
    site.messaging.join(channel, channel, client, encoder, lambda frame: client.asked.append(frame))
    return encoder
