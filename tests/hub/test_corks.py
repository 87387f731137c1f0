"""What connections are told in one turn of the loop goes out as one write, in order with what is delivered."""

from gateway.hub.corks import Corks
from gateway.hub.encoder import Encoder
from gateway.hub.hub import TURN_WRITES, Hub
from gateway.metrics import Metrics
from gateway.protocols.plain import PlainProtocol
from tests.fakes import ManualScheduler, PlainFraming
from tests.hub.test_hub import NEWS, Reader, lines, publication, readers


class Corked:
    """A connection that has something to say."""

    def __init__(self, corks: Corks, said: list[bytes], text: bytes) -> None:
        self._said = said
        self._text = text
        corks.add(self)

    def uncork(self) -> None:
        self._said.append(self._text)


def test_the_end_of_the_turn_pulls_all_of_them_in_order() -> None:
    scheduler, said = ManualScheduler(), list[bytes]()
    corks = Corks(scheduler)
    for text in (b"a", b"b", b"c"):
        Corked(corks, said, text)
    assert said == []
    assert scheduler.turn() == 1
    assert said == [b"a", b"b", b"c"]
    Corked(corks, said, b"d")
    scheduler.turn()
    assert said[3:] == [b"d"]


def test_a_delivery_stands_behind_what_was_said_before() -> None:
    """To whomever it was said; what is said later stands behind the delivery."""
    scheduler = ManualScheduler()
    hub: Hub[Reader] = Hub(scheduler, Metrics())
    (reader,) = readers(hub, Encoder(PlainProtocol(), PlainFraming(lines)), 1)
    Corked(hub.corks, reader.blocks, b"before\n")
    hub.deliver(NEWS, [publication("event")])
    Corked(hub.corks, reader.blocks, b"after\n")
    scheduler.run()
    assert reader.got() == [b"before", b"event", b"after"]


def test_a_delivery_in_slices_pulls_before_each_of_them() -> None:
    scheduler = ManualScheduler()
    hub: Hub[Reader] = Hub(scheduler, Metrics())
    members = readers(hub, Encoder(PlainProtocol(), PlainFraming(lines)), TURN_WRITES + 1)
    hub.deliver(NEWS, [publication("event")])
    scheduler.turn()
    last = members[-1]
    assert last.blocks == []
    Corked(hub.corks, last.blocks, b"before\n")
    scheduler.run()
    assert last.got() == [b"before", b"event"]


def test_a_delivery_that_a_cork_leads_to_stands_behind_the_others() -> None:
    """Of a connection that could not be written to, and leaves its channels by that."""
    scheduler = ManualScheduler()
    hub: Hub[Reader] = Hub(scheduler, Metrics())
    (reader,) = readers(hub, Encoder(PlainProtocol(), PlainFraming(lines)), 1)

    class Leaving:
        def uncork(self) -> None:
            hub.deliver(NEWS, [publication("left")])

    hub.corks.add(Leaving())
    Corked(hub.corks, reader.blocks, b"reply\n")
    scheduler.run()
    assert reader.got() == [b"reply", b"left"]
