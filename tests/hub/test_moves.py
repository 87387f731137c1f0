"""A subscriber that changes encoder and write in the middle of everything: nothing lost, doubled or out of order."""

from random import Random

import pytest

from gateway.hub.encoder import DeltaEncoder, Encoder
from gateway.hub.hub import TURN_WRITES, Hub
from gateway.messages import Publication
from gateway.metrics import Metrics
from gateway.protocols.centrifuge import CentrifugeProtocol
from gateway.protocols.plain import PlainProtocol
from tests.fakes import ManualScheduler, PlainFraming
from tests.hub.test_hub import NEWS, Reader, lines, publication, readers


@pytest.mark.parametrize("seed", range(20))
def test_every_publication_arrives_once_and_in_order(seed: int) -> None:
    """While fan-outs are in slices and wait, some leave one connection out, and members come and go."""
    random = Random(seed)
    scheduler, metrics = ManualScheduler(), Metrics()
    hub: Hub[Reader] = Hub(scheduler, metrics)
    encoders = [Encoder(PlainProtocol(), PlainFraming(lines)) for _ in range(3)]
    crowd = readers(hub, encoders[0], TURN_WRITES * 2)
    movers = [Reader(f"mover{number}") for number in range(10)]
    standing = dict.fromkeys(movers, encoders[0])
    for mover in movers:
        hub.add(NEWS, mover, encoders[0], mover.blocks.append)
    expected: dict[Reader, list[bytes]] = {mover: [] for mover in movers}
    for number in range(60):
        excluded = random.choice([*movers, None, None])
        hub.deliver(NEWS, [publication(str(number), exclude=excluded.client if excluded is not None else "")])
        for mover in movers:
            if mover is not excluded:
                expected[mover].append(str(number).encode())
        for mover in random.sample(movers, random.randrange(4)):
            encoder = random.choice(encoders)
            hub.move(NEWS, mover, standing[mover], encoder, mover.blocks.append)
            standing[mover] = encoder
        if crowd and random.random() < 0.3:
            hub.remove(NEWS, crowd.pop(), encoders[0])
        if random.random() < 0.5:
            scheduler.turn()
    scheduler.run()
    assert {mover.client: mover.got() for mover in movers} == {mover.client: found for mover, found in expected.items()}
    assert hub.num_subscriptions == len(crowd) + len(movers)


def test_what_comes_before_a_move_is_written_in_the_new_form() -> None:
    """The transport that it leaves gets nothing more."""
    scheduler = ManualScheduler()
    hub: Hub[Reader] = Hub(scheduler, Metrics())
    old = Encoder(PlainProtocol(), PlainFraming(lines))
    new = Encoder(PlainProtocol(), PlainFraming(lambda messages: b"<" + lines(messages) + b">"))
    readers(hub, old, TURN_WRITES)
    mover, later = Reader("mover"), list[bytes]()
    hub.add(NEWS, mover, old, mover.blocks.append)
    hub.deliver(NEWS, [publication("a")])
    hub.move(NEWS, mover, old, new, later.append)
    hub.deliver(NEWS, [publication("b")])
    scheduler.run()
    assert mover.blocks == []
    assert b"".join(later) == b"<a\n><b\n>"


def test_deliveries_of_a_move_are_counted() -> None:
    scheduler, metrics = ManualScheduler(), Metrics()
    hub: Hub[Reader] = Hub(scheduler, metrics)
    encoder = Encoder(PlainProtocol(), PlainFraming(lines))
    readers(hub, encoder, TURN_WRITES)
    mover = Reader("mover")
    hub.add(NEWS, mover, encoder, mover.blocks.append)
    hub.deliver(NEWS, [publication("a")])
    hub.move(NEWS, mover, encoder, Encoder(PlainProtocol(), PlainFraming(lines)), mover.blocks.append)
    scheduler.run()
    assert f"gateway_deliveries_total {TURN_WRITES + 1}.0".encode() in metrics.render()


def test_differences_begin_anew() -> None:
    """The client has no base in the new group: the next publication is whole."""
    scheduler = ManualScheduler()
    hub: Hub[Reader] = Hub(scheduler, Metrics())
    old, new = (DeltaEncoder(CentrifugeProtocol(), PlainFraming(lines)) for _ in range(2))
    mover = Reader("mover")
    hub.add(NEWS, mover, old, mover.blocks.append)
    text = b'"%b"' % (b"text " * 50)
    for number in range(3):
        hub.deliver(NEWS, [Publication(NEWS, text + b" " * number, time=1)])
    assert b'"delta":true' in mover.blocks[-1]
    hub.move(NEWS, mover, old, new, mover.blocks.append)
    hub.deliver(NEWS, [Publication(NEWS, text, time=1)])
    assert b'"delta":true' not in mover.blocks[-1]
