"""Delivery groups that get differences: each subscriber can put together every publication from what it got."""

import json
import random
from collections.abc import Callable

import pytest
from centrifuge.fossil import apply_delta

from gateway.hub.encoder import DIFFERENCE_PER_WRITE, DeltaEncoder, Encoder
from gateway.hub.fanout import Fanout
from gateway.hub.hub import TURN_WRITES, Hub
from gateway.messages import Channel, ClientInfo, Kind, Membership, Publication
from gateway.metrics import Metrics
from gateway.protocols import deltas
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.fossil import LIMIT, create_delta
from gateway.protocols.wire_protocol import DIFFERENCE_BYTES
from tests.fakes import Faultless, ManualScheduler, PlainFraming

ROOM = Channel("default", "room")
TEXT = {"name": "a rather long name that does not change", "items": list(range(50))}


def lines(messages: object) -> bytes:
    return b"".join(message.data + b"\n" for message in messages)  # type: ignore[attr-defined]


class Reader(Faultless):
    """A subscriber as the SDKs are: it keeps what it got last, and applies differences to it."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.got: list[object] = []
        self.differences = 0
        self._last = b""

    def write(self, block: bytes) -> None:
        for line in block.splitlines():
            push = json.loads(line)["push"]
            if "pub" not in push:
                self.got.append(next(iter(push.keys() - {"channel"})))
                continue
            data = push["pub"]["data"].encode()
            if push["pub"].get("delta"):
                self.differences += 1
                data = bytes(apply_delta(self._last, data))
            self._last = data
            self.got.append(json.loads(data))


class Room:
    """A hub with one channel."""

    def __init__(self) -> None:
        self.scheduler = ManualScheduler()
        self.hub: Hub[Reader] = Hub(self.scheduler, Metrics())
        self.encoder = DeltaEncoder(CentrifugeProtocol(), PlainFraming(lines))

    def join(self, client: str = "c") -> Reader:
        reader = Reader(client)
        self.hub.add(ROOM, reader, self.encoder, reader.write)
        return reader

    def publish(self, *values: object, exclude: str = "") -> None:
        self.hub.deliver(ROOM, [publication(value, exclude) for value in values])


def publication(value: object, exclude: str = "") -> Publication:
    return Publication(ROOM, json.dumps(value, separators=(",", ":")).encode(), exclude_client=exclude)


def version(number: int) -> object:
    return {**TEXT, "number": number}


@pytest.fixture
def room() -> Room:
    return Room()


def test_the_first_comes_whole_and_the_others_as_differences(room: Room) -> None:
    """Also several at once; who comes later begins with a whole one, and takes nothing from the others."""
    early = room.join()
    room.publish(version(0), version(1))
    late = room.join()
    room.publish(version(2))
    room.publish(version(3))
    assert early.got == [version(number) for number in range(4)]
    assert late.got == [version(2), version(3)]
    assert (early.differences, late.differences) == (3, 1)


def test_the_same_channel_has_other_groups(room: Room) -> None:
    """A subscriber that did not ask gets everything whole."""
    plain = Encoder(CentrifugeProtocol(), PlainFraming(lines))
    got: list[bytes] = []
    room.hub.add(ROOM, Reader("p"), plain, got.append)
    reader = room.join()
    room.publish(version(0))
    room.publish(version(1))
    assert [json.loads(block)["push"]["pub"] for block in got] == [{"data": version(0)}, {"data": version(1)}]
    assert reader.got == [version(0), version(1)]


def test_who_did_not_get_one_gets_the_next_whole(room: Room) -> None:
    """A publication may leave out a connection."""
    one, other = room.join("one"), room.join("other")
    room.publish(version(0))
    room.publish(version(1), exclude="one")
    room.publish(version(2))
    assert one.got == [version(0), version(2)]
    assert other.got == [version(number) for number in range(3)]


def test_joins_are_no_base(room: Room) -> None:
    reader = room.join()
    room.publish(version(0))
    room.hub.deliver(ROOM, [Membership(ROOM, ClientInfo("u", "c"), joined=True)])
    room.publish(version(1))
    assert reader.got == [version(0), "join", version(1)]
    assert reader.differences == 1


def test_no_difference_where_it_would_not_pay(room: Room) -> None:
    """Longer than the whole, or larger than what can be computed at once."""
    reader = room.join()
    for value in (1, 2, "x" * LIMIT, "x" * LIMIT + "y", {"a": 1}):
        room.publish(value)
    room.scheduler.run()
    assert reader.got == [1, 2, "x" * LIMIT, "x" * LIMIT + "y", {"a": 1}]
    assert reader.differences == 0


def test_other_kinds_are_differences_of_what_is_shown(room: Room) -> None:
    """Text is a JSON string here, bytes are an object with base64."""
    reader = room.join()
    for number in range(3):
        text = ("ü" * 300 + str(number)).encode()
        room.hub.deliver(ROOM, [Publication(ROOM, text, Kind.TEXT)])
    room.hub.deliver(ROOM, [Publication(ROOM, b"\xff", Kind.BINARY)])
    assert reader.got == ["ü" * 300 + str(number) for number in range(3)] + [{"base64": "/w=="}]
    assert reader.differences == 2


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each payload whose difference from the one before was computed."""
    sizes: list[int] = []

    def counting(source: bytes, target: bytes) -> bytes:
        sizes.append(len(target))
        return create_delta(source, target)

    monkeypatch.setattr(deltas, "create_delta", counting)
    return sizes


