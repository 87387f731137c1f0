"""The hub with real encoders, a scheduler by hand, and lists for sockets."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.hub import hub as hub_module
from gateway.hub.encoder import EVENTS_PER_WRITE, Encoder
from gateway.hub.fanout import OVERHEAD, SLICE, footprint
from gateway.hub.hub import TURN_WRITES, WAITING_LIMIT, Hub
from gateway.messages import Channel, ClientInfo, Event, Membership, Publication
from gateway.metrics import Metrics
from gateway.protocols.plain import PlainProtocol
from gateway.protocols.wire_protocol import Message
from tests.fakes import Faultless, ManualScheduler, PlainFraming

NEWS = Channel("default", "news")
SPORT = Channel("default", "sport")


def lines(messages: Sequence[Message]) -> bytes:
    """A framing that is easy to read: one line a message."""
    return b"".join(message.data + b"\n" for message in messages)


class Reader(Faultless):
    """A subscriber with a list for a socket."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.blocks: list[bytes] = []

    def got(self) -> list[bytes]:
        return b"".join(self.blocks).split()


class CountingProtocol(PlainProtocol):
    """Counts how often publications are encoded."""

    def __init__(self) -> None:
        self.encoded = 0

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        self.encoded += 1
        return super().events(events)


@pytest.fixture
def scheduler() -> ManualScheduler:
    return ManualScheduler()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def hub(scheduler: ManualScheduler, metrics: Metrics) -> Hub[Reader]:
    return Hub(scheduler, metrics)


def plain_encoder() -> Encoder:
    return Encoder(PlainProtocol(), PlainFraming(lines))


def publication(data: str, *, channel: Channel = NEWS, exclude: str = "") -> Publication:
    return Publication(channel, data.encode(), time=1_700_000_000_000, exclude_client=exclude)


def readers(hub: Hub[Reader], encoder: Encoder, count: int, channel: Channel = NEWS) -> list[Reader]:
    made = [Reader(f"c{number}") for number in range(count)]
    for reader in made:
        hub.add(channel, reader, encoder, reader.blocks.append)
    return made


def test_encodes_once_per_group_and_writes_the_same_bytes(hub: Hub[Reader]) -> None:
    """Members of a delivery group share one bytes object, whatever their number."""
    protocol = CountingProtocol()
    members = readers(hub, Encoder(protocol, PlainFraming(lines)), 50)
    hub.deliver(NEWS, [publication("a"), publication("b")])
    assert protocol.encoded == 1
    assert all(reader.blocks == [b"a\nb\n"] for reader in members)
    assert len({id(reader.blocks[0]) for reader in members}) == 1


def test_groups_get_their_own_encoding(hub: Hub[Reader]) -> None:
    first, second = (
        plain_encoder(),
        Encoder(PlainProtocol(), PlainFraming(lambda messages: b"<" + lines(messages) + b">")),
    )
    (one,) = readers(hub, first, 1)
    other = Reader("x")
    hub.add(NEWS, other, second, other.blocks.append)
    hub.deliver(NEWS, [publication("a")])
    assert one.blocks == [b"a\n"]
    assert other.blocks == [b"<a\n>"]


def test_nobody_subscribed_is_no_error(hub: Hub[Reader], scheduler: ManualScheduler) -> None:
    hub.deliver(NEWS, [publication("a")])
    scheduler.run()
    assert hub.count(NEWS) == 0
    assert list(hub.subscribers(NEWS)) == []


def test_the_excluded_connection_gets_nothing(hub: Hub[Reader], metrics: Metrics) -> None:
    """A publication may leave out one connection; the others keep its order."""
    one, two = readers(hub, plain_encoder(), 2)
    hub.deliver(NEWS, [publication("a"), publication("b", exclude="c0"), publication("c")])
    assert one.got() == [b"a", b"c"]
    assert two.got() == [b"a", b"b", b"c"]
    assert metrics.deliveries.value == 5
    assert metrics.delivered_bytes.value == 10


def test_a_member_that_left_gets_nothing(hub: Hub[Reader]) -> None:
    encoder = plain_encoder()
    one, two = readers(hub, encoder, 2)
    hub.remove(NEWS, one, encoder)
    hub.deliver(NEWS, [publication("a")])
    assert one.got() == []
    assert two.got() == [b"a"]
    hub.remove(NEWS, two, encoder)
    assert hub.num_channels == 0
    assert hub.num_subscriptions == 0


