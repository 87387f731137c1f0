"""Whatever happens to bus, stream and links, by a seed: nothing is lost silently, nothing comes twice."""

import random
from collections.abc import Callable

import pytest

from gateway.messages import Position
from gateway.node.stream import Stream
from tests.node.world import ROOM, Reader, World


class Chaos:
    """Random publishes, losses of the bus, new epochs, held reads, outages; readers come, come back, and leave."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World()
        self.readers: list[Reader] = []
        # Where somebody once stood, and the number of the publication there.
        self.positions: list[tuple[Position, int]] = []
        # From which publication on a reader has asked for everything.
        self.since: dict[Reader, int] = {}
        self.actions: list[Callable[[], object]] = [
            *[self.publish] * 4,
            *[self.deliver] * 4,
            *[self.come] * 2,
            self.come_back,
            self.go,
            self.lose,
            self.hold,
            self.outage,
            self.reset,
            self.gap,
            self.remember,
            self.wait,
        ]

    def publish(self) -> None:
        self.world.publish(self.rng.randint(1, 3))

    def deliver(self) -> None:
        self.world.deliver(self.rng.randint(0, 3))

    def come(self) -> None:
        self.readers.append(self.world.reader().come())

    def come_back(self) -> None:
        if self.positions:
            since, number = self.rng.choice(self.positions)
            reader = self.world.reader()
            self.since[reader] = number
            self.readers.append(reader.come(since))

    def go(self) -> None:
        if self.readers:
            self.readers.pop(self.rng.randrange(len(self.readers))).leave()

    def lose(self) -> None:
        if self.world.bus:
            del self.world.bus[self.rng.randrange(len(self.world.bus))]

    def hold(self) -> None:
        broker = self.world.broker
        broker.hold = not broker.hold
        if not broker.hold:
            broker.release()

    def outage(self) -> None:
        """Of reads; subscribing goes on, or the readers could not come."""
        self.world.reads_fail = not self.world.reads_fail

    def reset(self) -> None:
        """The server lost everything, also what was on its way."""
        if self.rng.random() < 0.2:
            self.world.reset()
            self.world.bus.clear()

    def gap(self) -> None:
        self.world.node.on_gap([ROOM])

    def remember(self) -> None:
        stream = self.world.messaging.tracker.find(ROOM)
        if isinstance(stream, Stream) and stream.live and stream.position is not None:
            self.positions.append((stream.position, self.world.number_at(stream.position)))

    def wait(self) -> None:
        self.world.scheduler.advance(self.rng.random())

    def calm(self) -> None:
        """Everything works again, and the node has had the time to look."""
        self.world.reads_fail = False
        self.world.broker.hold = False
        self.world.broker.release()
        self.world.bus.clear()
        self.world.node.on_gap([ROOM])
        for _ in range(20):
            self.world.scheduler.advance(1)

    def check(self) -> None:
        for reader in self.readers:
            if not reader.got:
                continue
            first = reader.got[0]
            # Across a reset numbers go on, but nobody is taken across without being told.
            assert reader.got == list(range(first, first + len(reader.got))), reader.got
            if reader in self.since and reader.joined is not None and reader.joined.recovered:
                assert first == self.since[reader] + 1


@pytest.mark.parametrize("seed", range(150))
def test_nothing_is_lost_silently(seed: int) -> None:
    """A reader has every publication from where it began, once; in the end those who were told nothing have all."""
    chaos = Chaos(seed)
    for _ in range(150):
        chaos.rng.choice(chaos.actions)()
        chaos.check()
    chaos.calm()
    chaos.check()
    chaos.world.publish(2)
    chaos.world.deliver()
    for reader in chaos.readers:
        if not reader.gaps and reader.failed is None:
            assert reader.got[-2:] == [chaos.world.count - 1, chaos.world.count]
    chaos.check()
