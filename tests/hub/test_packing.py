"""Delivery groups whose framing packs messages, which takes time."""

from collections.abc import Sequence

import pytest

from gateway.hub.encoder import EVENTS_PER_WRITE, Encoder, PackingFraming
from gateway.hub.fanout import PACKED_SLICE
from gateway.hub.hub import TURN_WRITES, Hub
from gateway.messages import Channel, ClientInfo, Event, Membership, Publication
from gateway.metrics import Metrics
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.wire_protocol import Message
from tests.fakes import Faultless, ManualScheduler, PlainFraming

NEWS = Channel("default", "news")
PER_WRITE = 128


class Packing(PlainFraming):
    """Writes down what it packs."""

    bytes_per_write = PER_WRITE

    def __init__(self) -> None:
        super().__init__(lambda messages: b"".join(message.data for message in messages))
        self.packed: list[int] = []

    def pack(self, messages: Sequence[Message]) -> bytes:
        self.packed.append(sum(len(message.data) for message in messages))
        return b"P" * len(messages)


class Reader(Faultless):
    def __init__(self, client: str) -> None:
        self.client = client
        self.blocks: list[bytes] = []


class Room:
    """A hub with readers of a packing group, and of a plain one."""

    def __init__(self, packed: int, plain: int) -> None:
        self.scheduler = ManualScheduler()
        self.hub: Hub[Reader] = Hub(self.scheduler, Metrics())
        self.framing = Packing()
        encoder = Encoder(PlainProtocol(), self.framing)
        self.packed = self._readers(encoder, packed)
        self.plain = self._readers(Encoder(PlainProtocol(), PlainFraming(self.framing.frame)), plain)

    def _readers(self, encoder: Encoder, count: int) -> list[Reader]:
        readers = [Reader(f"c{number}") for number in range(count)]
        for reader in readers:
            self.hub.add(NEWS, reader, encoder, reader.blocks.append)
        return readers

    def publish(self, *sizes: int) -> None:
        self.hub.deliver(NEWS, [Publication(NEWS, b"x" * size) for size in sizes])


def test_a_publication_is_packed_once_for_its_group() -> None:
    """The others get it as it is; all members of a group the same object."""
    room = Room(packed=50, plain=50)
    room.publish(100)
    assert room.framing.packed == [100]
    assert {id(reader.blocks[0]) for reader in room.packed} == {id(room.packed[0].blocks[0])}
    assert all(reader.blocks == [b"P"] for reader in room.packed)
    assert all(reader.blocks == [b"x" * 100] for reader in room.plain)


def test_what_one_client_is_told_is_not_packed() -> None:
    """Nobody shares the time with it."""
    framing = Packing()
    assert isinstance(framing, PackingFraming)
    assert Encoder(PlainProtocol(), framing).frame([Message(b"reply")]) == b"reply"
    assert framing.packed == []


def test_packing_counts_as_so_many_writes() -> None:
    """One publication of 64 KiB to one subscriber fills a turn, and the next waits for one of its own."""
    room = Room(packed=1, plain=0)
    room.publish(TURN_WRITES * PER_WRITE // 2)
    assert len(room.framing.packed) == 1
    room.publish(TURN_WRITES * PER_WRITE // 2 + PER_WRITE)
    assert len(room.framing.packed) == 1
    room.scheduler.run()
    assert len(room.framing.packed) == 2


ALL_OF_IT = TURN_WRITES * PER_WRITE
INFO = ClientInfo("ann", "c1")


@pytest.mark.parametrize(
    "large",
    [
        Publication(NEWS, b"", tags={"key": "x" * ALL_OF_IT}),
        Publication(NEWS, b"", tags={"x" * ALL_OF_IT: "value"}),
        Publication(NEWS, b"", tags={f"key {number}": "x" * 1_000 for number in range(ALL_OF_IT // 1_000)}),
        Publication(NEWS, b"", info=ClientInfo("ann", "c1", conn_info=b"x" * ALL_OF_IT)),
        Publication(NEWS, b"", info=ClientInfo("ann", "c1", chan_info=b"x" * ALL_OF_IT)),
        Publication(NEWS, b"", info=ClientInfo("x" * ALL_OF_IT, "c1")),
        Publication(NEWS, b"x" * (ALL_OF_IT // 2), tags={"key": "x" * (ALL_OF_IT // 2)}),
        Membership(NEWS, ClientInfo("ann", "c1", chan_info=b"x" * ALL_OF_IT), joined=True),
    ],
    ids=["a tag", "a key", "tags", "connection", "subscription", "user", "both", "join"],
)
def test_what_goes_with_the_payload_is_packed_too(large: Event) -> None:
    """Who publishes chooses tags, and tokens have the information: no turn packs two such events."""
    room = Room(packed=1, plain=0)
    cost = Encoder(PlainProtocol(), room.framing).cost
    assert ALL_OF_IT // PER_WRITE <= cost([large]) <= ALL_OF_IT // PER_WRITE + 20
    assert cost([large] * 100) >= 100 * cost([large]) - 100
    room.hub.deliver(NEWS, [large])
    room.hub.deliver(NEWS, [large])
    turns = 1
    while room.scheduler.turn():
        turns += 1
    assert turns > 2


def test_small_events_cost_as_before() -> None:
    """What is not packed counts by the event alone."""
    few = [Publication(NEWS, b"x" * 100, tags={}), Publication(NEWS, b"x" * 100)]
    assert Encoder(PlainProtocol(), Packing()).cost(few) == 200 // PER_WRITE
    large = [Publication(NEWS, b"x" * 100_000, tags={"key": "x" * 100_000}, info=INFO)] * 8
    assert Encoder(PlainProtocol(), PlainFraming(lambda messages: b"")).cost(large) == 8 // EVENTS_PER_WRITE


@pytest.mark.parametrize("plain", [0, 3])
def test_what_waits_is_packed_in_slices(plain: int) -> None:
    """However much waits, no turn packs much more than a slice; all of it arrives."""
    room = Room(packed=1, plain=plain)
    room.publish(*[16 * 1024] * 100)
    assert room.framing.packed == []
    most = done = 0
    while room.scheduler.turn():
        most, done = max(most, sum(room.framing.packed) - done), sum(room.framing.packed)
    assert done == 100 * 16 * 1024
    assert most <= PACKED_SLICE
    assert sum(len(block) for block in room.packed[0].blocks) == 100


@pytest.mark.parametrize("groups", [2, 16])
def test_groups_are_packed_in_turns_of_their_own(groups: int) -> None:
    """A channel may have a group for each encoding, window and delta: no turn packs a large publication for all."""
    room = Room(packed=0, plain=0)
    framings = [Packing() for _ in range(groups)]
    readers = [Reader(f"g{number}") for number in range(groups)]
    for framing, reader in zip(framings, readers, strict=True):
        room.hub.add(NEWS, reader, Encoder(PlainProtocol(), framing), reader.blocks.append)
    room.publish(TURN_WRITES * PER_WRITE)
    most = done = 0
    while room.scheduler.turn():
        packed = sum(len(framing.packed) for framing in framings)
        most, done = max(most, packed - done), packed
    assert [reader.blocks for reader in readers] == [[b"P"]] * groups
    assert (most, done) == (1, groups)