def test_a_large_fanout_takes_turns(hub: Hub[Reader], scheduler: ManualScheduler, metrics: Metrics) -> None:
    """No turn of the loop writes more than its budget, and everybody gets everything in order."""
    members = readers(hub, plain_encoder(), TURN_WRITES * 2 + 500)
    hub.deliver(NEWS, [publication("a")])
    hub.deliver(NEWS, [publication("b")])
    seen = 0
    while scheduler.turn():
        now = sum(len(reader.blocks) for reader in members)
        assert now - seen <= TURN_WRITES
        seen = now
    assert all(reader.got() == [b"a", b"b"] for reader in members)
    assert metrics.deliveries.value == 2 * len(members)
    assert metrics.delivered_bytes.value == 4 * len(members)


def test_what_waits_is_merged_into_one_write(hub: Hub[Reader], scheduler: ManualScheduler) -> None:
    members = readers(hub, plain_encoder(), TURN_WRITES + 1)
    for data in "abc":
        hub.deliver(NEWS, [publication(data)])
    scheduler.run()
    assert {tuple(reader.blocks) for reader in members} == {(b"a\nb\nc\n",)}


def test_a_waiting_channel_does_not_stop_another(hub: Hub[Reader], scheduler: ManualScheduler) -> None:
    readers(hub, plain_encoder(), TURN_WRITES + 1)
    (small,) = readers(hub, plain_encoder(), 1, SPORT)
    hub.deliver(NEWS, [publication("a")])
    hub.deliver(SPORT, [publication("x", channel=SPORT)])
    assert small.got() == [b"x"]
    scheduler.run()


def test_channels_in_the_queue_share_the_turns(hub: Hub[Reader], scheduler: ManualScheduler) -> None:
    """A huge channel with a backlog does not starve a second huge one."""
    first = readers(hub, plain_encoder(), TURN_WRITES * 3)
    second = readers(hub, plain_encoder(), TURN_WRITES * 3, SPORT)
    hub.deliver(NEWS, [publication("a")])
    hub.deliver(SPORT, [publication("x", channel=SPORT)])
    scheduler.turn()
    scheduler.turn()
    assert any(reader.blocks for reader in first)
    assert any(reader.blocks for reader in second)
    scheduler.run()
    assert all(reader.got() == [b"x"] for reader in second)


def test_who_leaves_or_is_redirected_between_turns(hub: Hub[Reader], scheduler: ManualScheduler) -> None:
    encoder = plain_encoder()
    members = readers(hub, encoder, TURN_WRITES + 10)
    hub.deliver(NEWS, [publication("a", exclude=members[-3].client)])
    scheduler.turn()
    hub.remove(NEWS, members[-1], encoder)
    elsewhere: list[bytes] = []
    hub.redirect(NEWS, members[-2], encoder, elsewhere.append)
    scheduler.run()
    assert members[-1].got() == []
    assert members[-2].got() == []
    assert elsewhere == [b"a\n"]
    assert members[-3].got() == []
    assert members[-4].got() == [b"a"]


def test_a_pause_within_a_delivery_redirects_the_next_write(hub: Hub[Reader]) -> None:
    """A socket may congest from within a write; the dictionary under iteration keeps its keys."""
    encoder = plain_encoder()
    congested: list[bytes] = []
    victim = Reader("victim")

    def write(block: bytes) -> None:
        victim.blocks.append(block)
        hub.redirect(NEWS, victim, encoder, congested.append)

    hub.add(NEWS, victim, encoder, write)
    (other,) = readers(hub, encoder, 1)
    hub.deliver(NEWS, [publication("a")])
    hub.deliver(NEWS, [publication("b")])
    assert victim.got() == [b"a"]
    assert congested == [b"b\n"]
    assert other.got() == [b"a", b"b"]