def test_of_many_at_once_those_beyond_a_share_are_whole(room: Room, compared: list[int]) -> None:
    """Differences take far longer than writes; the next one is again a difference, from the whole one before."""
    reader = room.join()
    values = [{**TEXT, "number": number, "filling": "x" * (LIMIT // 2)} for number in range(20)]
    room.publish(*values)
    room.scheduler.run()
    assert DIFFERENCE_BYTES - LIMIT < sum(compared) <= DIFFERENCE_BYTES
    assert reader.differences == len(compared)
    room.publish({**TEXT, "number": 20})
    assert reader.got == [*values, {**TEXT, "number": 20}]
    assert reader.differences == len(compared)


def test_a_turn_computes_few_differences_however_few_subscribers_there_are(room: Room, compared: list[int]) -> None:
    """They count as the writes that take as long. What waits meanwhile goes out in order."""
    reader = room.join()
    texts = [str(number) + "x" * (LIMIT // 2) for number in range(60)]
    for text in texts:
        room.publish(text)
    largest = seen = 0
    while True:
        largest, seen = max(largest, sum(compared) - seen), sum(compared)
        if not room.scheduler.turn():
            break
    assert reader.got == texts
    assert 0 < largest <= TURN_WRITES * DIFFERENCE_PER_WRITE + DIFFERENCE_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_everybody_can_read_everything(seed: int) -> None:
    """Readers come and go, writes are exchanged, fan-outs go in slices: each has every publication of its time once."""
    rng = random.Random(seed)
    room = Room()
    crowd = [room.join(f"crowd{number}") for number in range(TURN_WRITES if seed % 10 == 1 else 3)]
    members: list[tuple[Reader, int]] = []
    gone: list[tuple[Reader, int, int]] = []
    count = 0

    def come() -> None:
        members.append((room.join(f"m{rng.random()}"), count))

    def go() -> None:
        if members:
            reader, since = members.pop(rng.randrange(len(members)))
            room.hub.remove(ROOM, reader, room.encoder)
            gone.append((reader, since, count))

    def publish() -> None:
        nonlocal count
        number = rng.randint(1, 3)
        room.publish(*(version(each) for each in range(count, count + number)))
        count += number

    def exchange() -> None:
        if members:
            reader, _ = rng.choice(members)
            room.hub.redirect(ROOM, reader, room.encoder, reader.write)

    actions: list[Callable[[], object]] = [come, go, publish, publish, exchange, room.scheduler.turn]
    for _ in range(100):
        rng.choice(actions)()
    room.scheduler.run()
    for reader, since in [*members, *((each, 0) for each in crowd)]:
        assert reader.got == [version(number) for number in range(since, count)]
    for reader, since, until in gone:
        # What was still waiting for its slice is not written to who has left.
        assert reader.got == [version(number) for number in range(since, until)][: len(reader.got)]


def test_a_member_that_leaves_before_it_got_anything_leaves_no_group(room: Room) -> None:
    """An empty one would be paid for with every delivery, and keep the last publication."""
    fanout: Fanout[Reader] = Fanout(ROOM)
    plain = Encoder(CentrifugeProtocol(), PlainFraming(lines))
    stays, leaves = Reader("a"), Reader("b")
    fanout.add(stays, plain, list[bytes]().append)
    events = [publication("x" * 10_000)]
    before = fanout.cost(events)
    fanout.add(leaves, room.encoder, leaves.write)
    fanout.remove(leaves, room.encoder)
    fanout.write_all(events)
    assert fanout.cost(events) == before
    assert list(fanout.subscribers()) == [stays]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_moves_between_groups_can_put_together_everything(seed: int) -> None:
    """While fan-outs are in slices and wait, and some publications leave out a connection."""
    chance = random.Random(seed)
    scheduler = ManualScheduler()
    hub: Hub[Reader] = Hub(scheduler, Metrics())
    encoders = [DeltaEncoder(CentrifugeProtocol(), PlainFraming(lines)) for _ in range(3)]
    for number in range(TURN_WRITES * 2):
        hub.add(ROOM, Reader(f"crowd{number}"), encoders[0], lambda block: None)
    movers = [Reader(f"mover{number}") for number in range(10)]
    standing = dict.fromkeys(movers, encoders[0])
    expected: dict[Reader, list[object]] = {mover: [] for mover in movers}
    for mover in movers:
        hub.add(ROOM, mover, encoders[0], mover.write)
    for number in range(60):
        excluded = chance.choice([*movers, None, None])
        hub.deliver(ROOM, [publication(version(number), excluded.client if excluded is not None else "")])
        for mover in movers:
            if mover is not excluded:
                expected[mover].append(version(number))
        for mover in chance.sample(movers, chance.randrange(4)):
            encoder = chance.choice(encoders)
            hub.move(ROOM, mover, standing[mover], encoder, mover.write)
            standing[mover] = encoder
        if chance.random() < 0.5:
            scheduler.turn()
    scheduler.run()
    assert {mover.client: mover.got for mover in movers} == {mover.client: found for mover, found in expected.items()}
    assert sum(mover.differences for mover in movers) > 0