def test_a_channel_that_falls_behind_drops_its_oldest_and_counts(
    hub: Hub[Reader], scheduler: ManualScheduler, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for a slow fan-out is bounded."""
    assert WAITING_LIMIT == 4 * 1024 * 1024
    monkeypatch.setattr(hub_module, "WAITING_LIMIT", 2 * (OVERHEAD + 2) + 1)
    members = readers(hub, plain_encoder(), TURN_WRITES + 1)
    for data in ("aa", "bb", "cc", "dd"):
        hub.deliver(NEWS, [publication(data)])
    assert metrics.fanout_dropped.value == 2
    scheduler.run()
    assert members[0].got() == [b"cc", b"dd"]


def test_what_waits_can_be_taken_back(hub: Hub[Reader], scheduler: ManualScheduler, metrics: Metrics) -> None:
    """What is being written goes on; what comes afterwards is delivered as ever."""
    members = readers(hub, plain_encoder(), TURN_WRITES + 1)
    hub.deliver(NEWS, [publication("a")])
    scheduler.turn()
    hub.deliver(NEWS, [publication("b"), publication("c")])
    hub.discard(NEWS)
    scheduler.run()
    assert {tuple(reader.got()) for reader in members} == {(b"a",)}
    hub.deliver(NEWS, [publication("d")])
    hub.discard(NEWS)
    hub.discard(NEWS)
    hub.discard(SPORT)
    hub.deliver(NEWS, [publication("e")])
    scheduler.run()
    assert {tuple(reader.got()) for reader in members} == {(b"a", b"e")}
    assert (metrics.fanout_dropped.value, metrics.fanout_waiting.read()) == (3, 0)


def test_who_leaves_and_comes_back_between_turns_gets_nothing_twice(
    hub: Hub[Reader], scheduler: ManualScheduler
) -> None:
    """It begins with what is delivered after it came back: what was on its way went to it, or it asks for it."""
    encoder = plain_encoder()
    members = readers(hub, encoder, TURN_WRITES * 2)
    first, last = members[0], members[-1]
    hub.deliver(NEWS, [publication("a")])
    scheduler.turn()
    hub.deliver(NEWS, [publication("b")])
    for reader in (first, last):
        hub.remove(NEWS, reader, encoder)
        hub.add(NEWS, reader, encoder, reader.blocks.append)
    hub.deliver(NEWS, [publication("c")])
    scheduler.run()
    assert (first.got(), last.got()) == ([b"a", b"c"], [b"c"])
    assert {tuple(reader.got()) for reader in members[1:-1]} == {(b"a", b"b", b"c")}


def test_exclusions_do_not_multiply_the_writes_of_a_turn(
    hub: Hub[Reader], scheduler: ManualScheduler, metrics: Metrics
) -> None:
    """Each stretch that leaves out another connection is a block, and a write per subscriber, of its own."""
    members = readers(hub, plain_encoder(), 100)
    hub.deliver(NEWS, [publication(str(number), exclude=f"c{number % 2}") for number in range(40)])
    seen = 0
    while scheduler.turn():
        now = sum(len(reader.blocks) for reader in members)
        assert now - seen <= TURN_WRITES
        seen = now
    assert members[0].got() == [str(number).encode() for number in range(1, 40, 2)]
    assert members[50].got() == [str(number).encode() for number in range(40)]
    assert metrics.deliveries.value == 40 * 100 - 40


def test_empty_publications_take_memory_too(
    hub: Hub[Reader], scheduler: ManualScheduler, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is bounded whatever it says."""
    monkeypatch.setattr(hub_module, "WAITING_LIMIT", 10_000)
    readers(hub, plain_encoder(), TURN_WRITES + 1)
    for _ in range(1000):
        hub.deliver(NEWS, [publication("")])
    assert metrics.fanout_dropped.value > 900
    scheduler.run()
    assert metrics.fanout_waiting.read() == 0


def test_who_comes_and_goes_holds_no_memory(
    hub: Hub[Reader], scheduler: ManualScheduler, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits stays bounded, and is counted, however many join in between; each gets what came after it did."""
    monkeypatch.setattr(hub_module, "WAITING_LIMIT", 20 * (OVERHEAD + 1_000))
    encoder = plain_encoder()
    members = readers(hub, encoder, TURN_WRITES + 1)
    hub.deliver(NEWS, [publication("x" * 1_000)])
    scheduler.turn()
    late: list[Reader] = []
    dropped = 0
    for number in range(100):
        late.append(Reader(f"late{number}"))
        hub.add(NEWS, late[-1], encoder, late[-1].blocks.append)
        dropped += hub.deliver(NEWS, [publication(f"{number}".ljust(1_000, "."))])
    assert (dropped, metrics.fanout_waiting.read()) == (80, hub_module.WAITING_LIMIT)
    scheduler.run()
    assert [int(each.strip(b".")) for each in members[0].got()[1:]] == list(range(80, 100))
    assert [[int(each.strip(b".")) for each in reader.got()] for reader in late] == [
        list(range(max(number, 80), 100)) for number in range(100)
    ]


def test_what_nobody_gets_takes_its_share_of_a_turn(hub: Hub[Reader], scheduler: ManualScheduler) -> None:
    """Encoding is work too, when all who were there have left and others have come."""
    encoder = CountingProtocol()
    group = Encoder(encoder, PlainFraming(lines))
    members = readers(hub, group, TURN_WRITES + 1)
    for number in range(2 * TURN_WRITES):
        hub.deliver(NEWS, [publication(str(number), exclude=f"c{number % 2}")])
    late = Reader("late")
    hub.add(NEWS, late, group, late.blocks.append)
    for reader in members:
        hub.remove(NEWS, reader, group)
    scheduler.turn()
    assert encoder.encoded <= TURN_WRITES
    scheduler.run()
    assert (encoder.encoded, late.got()) == (2 * TURN_WRITES, [])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abxjle"), st.integers(1, 3)), max_size=40), st.integers(1, 20))
def test_order_and_completeness_hold_for_any_schedule(steps: list[tuple[str, int]], members: int) -> None:
    """Whatever the sizes, turns, joins and leaves: each gets what came while it was there, once, in order."""
    scheduler = ManualScheduler()
    hub: Hub[Reader] = Hub(scheduler, Metrics())
    hub._budget = 7
    encoders = (plain_encoder(), plain_encoder())
    present = [(each, encoders[0], list[bytes]()) for each in readers(hub, encoders[0], members)]
    left: list[tuple[Reader, list[bytes]]] = []
    for number, (step, count) in enumerate(steps):
        if step == "x":
            scheduler.turn()
        elif step == "j":
            reader = Reader(f"late{number}")
            hub.add(NEWS, reader, encoders[count % 2], reader.blocks.append)
            present.append((reader, encoders[count % 2], []))
        elif step == "l" and present:
            reader, encoder, expected = present.pop(count % len(present))
            hub.remove(NEWS, reader, encoder)
            left.append((reader, expected))
        elif step in "abe":
            exclude = "c0" if step == "e" else ""
            batch = [publication(f"{step}{number}.{index}", exclude=exclude) for index in range(count)]
            hub.deliver(NEWS, batch)
            for reader, _, expected in present:
                expected += [each.data for each in batch if reader.client != exclude]
    scheduler.run()
    assert all(reader.got() == expected for reader, _, expected in present)
    assert all(reader.got() == expected[: len(reader.got())] for reader, expected in left)


def test_what_waits_is_encoded_in_slices(hub: Hub[Reader], scheduler: ManualScheduler) -> None:
    """Encoding thousands of events takes long too, even for one subscriber."""
    protocol = CountingProtocol()
    (member,) = readers(hub, Encoder(protocol, PlainFraming(lines)), 1)
    sent = [publication(str(number)) for number in range(8 * SLICE // OVERHEAD)]
    hub.deliver(NEWS, sent)
    assert member.got() == []
    largest = done = 0
    while scheduler.turn():
        largest, done = max(largest, len(member.got()) - done), len(member.got())
    assert member.got() == [event.data for event in sent]
    assert largest <= TURN_WRITES * EVENTS_PER_WRITE + SLICE // OVERHEAD
    assert protocol.encoded >= 8


@pytest.mark.parametrize(
    "event",
    [
        Publication(NEWS, b"1", tags={"tag": "x" * 60_000}),
        Publication(NEWS, b"1", tags={"x" * 60_000: ""}),
        Publication(NEWS, b"1", tags={f"tag {number}": "" for number in range(1_000)}),
        Publication(NEWS, b"1", info=ClientInfo("u", "c", b"x" * 60_000)),
        Publication(NEWS, b"1", info=ClientInfo("u", "c", b"", b"x" * 60_000)),
        Membership(NEWS, ClientInfo("u" * 60_000, "c"), joined=True),
    ],
)
def test_whatever_an_event_holds_counts_while_it_waits(event: Event) -> None:
    """As the memory it takes: a thousand short tags take far more than their characters."""
    assert footprint(event) >= 60_000
    assert footprint(Publication(NEWS, b"1")) == 1 + OVERHEAD


class Failing(Reader):
    """A subscriber whose write fails, once it is another one: its connection has paused."""

    def __init__(self, client: str, hub: Hub[Reader], encoder: Encoder) -> None:
        super().__init__(client)
        self.failed = 0
        self._hub = hub
        self._encoder = encoder

    def write(self, block: bytes) -> None:
        self._hub.redirect(NEWS, self, self._encoder, self.blocks.append)
        raise RuntimeError("a fault of the transport")

    def write_failed(self) -> None:
        self.failed += 1


@pytest.mark.parametrize("exclude", ["", "c1"])
def test_those_whose_writes_fail_are_told(hub: Hub[Reader], exclude: str) -> None:
    """Each once, and no other one; their writes may have been exchanged by then."""
    encoder = plain_encoder()
    members = [Failing(f"c{number}", hub, encoder) for number in range(6)]
    for number, member in enumerate(members):
        hub.add(NEWS, member, encoder, member.write if number % 2 else member.blocks.append)
    hub.deliver(NEWS, [publication("a", exclude=exclude)])
    told = [member.client != exclude and number % 2 for number, member in enumerate(members)]
    assert [member.failed for member in members] == told
    assert [bool(member.blocks) for member in members] == [number % 2 == 0 for number in range(6)]


def test_an_event_that_is_too_large_to_wait_is_dropped_and_no_fault(
    hub: Hub[Reader], scheduler: ManualScheduler, metrics: Metrics
) -> None:
    readers(hub, plain_encoder(), TURN_WRITES + 1)
    assert hub.deliver(NEWS, [publication("x" * (WAITING_LIMIT + 1))]) == 1
    scheduler.run()
    assert b'gateway_faults_total{part="fan-out"}' not in metrics.render()
    assert not hub.is_busy(NEWS)
